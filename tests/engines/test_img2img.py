"""Pictures from pictures on real torch: the engine whole, on random weights, and the recordings of the original."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from server.core.errors import BadImage, InvalidValue, Unsupported, from_data
from server.core.image import (
    Denoise,
    ImageFinished,
    ImageReady,
    ImageRequest,
    ImageStarted,
    InitImages,
    Inpaint,
    Seeds,
    Size,
    SoftInpaint,
    StepDone,
)
from server.core.jobs import CancelMode, JobFailed
from server.core.models import ImageSettings
from server.core.prompt import PromptPart, PromptTree, plain
from server.engines.image.diffusion import DiffusionEngine, DiffusionLoader
from server.engines.image.samplers import SAMPLERS
from tests.support.engine_contract import ONE, events_of, finish, step_until
from tests.support.golden_images import (
    CHECKPOINT,
    card_of,
    difference,
    img2img_cases,
    img2img_request_of,
    pictures,
    pixels,
    recorded,
    run,
)
from tests.support.picture_files import disc, file_of, noise_image, png_of_size
from tests.support.shared import needs_shared
from tests.support.tiny_checkpoint import CHANNELS, tiny_tensors

pytestmark = pytest.mark.torch

SETTINGS = ImageSettings(device="cpu", dtype="float32", threads=1, allow_pickle=True)
FIRST = "model.diffusion_model.input_blocks.0.0.weight"
OLD = noise_image(32, 32)
MASK = disc(32, radius=7)


def seeing(folder: Path, channels: int, *, strength: float) -> DiffusionEngine:
    """Load the tiny checkpoint with more input channels, whose weights are random times `strength`."""
    tensors = tiny_tensors()
    more = torch.randn(CHANNELS, channels - 4, 3, 3, generator=torch.Generator().manual_seed(5)) * strength
    tensors[FIRST] = torch.cat([tensors[FIRST], more.to(tensors[FIRST])], dim=1)
    path = folder / f"sees-{channels}-{strength}.safetensors"
    save_file(tensors, str(path))
    return DiffusionLoader().load(card_of(path), SETTINGS, lambda fraction: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seeing")


Load = Callable[[int, float], DiffusionEngine]


@pytest.fixture(scope="module")
def load(folder: Path) -> Iterator[Load]:
    """Load each checkpoint once: so many channels, and the strength of those beyond four."""
    loaded: dict[tuple[int, float], DiffusionEngine] = {}

    def get(channels: int, strength: float) -> DiffusionEngine:
        if (channels, strength) not in loaded:
            loaded[channels, strength] = seeing(folder, channels, strength=strength)
        return loaded[channels, strength]

    yield get
    for engine in loaded.values():
        engine.close()


@pytest.fixture(scope="module")
def engine(load: Load) -> DiffusionEngine:
    """An ordinary checkpoint."""
    return load(4, 0.0)


def inpaint(mask: Image.Image = MASK, **fields: Any) -> Inpaint:
    return Inpaint(**{"mask": file_of(mask), "blur_x": 0, "blur_y": 0} | fields)


def request(*images: Image.Image, **fields: Any) -> ImageRequest:
    init = InitImages(
        images=tuple(file_of(image) for image in images or (OLD,)),
        **{"strength": 0.6} | {name: fields.pop(name) for name in list(fields) if name in InitImages.__struct_fields__},
    )
    base = ImageRequest(
        model="tiny",
        prompt=plain("a cat"),
        negative=plain(""),
        size=Size(32, 32),
        seeds=Seeds(first=7),
        denoise=Denoise(steps=4),
        init=init,
    )
    return msgspec.structs.replace(base, **fields)


def one(engine: DiffusionEngine, work: ImageRequest) -> np.ndarray:
    (picture,) = pictures(engine, work)
    return picture


def failure(engine: DiffusionEngine, work: ImageRequest) -> Exception:
    engine.submit(ONE, work)
    (failed,) = [item for item in finish(engine) if isinstance(item, JobFailed)]
    return from_data(failed.error)


def test_a_picture_from_a_picture(engine: DiffusionEngine) -> None:
    from_one, from_other = (one(engine, request(noise_image(32, 32, seed=seed))) for seed in (1, 2))
    assert difference(from_one, from_other).mean > 1
    assert np.array_equal(from_one, one(engine, request(noise_image(32, 32, seed=1))))


def test_more_noise_leaves_less_of_the_picture(engine: DiffusionEngine) -> None:
    def apart(strength: float) -> float:
        made = [one(engine, request(noise_image(32, 32, seed=seed), strength=strength)) for seed in (1, 2)]
        return difference(*made).mean

    assert apart(1.0) < apart(0.5) < apart(0.1)


def test_progress_counts_the_steps_that_are_made(engine: DiffusionEngine) -> None:
    for exact, steps in ((False, 3), (True, 4)):
        events = run(engine, request(exact_steps=exact))
        assert events[0] == ImageStarted(passes=1, steps=steps)
        assert [event.step for event in events if isinstance(event, StepDone)] == list(range(1, steps + 1))


def test_a_picture_for_each_of_a_batch(engine: DiffusionEngine) -> None:
    """With philox noise, for which encodings are means: others are samples that depend on the batch."""
    images = [noise_image(32, 32, seed=seed) for seed in (1, 2)]
    seeds = [Seeds(first=first, source="philox") for first in (7, 8)]
    made = pictures(engine, request(*images, batch_size=2, seeds=seeds[0]))
    for picture, image, seed in zip(made, images, seeds, strict=True):
        assert difference(picture, one(engine, request(image, seeds=seed))).largest <= 1


def test_encodings_are_samples_of_the_last_seed(engine: DiffusionEngine) -> None:
    """A picture alone is not the first of two, for their encodings are drawn by the second's seed."""
    first, _ = pictures(engine, request(batch_size=2))
    assert difference(first, one(engine, request())).largest > 1


