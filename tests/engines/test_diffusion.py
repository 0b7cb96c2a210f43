"""The image engine on real torch: a checkpoint with random weights, and recorded pictures where they lie beside."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from server.core.errors import Broken, InvalidValue, LoadFailed, Unsupported, from_data
from server.core.image import (
    Denoise,
    EmbeddingRef,
    HiresPass,
    ImageFinished,
    ImageReady,
    ImageRequest,
    ImageStarted,
    LoraRef,
    Preview,
    Seeds,
    Size,
    StepDone,
    TextEncoding,
)
from server.core.jobs import CancelMode, JobDone, JobFailed, JobId, Work
from server.core.memory import RAM
from server.core.models import ImageSettings, TextSettings
from server.core.prompt import PromptPart, PromptTree, ScheduledText, Span, plain
from server.engines.base import Engine
from server.engines.image.diffusion import DiffusionEngine, DiffusionLoader
from tests.support import builders
from tests.support.engine_contract import ONE, EngineContract, events_of, finish, step_until
from tests.support.golden_images import (
    CHECKPOINT,
    card_of,
    cases,
    difference,
    pictures,
    pixels,
    recorded,
    request_of,
    run,
)
from tests.support.shared import needs_shared
from tests.support.tiny_checkpoint import CHANNELS, TEXT, write_tiny_checkpoint

pytestmark = pytest.mark.torch

IN_THIS_ISSUE = ("euler", "euler_a", "dpmpp_2m", "heun")
LOSS = 4
"""Most that bfloat16 may change in these pictures of noise, as a mean; one of a real model it changes by less."""

SETTINGS = ImageSettings(device="cpu", dtype="float32", threads=1, allow_pickle=True)


def loaded(path: Path, settings: ImageSettings = SETTINGS) -> DiffusionEngine:
    return DiffusionLoader().load(card_of(path), settings, lambda fraction: None)


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")


@pytest.fixture(scope="module")
def shared_engine(tiny_path: Path) -> Iterator[DiffusionEngine]:
    """An engine for tests that end all their jobs."""
    engine = loaded(tiny_path)
    yield engine
    engine.close()


def request(text: str = "a cat", /, **fields: Any) -> ImageRequest:
    steps = fields.pop("steps", 3)
    base = ImageRequest(
        model="tiny",
        prompt=plain(text),
        negative=plain(""),
        size=Size(32, 32),
        seeds=Seeds(first=7),
        denoise=Denoise(steps=steps),
    )
    return msgspec.structs.replace(base, **fields)


def hires(**fields: Any) -> HiresPass:
    base = HiresPass(
        size=Size(48, 48),
        scale_to=Size(48, 48),
        upscaler="latent",
        strength=0.6,
        denoise=Denoise(steps=2),
        prompt=plain("a cat"),
        negative=plain(""),
    )
    return msgspec.structs.replace(base, **fields)


class TestContract(EngineContract):
    @pytest.fixture
    def engine(self, tiny_path: Path) -> Iterator[Engine]:
        engine = loaded(tiny_path)
        yield engine
        engine.close()

    @pytest.fixture
    def work(self) -> Work:
        return request(batch_size=2, batches=2)

    @pytest.fixture
    def foreign_work(self) -> Work:
        return builders.chat("hi")


def test_facts(shared_engine: DiffusionEngine) -> None:
    facts = shared_engine.facts
    assert (facts.slots, facts.device, facts.dtype) == (1, "cpu", "float32")
    assert facts.footprint.resident[RAM] > 6_000_000
    assert facts.footprint.working[RAM] > 0


def test_progress_of_both_passes(shared_engine: DiffusionEngine) -> None:
    events = run(shared_engine, request(batches=2, hires=hires()))
    assert events[0] == ImageStarted(passes=4, steps=3)
    told = [(event.pass_index, event.step, event.steps) for event in events if isinstance(event, StepDone)]
    first, second = [(1, 3), (2, 3), (3, 3)], [(1, 2), (2, 2)]
    assert told == [(0, *e) for e in first] + [(1, *e) for e in second] + [(2, *e) for e in first] + [
        (3, *e) for e in second
    ]
    assert [(e.width, e.height) for e in events if isinstance(e, ImageReady)] == [(48, 48)] * 2
    assert events[-1] == ImageFinished(reason="complete")


def test_previews(shared_engine: DiffusionEngine) -> None:
    events = run(shared_engine, request(steps=5, preview_every=2, batch_size=2))
    shown = [event for event in events if isinstance(event, Preview)]
    assert len(shown) == 2
    assert pixels(shown[0].png).shape == (32, 64, 3)
    assert not any(isinstance(event, Preview) for event in run(shared_engine, request(steps=5)))


def test_seeds_are_told(shared_engine: DiffusionEngine) -> None:
    def told(**fields: Any) -> list[tuple[int, int]]:
        events = run(shared_engine, request(batches=2, seeds=Seeds(first=5, variation=9, **fields)))
        return [(event.seed, event.variation) for event in events if isinstance(event, ImageReady)]

    assert told() == [(5, 9), (6, 10)]
    assert told(variation_strength=0.5) == [(5, 9), (5, 10)]


def test_a_picture_of_a_batch_equals_the_picture_alone(shared_engine: DiffusionEngine) -> None:
    denoise = Denoise(sampler="euler_a", steps=4)
    batch = pictures(shared_engine, request(batch_size=3, denoise=denoise))
    alone = pictures(shared_engine, request(seeds=Seeds(first=9), denoise=denoise))
    assert difference(batch[2], alone[0]).largest <= 1
    assert difference(batch[1], alone[0]).largest > 8


@pytest.mark.parametrize("sampler", ["ddim", "dpm_fast", "dpmpp_2m_sde", "unipc", "lcm", "restart", "plms"])
def test_other_samplers_run_too(shared_engine: DiffusionEngine, sampler: str) -> None:
    denoise = Denoise(sampler=sampler, steps=6)
    events = run(shared_engine, request(denoise=denoise, hires=hires(denoise=denoise)))
    assert isinstance(events[-2], ImageReady)


@pytest.mark.parametrize(("width", "height", "made"), [(63, 40, (56, 40)), (24, 72, (24, 72)), (16, 16, (16, 16))])
def test_any_size_is_floored_to_cells(
    shared_engine: DiffusionEngine, width: int, height: int, made: tuple[int, int]
) -> None:
    (picture,) = pictures(shared_engine, request(size=Size(width, height)))
    assert picture.shape == (made[1], made[0], 3)


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": plain("a dog on the moon")},
        {"negative": plain("blurry")},
        {"tiling": True},
        {"text": TextEncoding(clip_skip=2)},
        {"seeds": Seeds(first=7, variation=1, variation_strength=0.5)},
        {"denoise": Denoise(steps=3, cfg_scale=1.0)},
        {"denoise": Denoise(steps=3, schedule="karras")},
        {"denoise": Denoise(steps=3, sampler="heun")},
    ],
)
def test_everything_asked_for_matters(shared_engine: DiffusionEngine, other: dict[str, Any]) -> None:
    (base,), (changed,) = pictures(shared_engine, request()), pictures(shared_engine, request(**other))
    assert difference(base, changed).largest > 0


def test_schedules_of_prompts_switch_by_model_call(shared_engine: DiffusionEngine) -> None:
    def switched(until: int) -> np.ndarray:
        texts = (ScheduledText(until, (Span("a cat"),)), ScheduledText(99, (Span("a dog on the moon"),)))
        return pictures(shared_engine, request(prompt=PromptTree((PromptPart(texts),))))[0]

    cat = pictures(shared_engine, request("a cat"))[0]
    # Emphasis is shared by the two texts, so the same text gives a nearly equal picture.
    assert difference(switched(2), cat).largest <= 2
    assert difference(switched(0), cat).largest > 2


def test_stop_hands_over_what_is_there(shared_engine: DiffusionEngine) -> None:
    shared_engine.submit(ONE, request(steps=50, batches=3, hires=hires()))
    before = step_until(shared_engine, StepDone)
    shared_engine.cancel(ONE, CancelMode.STOP)
    items = before + finish(shared_engine)
    events = events_of(items)
    assert len([event for event in events if isinstance(event, StepDone)]) <= 2
    ready = [event for event in events if isinstance(event, ImageReady)]
    assert [(event.index, event.width) for event in ready] == [(0, 32)]
    assert events[-1] == ImageFinished(reason="stopped")
    assert isinstance(items[-1], JobDone)


def test_stop_before_the_first_step_hands_over_nothing(shared_engine: DiffusionEngine) -> None:
    shared_engine.submit(ONE, request())
    shared_engine.cancel(ONE, CancelMode.STOP)
    assert events_of(finish(shared_engine)) == [ImageStarted(passes=1, steps=3), ImageFinished(reason="stopped")]


def test_skip_ends_one_batch(shared_engine: DiffusionEngine) -> None:
    shared_engine.submit(ONE, request(steps=6, batches=2, hires=hires()))
    before = step_until(shared_engine, StepDone)
    shared_engine.cancel(ONE, CancelMode.SKIP)
    events = events_of(before + finish(shared_engine))
    passes = [event.pass_index for event in events if isinstance(event, StepDone)]
    assert passes.count(0) <= 2
    assert passes.count(1) == 6
    assert passes.count(2) == 2
    assert [(e.index, e.width) for e in events if isinstance(e, ImageReady)] == [(0, 32), (1, 48)]
    assert events[-1] == ImageFinished(reason="complete")


def test_the_interrupted_picture_is_the_models_guess_before_guidance(shared_engine: DiffusionEngine) -> None:
    """After one step that is D of the prompt alone: what guidance scale 1 gives, since D_u + (D - D_u) = D."""

    def stopped(scale: float) -> np.ndarray:
        shared_engine.submit(ONE, request(denoise=Denoise(steps=20, cfg_scale=scale)))
        step_until(shared_engine, StepDone)
        shared_engine.cancel(ONE, CancelMode.STOP)
        (ready,) = [event for event in events_of(finish(shared_engine)) if isinstance(event, ImageReady)]
        return pixels(ready.png)

    # The stop is seen when the engine goes on, so both have made the same single step from the same noise.
    assert difference(stopped(1.0), stopped(9.0)).largest <= 1


def test_abandoned_jobs_leave_nothing_behind(shared_engine: DiffusionEngine) -> None:
    (before,) = pictures(shared_engine, request())
    shared_engine.submit(ONE, request(tiling=True, steps=50))
    step_until(shared_engine, StepDone)
    shared_engine.cancel(ONE, CancelMode.ABANDON)
    assert [type(item) for item in finish(shared_engine)] == [JobDone]
    assert np.array_equal(pictures(shared_engine, request())[0], before)


def lora_file(path: Path) -> LoraRef:
    name = "lora_unet_mid_block_attentions_0_proj_in"
    generator = torch.Generator().manual_seed(3)
    up = torch.randn(CHANNELS, 2, 1, 1, generator=generator)
    down = torch.randn(2, CHANNELS, 1, 1, generator=generator)
    save_file({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, str(path))
    return LoraRef(name=path.stem, path=str(path))


def test_loras_come_and_go(shared_engine: DiffusionEngine, tmp_path: Path) -> None:
    lora = lora_file(tmp_path / "x.safetensors")
    (before,) = pictures(shared_engine, request())
    (changed,) = pictures(shared_engine, request(adapters=(lora,)))
    assert difference(before, changed).largest > 0
    assert np.array_equal(pictures(shared_engine, request())[0], before)


def test_what_was_left_out_is_noted(shared_engine: DiffusionEngine, tmp_path: Path) -> None:
    save_file({"emb_params": torch.ones(1, TEXT + 1)}, str(tmp_path / "zqx.safetensors"))
    work = request(
        "a zqx",
        adapters=(LoraRef(name="gone", path=str(tmp_path / "gone.safetensors")),),
        embeddings=(EmbeddingRef(name="zqx", path=str(tmp_path / "zqx.safetensors")),),
    )
    finished = run(shared_engine, work)[-1]
    assert isinstance(finished, ImageFinished)
    assert ["gone" in finished.notes[0], "zqx" in finished.notes[1]] == [True, True]


def test_embeddings_act(shared_engine: DiffusionEngine, tmp_path: Path) -> None:
    path = tmp_path / "zqx.safetensors"
    save_file({"emb_params": 3 * torch.randn(2, TEXT, generator=torch.Generator().manual_seed(1))}, str(path))
    ref = EmbeddingRef(name="zqx", path=str(path))
    (without,), (with_it,) = (pictures(shared_engine, request("a zqx", embeddings=refs)) for refs in ((), (ref,)))
    assert difference(without, with_it).largest > 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": Size(7, 64)}, "width"),
        ({"size": Size(64, 0)}, "height"),
        ({"size": Size(64, 100_000)}, "height"),
        ({"steps": 0}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"batches": -1}, "batches"),
        ({"denoise": Denoise(sampler="magic")}, "sampler"),
        ({"denoise": Denoise(schedule="magic")}, "schedule"),
        ({"denoise": Denoise(cfg_scale=float("nan"))}, "cfg_scale"),
        ({"denoise": Denoise(eta=float("inf"))}, "eta"),
        ({"seeds": Seeds(first=2**64 - 1), "batches": 2}, "seed"),
        ({"text": TextEncoding(clip_skip=3)}, "clip_skip"),
        ({"text": TextEncoding(clip_skip=0)}, "clip_skip"),
        ({"hires": hires(upscaler="magic")}, "upscaler"),
        ({"hires": hires(strength=1.5)}, "strength"),
        ({"hires": hires(size=Size(4, 4))}, "width"),
        ({"hires": hires(denoise=Denoise(sampler="magic"))}, "sampler"),
    ],
)
def test_wrong_requests_are_refused_before_they_are_queued(
    shared_engine: DiffusionEngine, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        shared_engine.submit(ONE, request(**fields))
    assert caught.value.fact("param") == param
    assert shared_engine.is_idle()


def test_text_is_refused(shared_engine: DiffusionEngine) -> None:
    with pytest.raises(Unsupported):
        shared_engine.submit(ONE, builders.chat("hi"))


def failure(engine: DiffusionEngine, work: ImageRequest) -> Exception:
    engine.submit(ONE, work)
    (failed,) = [item for item in finish(engine) if isinstance(item, JobFailed)]
    return from_data(failed.error)


def test_numbers_that_are_none_are_told(tiny_path: Path) -> None:
    engine = loaded(tiny_path)
    assert engine._parts is not None
    engine._parts.unet_module.get_parameter("conv_in.weight").data.fill_(float("nan"))
    error = failure(engine, request())
    assert isinstance(error, Broken)
    assert "NaN" in str(error)


def test_a_failed_job_does_not_harm_the_next(shared_engine: DiffusionEngine) -> None:
    # One sigma more than the table's own ends can make is only known once the schedule is made.
    error = failure(shared_engine, request(denoise=Denoise(steps=3, sigma_min=9.0, sigma_max=2.0), tiling=True))
    assert isinstance(error, InvalidValue)
    assert len(pictures(shared_engine, request())) == 1


def test_a_closed_engine_runs_nothing(tiny_path: Path) -> None:
    engine = loaded(tiny_path)
    engine.submit(ONE, request())
    engine.close()
    engine.close()
    assert engine.is_idle()
    engine.submit(JobId("late"), request())
    assert isinstance(finish(engine)[-1], JobFailed)


def test_half_precision_makes_nearly_the_same_picture(shared_engine: DiffusionEngine, tiny_path: Path) -> None:
    """Also of a size at which self-attention of UNet and VAE runs in pieces, and with a VAE in float32."""
    asked = request(size=Size(128, 128), steps=2)
    full = pictures(shared_engine, asked)[0]
    engine = loaded(tiny_path, ImageSettings(device="cpu", dtype="bfloat16", threads=1))
    assert engine.facts.dtype == "bfloat16"
    half = difference(pictures(engine, asked)[0], full)
    mixed = loaded(tiny_path, ImageSettings(device="cpu", dtype="bfloat16", vae_dtype="float32", threads=1))
    better = difference(pictures(mixed, asked)[0], full)
    assert 0 < better.mean < half.mean < LOSS


def test_progress_of_loading_ends_at_one(tiny_path: Path) -> None:
    told: list[float] = []
    DiffusionLoader().load(card_of(tiny_path), SETTINGS, told.append).close()
    assert told[-1] == 1.0
    assert told == sorted(told)


def test_what_cannot_be_loaded(tiny_path: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="text"):
        DiffusionLoader().load(card_of(tiny_path), TextSettings(), lambda fraction: None)
    with pytest.raises(LoadFailed, match="cuda:99"):
        loaded(tiny_path, ImageSettings(device="cuda:99"))
    with pytest.raises(LoadFailed, match="read"):
        loaded(tmp_path / "none.safetensors")


@pytest.fixture(scope="module")
def golden_engine() -> Iterator[DiffusionEngine]:
    engine = loaded(CHECKPOINT)
    yield engine
    engine.close()


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("case", cases(*IN_THIS_ISSUE), ids=lambda case: case["name"])
def test_recorded_pictures(golden_engine: DiffusionEngine, case: dict[str, Any]) -> None:
    """In float32 on the CPU: at most 2 levels apart anywhere, and 0.05 on average."""
    made, wanted = pictures(golden_engine, request_of(case)), recorded(case)
    assert len(made) == len(wanted)
    for one, other in zip(made, wanted, strict=True):
        gap = difference(one, other)
        assert gap.largest <= 2
        assert gap.mean < 0.05


@needs_shared
@pytest.mark.golden
def test_all_samplers_of_this_issue_are_recorded() -> None:
    assert {request_of(case).denoise.sampler for case in cases(*IN_THIS_ISSUE)} == set(IN_THIS_ISSUE)
    assert len(cases(*IN_THIS_ISSUE)) > 60
