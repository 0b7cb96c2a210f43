"""Later families on real torch: tiny models of each, against diffusers' own pipelines with the same noise."""

import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from server.core.errors import ServerError, Unsupported
from server.core.image import (
    CheckpointRef,
    Denoise,
    HiresPass,
    HypernetworkRef,
    ImageFinished,
    ImageReady,
    ImageRequest,
    ImageStarted,
    InitImages,
    Inpaint,
    LoraRef,
    Preview,
    Refiner,
    Seeds,
    Size,
    StepDone,
    TextEncoding,
)
from server.core.jobs import CancelMode, JobId
from server.core.prompt import PromptPart, PromptTree, ScheduledText, Span, plain
from server.engines.image.pictures import png
from server.engines.image.pipelines.engine import PipelineEngine
from server.engines.image.pipelines.latents import Grid
from server.engines.image.seeds import NoiseSource
from tests.support.golden_images import difference, events, pictures, pixels, run
from tests.support.tiny_pipeline_engines import (
    SIZE,
    STEPS,
    asked,
    begun,
    changed,
    engine_of,
    every,
    few,
    flux,
    wide,
)
from tests.support.tiny_pipelines import FAMILIES

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # diffusers' own, of names it will rename
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

GUIDED = {
    "sd3": {"guidance_scale": 4.0, "negative_prompt": "dog"},
    "flux": {"guidance_scale": 4.0},
    "chroma": {"guidance_scale": 4.0, "negative_prompt": "dog"},
    "z-image": {"guidance_scale": 3.0, "negative_prompt": "dog"},  # counted from 0
    "qwen-image": {"true_cfg_scale": 4.0, "negative_prompt": "dog"},
    "flux2": {"guidance_scale": 4.0},
    "lumina2": {"guidance_scale": 4.0, "negative_prompt": "dog"},
    "pix-art-sigma": {"guidance_scale": 4.0, "negative_prompt": "dog", "use_resolution_binning": False},
    "auraflow": {"guidance_scale": 4.0, "negative_prompt": "dog"},
    "sana": {
        "guidance_scale": 4.0,
        "negative_prompt": "dog",
        "use_resolution_binning": False,
        "complex_human_instruction": None,
    },
}
"""How diffusers' own pipelines are told a guidance of 4 with the negative prompt "dog"."""


def grid_of(engine: PipelineEngine) -> Grid:
    assert engine._loaded is not None
    assert engine._loaded.grid is not None
    return engine._loaded.grid


def noise_of(engine: PipelineEngine, request: ImageRequest) -> torch.Tensor:
    grid = grid_of(engine)
    return grid.given(NoiseSource(request.seeds, range(request.batch_size), grid.shape(request.size)).first())


def theirs(family: str, index: Path, **inputs: Any) -> list[np.ndarray]:
    """Return the pictures of diffusers' own pipeline, read by diffusers itself, cut off to 8 bits as A1111 does."""
    kind = getattr(diffusers, FAMILIES[family][0])
    pipeline = kind.from_pretrained(index.parent, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    base = {"prompt": "a cat", "height": SIZE.height, "width": SIZE.width, "num_inference_steps": STEPS}
    made = pipeline(**base | GUIDED[family] | inputs, output_type="np").images
    return [(picture * 255).astype(np.uint8) for picture in made]


def gradient(width: int = SIZE.width, height: int = SIZE.height) -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8))