def test_batches_begin_with_the_same_latents(engine: DiffusionEngine) -> None:
    _, second = pictures(engine, request(batches=2))
    assert difference(second, one(engine, request(seeds=Seeds(first=8)))).largest <= 1


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_all_samplers_keep_what_is_not_masked(engine: DiffusionEngine, sampler: str) -> None:
    strength = 0.3 if sampler == "dpm_adaptive" else 0.9  # it makes as many steps as it likes
    work = request(inpaint=inpaint(), denoise=Denoise(sampler=sampler, steps=6), strength=strength)
    made, outside = one(engine, work), np.asarray(MASK) == 0
    assert np.array_equal(made[outside], np.asarray(OLD)[outside])
    assert difference(made, np.asarray(OLD)).mean > 0.5


@pytest.mark.parametrize("content", ["fill", "original", "noise", "nothing"])
def test_what_noise_is_put_on_matters(engine: DiffusionEngine, content: str) -> None:
    made = one(engine, request(inpaint=inpaint(content=content), strength=0.3))
    others = [one(engine, request(inpaint=inpaint(content=other), strength=0.3)) for other in ("original", "noise")]
    assert sum(difference(made, other).largest > 0 for other in others) == (
        1 if content in ("original", "noise") else 2
    )


def test_only_masked_gives_a_picture_of_the_old_size(engine: DiffusionEngine) -> None:
    big, mask = noise_image(80, 64), disc(64, radius=8, middle=(20, 20)).crop((0, 0, 80, 64))
    made = one(engine, request(big, inpaint=inpaint(mask, only_masked=True, padding=4)))
    assert made.shape == (64, 80, 3)
    outside = np.asarray(mask) == 0
    assert np.array_equal(made[outside], np.asarray(big)[outside])


def test_a_black_mask_is_told_and_left_out(engine: DiffusionEngine) -> None:
    black = Image.new("L", (32, 32))
    events = run(engine, request(inpaint=inpaint(black, only_masked=True)))
    assert events[-1] == ImageFinished(reason="complete", blank_mask=True)
    (ready,) = [event for event in events if isinstance(event, ImageReady)]
    assert np.array_equal(pixels(ready.png), one(engine, request()))


def test_soft_inpainting_is_another_picture(engine: DiffusionEngine) -> None:
    soft = inpaint(blur_x=4, blur_y=4, soft=SoftInpaint())
    hard = inpaint(blur_x=4, blur_y=4)
    for sampler in ("euler", "ddim"):
        how = Denoise(sampler=sampler, steps=6)
        made = [one(engine, request(inpaint=asked, denoise=how)) for asked in (soft, hard)]
        assert difference(*made).mean > 0.5


def test_masks_and_composites_come_with_the_picture(engine: DiffusionEngine) -> None:
    asked = inpaint(return_mask=True, return_composite=True)
    (ready,) = [e for e in run(engine, request(inpaint=asked)) if isinstance(e, ImageReady)]
    assert np.array_equal(pixels(ready.further[0])[..., 0], np.asarray(MASK))
    assert len(ready.further) == 2


