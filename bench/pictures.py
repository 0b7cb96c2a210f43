"""Pictures on the CPU beside diffusers' `StableDiffusionPipeline` as it comes (float32, eager), in one process.

One checkpoint of Stable Diffusion 1.5's size, the same size, steps and guidance. Sides take turns, and who begins
changes from round to round. A step is the time between two of a side's own reports, so samplers, guidance and all else
count; decoding is everything from the last step to the finished picture. Steps are told in seconds of CPU time, too: on
a machine that others use, with one thread, that is the figure to trust.
"""

import io
import itertools
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.checkpoint import write_checkpoint
from bench.compare import Compared
from bench.stable_diffusion_cpp import StableDiffusionCpp
from server.core.image import Denoise, ImageReady, ImageRequest, Seeds, Size, StepDone
from server.core.jobs import JobEvent, JobFailed, JobId
from server.core.models import ImageSettings, ModelCard, ModelId, ModelKind, Runtime
from server.core.processor import multiplies_bfloat16, read_cpuinfo
from server.core.prompt import plain
from server.engines.image import checkpoint
from server.engines.image.diffusion import DiffusionLoader
from server.engines.image.placement import Precision

STEPS = 3
GUIDANCE = 7.0
TOKENS = 77

Figures = dict[str, float]
Mark = tuple[float, float]
"""Seconds on the clock, and of this process's CPU time."""


@dataclass
class Ours:
    """The engine, without a process of its own."""

    file: Path
    dtype: str
    side: int
    picture: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        card = ModelCard(
            id=ModelId("bench"),
            name=self.file.name,
            kind=ModelKind.CHECKPOINT,
            files=(str(self.file),),
            runtime=Runtime.DIFFUSION,
        )
        began = time.perf_counter()
        self._engine = DiffusionLoader().load(card, ImageSettings(device="cpu", dtype=self.dtype), lambda _: None)
        self.load_s = time.perf_counter() - began

    def __call__(self) -> Figures:
        request = ImageRequest(
            model="bench",
            prompt=plain("a cat"),
            negative=plain(""),
            size=Size(self.side, self.side),
            seeds=Seeds(first=1),
            denoise=Denoise(sampler="euler", steps=STEPS, cfg_scale=GUIDANCE),
        )
        self._engine.submit(JobId("bench"), request)
        marks: list[Mark] = []
        while not self._engine.is_idle():
            for outcome in self._engine.step():
                match outcome:
                    case JobFailed(error=error):
                        raise RuntimeError(str(error))
                    case JobEvent(event=StepDone()):
                        marks.append(_mark())
                    case JobEvent(event=ImageReady(png=png)):
                        ready = _mark()
                        self.picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        return _figures(marks, ready)