class TestPictures:
    @wide
    def test_a_batch_is_that_of_diffusers(
        self, engine: PipelineEngine, family: str, models: Callable[[str], Path]
    ) -> None:
        request = asked(batch_size=2)
        ours = pictures(engine, request)
        reference = theirs(family, models(family), latents=noise_of(engine, request), num_images_per_prompt=2)
        assert all(difference(one, other).largest <= 1 for one, other in zip(ours, reference, strict=True))
        assert ours[0].std() > 8
        assert difference(*ours).largest > 8

    @every
    def test_a_picture_of_a_batch_is_the_picture_made_alone(self, engine: PipelineEngine) -> None:
        together = pictures(engine, asked(batch_size=2, batches=2))
        for index, picture in enumerate(together):
            (alone,) = pictures(engine, asked(seeds=Seeds(first=7 + index, source="cpu")))
            assert difference(picture, alone).largest <= 1

    @every
    def test_prompt_seed_and_guidance_matter(self, engine: PipelineEngine) -> None:
        (base,) = pictures(engine, asked())
        assert difference(base, pictures(engine, asked())[0]).largest == 0
        for other in (
            asked("a completely other thing"),
            asked(seeds=Seeds(first=8, source="cpu")),
            asked(seeds=Seeds(first=7, source="philox")),
            asked(seeds=Seeds(first=7, source="cpu", variation=3, variation_strength=0.5)),
            asked(denoise=Denoise(steps=STEPS, cfg_scale=9.0)),
            asked(denoise=Denoise(steps=STEPS + 1, cfg_scale=4.0)),
        ):
            assert difference(base, pictures(engine, other)[0]).largest > 0

    @every
    def test_the_negative_prompt_matters_unless_it_is_named(self, engine: PipelineEngine, family: str) -> None:
        base, other = (run(engine, asked(negative=plain(text))) for text in ("dog", "a house on the hill"))
        made = [pixels(event.png) for each in (base, other) for event in each if isinstance(event, ImageReady)]
        is_named = "negative_prompt" in finished(base).ignored
        assert is_named == (family == "flux")
        assert (difference(*made).largest == 0) == is_named

    @flux
    def test_a_distilled_model_is_guided_by_its_number_and_the_negative_prompt_too(
        self, engine: PipelineEngine, family: str, models: Callable[[str], Path]
    ) -> None:
        request = asked(denoise=Denoise(steps=STEPS, cfg_scale=2.0, distilled_scale=3.5))
        (ours,) = pictures(engine, request)
        inputs = {"true_cfg_scale": 2.0, "guidance_scale": 3.5, "negative_prompt": "dog"}
        (reference,) = theirs(family, models(family), latents=noise_of(engine, request), **inputs)
        assert difference(ours, reference).largest <= 1
        assert "negative_prompt" not in finished(run(engine, request)).ignored

    @few
    def test_sides_are_cut_to_what_the_model_can_make(self, engine: PipelineEngine) -> None:
        (odd,) = pictures(engine, asked(size=Size(79, 97)))
        assert odd.shape == (96, 64, 3)
        assert difference(odd, pictures(engine, asked())[0]).largest == 0

    @pytest.mark.parametrize("family", ["sd3", "z-image", "qwen-image", "flux"], indirect=True)
    def test_half_precision_makes_about_the_same_picture(
        self, family: str, engine: PipelineEngine, models: Callable[[str], Path]
    ) -> None:
        small = engine_of(models(family), dtype="bfloat16")
        assert small.facts.dtype == "bfloat16"
        gap = difference(pictures(small, asked())[0], pictures(engine, asked())[0])
        small.close()
        assert 0 < gap.mean < 12


def finished(found: list[Any]) -> ImageFinished:
    return next(event for event in found if isinstance(event, ImageFinished))