def test_an_interrupted_picture_keeps_what_is_not_masked(engine: DiffusionEngine) -> None:
    engine.submit(ONE, request(inpaint=inpaint(), denoise=Denoise(steps=20), strength=1.0))
    step_until(engine, StepDone)
    engine.cancel(ONE, CancelMode.STOP)
    (ready,) = [event for event in events_of(finish(engine)) if isinstance(event, ImageReady)]
    outside = np.asarray(MASK) == 0
    assert np.array_equal(pixels(ready.png)[outside], np.asarray(OLD)[outside])


def test_colours_and_noise_may_be_changed(engine: DiffusionEngine) -> None:
    before = one(engine, request())
    for fields in (
        {"match_colours": True},
        {"noise_multiplier": 1.3},
        {"denoise": Denoise(steps=4, extra_noise=0.3)},
        {"resize": "latent"},
    ):
        images = [noise_image(64, 64)] if "resize" in fields else [OLD]
        made = one(engine, request(*images, **fields))
        assert made.shape == before.shape
        assert difference(made, before).mean > 0.3, fields


@pytest.mark.parametrize(
    ("files", "mask"),
    [
        ((b"a text file",), None),
        ((png_of_size(30_000, 30_000),), None),
        ((file_of(noise_image(40, 40))[:700],), None),
        ((file_of(OLD),), b"a text file"),
        ((file_of(noise_image(9000, 1)),), None),
    ],
)
def test_bad_pictures_fail_their_job_alone(
    engine: DiffusionEngine, files: tuple[bytes, ...], mask: bytes | None
) -> None:
    asked = None if mask is None else Inpaint(mask=mask)
    work = request()
    init = InitImages(images=files, strength=0.5, inpaint=asked, resize="fill")
    assert isinstance(failure(engine, msgspec.structs.replace(work, init=init)), BadImage)
    assert len(pictures(engine, work)) == 1


def test_impossible_requests_are_refused_before_they_are_queued(engine: DiffusionEngine) -> None:
    with pytest.raises(InvalidValue):
        engine.submit(ONE, request(strength=2.0))
    assert engine.is_idle()


@pytest.mark.parametrize("channels", [8, 9])
def test_models_that_see_the_picture(engine: DiffusionEngine, load: Load, channels: int) -> None:
    """With weights of nothing for what they see they are the ordinary model, with others not."""
    blind, seer = load(channels, 0.0), load(channels, 1.0)
    ordinary = one(engine, request(inpaint=inpaint()))
    assert difference(one(blind, request(inpaint=inpaint())), ordinary).largest <= 1
    seen = one(seer, request(inpaint=inpaint()))
    assert difference(seen, ordinary).largest > 1
    if channels == 9:
        hidden = one(seer, request(inpaint=inpaint(), mask_weight=0.0))
        assert difference(seen, hidden).largest > 1


def test_inpainting_models_make_pictures_from_prompts_too(engine: DiffusionEngine, load: Load) -> None:
    blind, seer = load(9, 0.0), load(9, 1.0)
    work = request(init=None)
    assert difference(one(blind, work), one(engine, work)).largest <= 1
    assert difference(one(seer, work), one(engine, work)).largest > 1


def test_pix2pix_models_follow_the_picture_by_a_scale(engine: DiffusionEngine, load: Load) -> None:
    blind, seer = load(8, 0.0), load(8, 1.0)
    assert difference(one(blind, request(picture_scale=3.0)), one(engine, request())).largest <= 1
    none, same, more = (one(seer, request(picture_scale=scale)) for scale in (None, 1.0, 3.0))
    assert np.array_equal(none, same)
    assert difference(none, more).largest > 1
    assert isinstance(failure(seer, request(init=None)), Unsupported)
    parts = PromptTree((PromptPart(plain("a").parts[0].texts), PromptPart(plain("b").parts[0].texts)))
    assert isinstance(failure(seer, request(picture_scale=3.0, prompt=parts)), Unsupported)


@pytest.fixture(scope="module")
def golden_engine() -> Iterator[DiffusionEngine]:
    engine = DiffusionLoader().load(card_of(CHECKPOINT), SETTINGS, lambda fraction: None)
    yield engine
    engine.close()


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("case", img2img_cases(), ids=lambda case: case["name"])
def test_recorded_pictures(golden_engine: DiffusionEngine, case: dict[str, Any]) -> None:
    """In float32 on the CPU: at most 2 levels apart anywhere, and 0.05 on average."""
    made, wanted = pictures(golden_engine, img2img_request_of(case)), recorded(case)
    assert len(made) == len(wanted)
    for picture, other in zip(made, wanted, strict=True):
        gap = difference(picture, other)
        assert gap.largest <= 2
        assert gap.mean < 0.05