class Diffusers:
    """The pipeline as it comes: float32, eager, its own attention."""

    def __init__(self, file: Path, side: int) -> None:
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
        from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

        full = Precision(model=torch.float32, vae=torch.float32)
        loaded = checkpoint.load(file, precision=full, vae_path=None, allow_pickle=False, report=lambda _: None)
        self.unet = loaded.unet
        self._side = side
        self._pipeline: Any = StableDiffusionPipeline(
            vae=loaded.vae,
            text_encoder=loaded.text_encoder,
            tokenizer=None,
            unet=loaded.unet,
            scheduler=EulerDiscreteScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self._pipeline.set_progress_bar_config(disable=True)
        source = torch.Generator().manual_seed(2)
        self._texts = torch.randn(2, TOKENS, 768, generator=source)

    def __call__(self) -> Figures:
        marks: list[Mark] = []

        def mark(pipeline: object, step: int, when: object, kept: dict[str, Any]) -> dict[str, Any]:
            marks.append(_mark())
            return kept

        self._pipeline(
            prompt_embeds=self._texts[:1],
            negative_prompt_embeds=self._texts[1:],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            height=self._side,
            width=self._side,
            generator=torch.Generator().manual_seed(1),
            callback_on_step_end=mark,
        )
        return _figures(marks, _mark())

    def bare(self) -> Figures:
        """Call the UNet alone, as often as the others take steps that are counted."""
        latents = torch.randn(2, 4, self._side // 8, self._side // 8, generator=torch.Generator().manual_seed(1))
        marks = [_mark()]
        with torch.no_grad():
            for _ in range(STEPS - 1):
                self.unet(latents, torch.tensor([500.0, 500.0]), encoder_hidden_states=self._texts)
                marks.append(_mark())
        return _figures(marks, marks[-1])


def pictures(place: Path, rounds: int, side: int, threads: int, file: Path | None = None, *, cpp: bool = False) -> None:
    """Print steps and decoding of ours beside diffusers', and how far reduced precision is from full.

    With `cpp`, also beside stable-diffusion.cpp on the same file and as many threads.

    `threads` 0 = torch's choice. Without a file a checkpoint with random weights is made in `place`.
    """
    if threads:
        torch.set_num_threads(threads)
    if file is None:
        file = place / "bench.safetensors"
        place.mkdir(parents=True, exist_ok=True)
        write_checkpoint(file)
    theirs = Diffusers(file, side)
    ours = {"float32": Ours(file, "float32", side)}
    if multiplies_bfloat16(read_cpuinfo()):
        ours["bfloat16"] = Ours(file, "bfloat16", side)
    else:
        print("this CPU does not multiply bfloat16 (no AVX512-BF16, no AMX): the default is float32, bfloat16 left out")
    sides: dict[str, Callable[[], Figures]] = {"diffusers": theirs, "bare": theirs.bare, **ours}
    if cpp:
        threads = torch.get_num_threads()
        place.mkdir(parents=True, exist_ok=True)
        sides["cpp"] = StableDiffusionCpp(file, place, side=side, steps=STEPS, guidance=GUIDANCE, threads=threads)
    load = os.getloadavg()[0]
    found = _rounds(rounds, sides)
    print(f"{side} x {side}, {torch.get_num_threads()} threads, load average {load:.1f} -> {os.getloadavg()[0]:.1f}")
    for name in ours:
        _compare(name, found)
    for name, one in ours.items():
        print(f"{name}: loading {one.load_s:.2f} s (file in the page cache)")
    if "bfloat16" in ours:
        gap = np.abs(ours["bfloat16"].picture.astype(int) - ours["float32"].picture.astype(int))
        print(f"bfloat16 from float32: at most {gap.max()} of 255, mean {gap.mean():.2f}")


def _rounds(rounds: int, sides: Mapping[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Run all sides in turn, once unmeasured; each round begins with another one."""
    names = list(sides)
    for side in sides.values():
        side()
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for number in range(rounds):
        begin = number % len(names)
        for name in names[begin:] + names[:begin]:
            found[name].append(sides[name]())
    return found


def _compare(name: str, found: Mapping[str, list[Figures]]) -> None:
    for key, title in (("step_s", ""), ("step_cpu_s", " (CPU)")):
        _print(f"{name}: step by bare UNet{title}", found[name], found["bare"], key)
        _print(f"{name}: step{title}", found[name], found["diffusers"], key)
    for key, title in (("decode_s", ""), ("decode_cpu_s", " (CPU)")):
        _print(f"{name}: VAE and PNG{title}", found[name], found["diffusers"], key)
    if "cpp" in found:
        _print(f"{name}: step by stable-diffusion.cpp", found[name], found["cpp"], "step_s")
        _print(f"{name}: VAE and PNG by stable-diffusion.cpp", found[name], found["cpp"], "decode_s")


def _print(title: str, ours: list[Figures], theirs: list[Figures], key: str) -> None:
    compared = Compared(title, "s", [each[key] for each in ours], [each[key] for each in theirs], "less")
    print(compared.line(), flush=True)


def _mark() -> Mark:
    return time.perf_counter(), time.process_time()


def _figures(marks: list[Mark], ready: Mark) -> Figures:
    gaps = [(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(marks)]
    return {
        "step_s": statistics.median(gap[0] for gap in gaps),
        "step_cpu_s": statistics.median(gap[1] for gap in gaps),
        "decode_s": ready[0] - marks[-1][0],
        "decode_cpu_s": ready[1] - marks[-1][1],
    }