class TestFromPictures:
    @begun
    def test_a_whole_strength_keeps_nothing_but_what_noise_leaves(self, engine: PipelineEngine) -> None:
        init = InitImages(images=(png(gradient()),), strength=1.0)
        other = msgspec.structs.replace(init, images=(png(Image.new("RGB", (64, 96), "red")),))
        made = [pictures(engine, asked(init=each))[0] for each in (init, other)]
        assert difference(made[0], pictures(engine, asked())[0]).largest <= 1
        assert difference(*made).largest <= 1

    @pytest.mark.parametrize("family", ["sd3", "flux", "z-image", "qwen-image"], indirect=True)
    def test_a_picture_is_changed_as_diffusers_changes_it(
        self, engine: PipelineEngine, family: str, models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With strength 0.5 and 4 steps A1111 makes 3, for which diffusers wants a strength of 0.75."""
        kind = getattr(diffusers, FAMILIES[family][0].replace("Pipeline", "Img2ImgPipeline"))
        request = asked(init=InitImages(images=(png(gradient()),), strength=0.5))
        (ours,) = pictures(engine, request)
        monkeypatch.setitem(FAMILIES, family, (kind.__name__, FAMILIES[family][1]))
        same_draws(monkeypatch, kind, request)
        (reference,) = theirs(family, models(family), image=gradient(), strength=0.75, generator=draws())
        assert difference(ours, reference).largest <= 1

    @pytest.mark.parametrize("family", ["sd3", "flux", "z-image", "qwen-image"])
    def test_a_hole_is_filled_as_diffusers_fills_it(
        self, family: str, models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The VAE shifts nothing, for diffusers' inpainting of Stable Diffusion 3 forgets the shift."""
        index = Path(shutil.copytree(models(family).parent, tmp_path / "x")) / "model_index.json"
        changed(index.parent / "vae" / "config.json", shift_factor=0.0)
        engine = engine_of(index)
        kind = getattr(diffusers, FAMILIES[family][0].replace("Pipeline", "InpaintPipeline"))
        mask = Image.new("L", (64, 96), 0)
        mask.paste(255, (16, 32, 48, 80))
        inpaint = Inpaint(mask=png(mask), blur_x=0.0, blur_y=0.0, overlay=False)
        request = asked(init=InitImages(images=(png(gradient()),), strength=0.5, inpaint=inpaint))
        (ours,) = pictures(engine, request)
        monkeypatch.setitem(FAMILIES, family, (kind.__name__, FAMILIES[family][1]))
        same_draws(monkeypatch, kind, request)
        inputs = {"image": gradient(), "mask_image": mask, "strength": 0.75, "generator": draws()}
        (reference,) = theirs(family, index, **inputs)
        engine.close()
        assert difference(ours, reference).largest <= 1

    @begun
    def test_the_old_pixels_stay_around_a_mask(self, engine: PipelineEngine) -> None:
        mask = Image.new("L", (64, 96), 0)
        mask.paste(255, (0, 0, 64, 48))
        inpaint = Inpaint(mask=png(mask), blur_x=0.0, blur_y=0.0)
        (made,) = pictures(engine, asked(init=InitImages(images=(png(gradient()),), strength=0.9, inpaint=inpaint)))
        old = np.asarray(gradient())
        assert np.array_equal(made[48:], old[48:])
        assert not np.array_equal(made[:48], old[:48])

    @few
    @pytest.mark.parametrize("upscaler", ["latent", "lanczos"])
    def test_a_second_pass_makes_the_picture_larger(self, engine: PipelineEngine, upscaler: str) -> None:
        hires = HiresPass(
            size=Size(96, 128),
            scale_to=Size(96, 128),
            upscaler=upscaler,
            strength=0.6,
            denoise=Denoise(steps=2, cfg_scale=4.0),
            prompt=plain("a cat"),
            negative=plain("dog"),
        )
        found = run(engine, asked(batch_size=2, hires=hires))
        made = [pixels(event.png) for event in found if isinstance(event, ImageReady)]
        assert [picture.shape for picture in made] == [(128, 96, 3)] * 2
        assert [(each.pass_index, each.step) for each in found if isinstance(each, StepDone)] == [
            *((0, step + 1) for step in range(STEPS)),
            *((1, step + 1) for step in range(2)),
        ]
        shown = pictures(engine, asked())[0]
        assert made[0].std() > shown.std() / 4


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def same_draws(monkeypatch: pytest.MonkeyPatch, kind: Any, request: ImageRequest) -> None:
    """Have diffusers draw noise as the house does: from a seed of its own, and not after the VAE's sample."""

    def drawn(shape: Any, generator: Any = None, device: Any = None, dtype: Any = None) -> torch.Tensor:
        cells = [side for side in shape if side != 1]
        found = NoiseSource(request.seeds, range(1), tuple(cells)).first()  # type: ignore[arg-type]
        return found.reshape(shape).to(dtype)

    monkeypatch.setattr(sys.modules[kind.__module__], "randn_tensor", drawn)


class TestEvents:
    @few
    def test_steps_and_previews_come_in_their_order(self, engine: PipelineEngine) -> None:
        found = run(engine, asked(batches=2, preview_every=2))
        assert found[0] == ImageStarted(passes=2, steps=STEPS)
        assert [(each.pass_index, each.step) for each in found if isinstance(each, StepDone)] == [
            (number, step + 1) for number in range(2) for step in range(STEPS)
        ]
        shown = [event for event in found if isinstance(event, Preview)]
        assert [event.pass_index for event in shown] == [0, 1]
        assert pixels(shown[0].png).std() > 2
        assert [event.index for event in found if isinstance(event, ImageReady)] == [0, 1]
        assert finished(found).reason == "complete"

    @few
    def test_a_preview_of_the_last_but_one_step_is_near_the_picture(self, engine: PipelineEngine) -> None:
        found = run(engine, asked(size=Size(128, 128), denoise=Denoise(steps=20, cfg_scale=1.0), preview_every=19))
        (shown,) = [pixels(event.png) for event in found if isinstance(event, Preview)]
        (made,) = [pixels(event.png) for event in found if isinstance(event, ImageReady)]
        assert shown.shape == made.shape
        assert difference(shown, made).mean < made.std()

    @wide
    @pytest.mark.parametrize("mode", [CancelMode.STOP, CancelMode.SKIP])
    def test_a_job_ends_early_with_what_the_model_saw(self, engine: PipelineEngine, mode: CancelMode) -> None:
        made, done = [], None
        for event in events(engine, asked(batches=2), "early"):
            if isinstance(event, StepDone) and (event.pass_index, event.step) == (0, 2):
                engine.cancel(JobId("early"), mode)
            if isinstance(event, ImageReady):
                made.append(event)
            done = event
        assert isinstance(done, ImageFinished)
        if mode is CancelMode.STOP:
            assert ([event.index for event in made], done.reason) == ([0], "stopped")
        else:
            assert ([event.index for event in made], done.reason) == ([0, 1], "complete")
            assert (
                difference(pixels(made[1].png), pictures(engine, asked(seeds=Seeds(first=8, source="cpu")))[0]).largest
                <= 1
            )
        whole = pictures(engine, asked())[0]
        assert difference(pixels(made[0].png), whole).mean > 0

    @flux
    def test_an_abandoned_job_leaves_nothing_behind(self, engine: PipelineEngine) -> None:
        running = events(engine, asked(), "left")
        next(running), next(running)
        assert any(thread.name == "pipeline" for thread in threading.enumerate())
        running.close()
        assert not any(thread.name == "pipeline" for thread in threading.enumerate())
        assert len(pictures(engine, asked())) == 1

    @flux
    def test_what_has_no_meaning_is_named(self, engine: PipelineEngine) -> None:
        weighted = PromptTree((PromptPart((ScheduledText(9, (Span("a "), Span("cat", 1.3))),)),))
        request = asked(
            prompt=weighted,
            negative=plain(""),
            denoise=Denoise(steps=2, sampler="dpmpp_2m", schedule="karras"),
            hypernetworks=(HypernetworkRef(name="x", path="x"),),
            text=TextEncoding(clip_skip=2),
        )
        ignored = finished(run(engine, request)).ignored
        assert set(ignored) == {"sampler", "schedule", "hypernetworks", "clip_skip", "emphasis"}
        assert finished(run(engine, asked(negative=plain("")))).ignored == ()

    @flux
    @pytest.mark.parametrize(
        "fields",
        [
            {"tiling": True},
            {"refiner": Refiner(checkpoint=CheckpointRef(name="x", path="x"))},
            {"size": Size(8, 64)},
            {"size": Size(64, 20_000)},
            {"denoise": Denoise(steps=0)},
            {"denoise": Denoise(cfg_scale=float("nan"))},
            {"batch_size": 0},
            {"init": InitImages(images=(), strength=0.5)},
        ],
    )
    def test_what_cannot_be_is_refused_before_it_starts(self, engine: PipelineEngine, fields: dict[str, Any]) -> None:
        with pytest.raises(ServerError) as raised:
            engine.submit(JobId("no"), asked(**fields))
        assert raised.value.fact("param")
        assert engine.is_idle()


class TestLora:
    @every
    def test_a_lora_acts_and_leaves_without_a_trace(self, engine: PipelineEngine, family: str, tmp_path: Path) -> None:
        name, weight = first_linear(engine)
        torch.manual_seed(3)
        file = tmp_path / "x.safetensors"
        save_file(
            {
                f"transformer.{name}.lora_A.weight": torch.randn(2, weight.shape[1]),
                f"transformer.{name}.lora_B.weight": torch.randn(weight.shape[0], 2),
            },
            file,
        )
        before = weight.clone()
        (base,) = pictures(engine, asked())
        found = run(engine, asked(adapters=(LoraRef(name="x", path=str(file), unet_weight=0.7),)))
        assert finished(found).notes == ()
        (made,) = [pixels(event.png) for event in found if isinstance(event, ImageReady)]
        assert difference(base, made).largest > 0
        loaded = load_file(file)
        up, down = (loaded[f"transformer.{name}.lora_{side}.weight"] for side in "BA")
        assert torch.allclose(first_linear(engine)[1], before + 0.7 * up @ down, atol=1e-5)
        assert difference(base, pictures(engine, asked())[0]).largest == 0
        assert torch.equal(first_linear(engine)[1], before)

    @flux
    def test_a_lora_of_another_kind_is_left_out_with_a_note(self, engine: PipelineEngine, tmp_path: Path) -> None:
        file = tmp_path / "sd1.safetensors"
        layer = "lora_unet_down_blocks_0_attentions_0_proj_in"
        save_file({f"{layer}.lora_up.weight": torch.zeros(4, 2), f"{layer}.lora_down.weight": torch.zeros(2, 4)}, file)
        found = run(engine, asked(adapters=(LoraRef(name="sd1", path=str(file)),)))
        (note,) = finished(found).notes
        assert "'sd1' was left out" in note


def first_linear(engine: PipelineEngine) -> tuple[str, torch.Tensor]:
    assert engine._loaded is not None
    modules = engine._loaded.pipeline.transformer.named_modules()
    name, layer = next((name, m) for name, m in modules if isinstance(m, torch.nn.Linear) and "to_q" in name)
    return name, layer.weight.data


def test_pictures_to_begin_with_need_latents_that_are_known(
    engines: Callable[[str], PipelineEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline that nobody told us of draws its own noise: pictures from prompts alone, by the same seeds."""
    engine = engines("sd3")
    assert engine._loaded is not None
    known = pictures(engine, asked(batch_size=2))
    monkeypatch.setattr(engine, "_loaded", replace(engine._loaded, grid=None))
    own = pictures(engine, asked(batch_size=2))
    assert all(difference(one, other).largest <= 1 for one, other in zip(known, own, strict=True))
    with pytest.raises(Unsupported, match="from prompts alone"):
        engine.submit(JobId("x"), asked(init=InitImages(images=(png(gradient()),), strength=0.5)))
