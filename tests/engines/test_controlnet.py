"""Control units on real torch: against diffusers' own networks and a loop written out by hand, on random weights."""

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from diffusers.models.controlnets.controlnet import ControlNetModel
from PIL import Image
from safetensors.torch import load_file, save_file

from server.core.errors import BadImage, InvalidValue, from_data
from server.core.image import (
    ControlUnit,
    Denoise,
    HiresPass,
    ImageFinished,
    ImageRequest,
    InitImages,
    Inpaint,
    Preprocessing,
    Preview,
    Seeds,
    Size,
)
from server.core.jobs import JobFailed
from server.core.models import ImageSettings
from server.core.prompt import plain
from server.engines.image.conditioning import TextPass, encode
from server.engines.image.control import controls
from server.engines.image.diffusion import DiffusionEngine, DiffusionLoader
from server.engines.image.schedules import sigmas
from server.engines.image.seeds import NoiseSource
from server.engines.image.unet_call import UNetInputs
from tests.support.engine_contract import ONE, finish
from tests.support.golden_images import card_of, pictures, run
from tests.support.picture_files import disc, file_of, noise_image
from tests.support.tiny_checkpoint import CHANNELS, TEXT, write_tiny_checkpoint
from tests.support.tiny_controlnet import tiny_adapter_tensors, write_tiny_controlnet

pytestmark = pytest.mark.torch

SETTINGS = ImageSettings(device="cpu", dtype="float32", threads=1)
SIDE = 64
MAP = noise_image(SIDE, SIDE, seed=3)

CONFIG = {
    "block_out_channels": [CHANNELS, CHANNELS],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "cross_attention_dim": TEXT,
    "attention_head_dim": 8,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("control")


@pytest.fixture(scope="module")
def control(folder: Path) -> Path:
    return write_tiny_controlnet(folder / "control.safetensors")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[DiffusionEngine]:
    path = write_tiny_checkpoint(folder / "tiny.safetensors")
    engine = DiffusionLoader().load(card_of(path), SETTINGS, lambda fraction: None)
    yield engine
    engine.close()


@pytest.fixture
def unit(control: Path) -> ControlUnit:
    return ControlUnit(name="control", path=str(control), image=file_of(MAP))


def changed(unit: ControlUnit, **fields: Any) -> ControlUnit:
    return msgspec.structs.replace(unit, **fields)


def request(*units: ControlUnit, **fields: Any) -> ImageRequest:
    base = ImageRequest(
        model="tiny",
        prompt=plain("a cat"),
        negative=plain("a dog"),
        size=Size(SIDE, SIDE),
        seeds=Seeds(first=7),
        denoise=Denoise(steps=4),
        control=units,
    )
    return msgspec.structs.replace(base, **fields)


def one(engine: DiffusionEngine, work: ImageRequest) -> np.ndarray:
    return pictures(engine, work)[0]


def maps(engine: DiffusionEngine, work: ImageRequest) -> list[Image.Image]:
    (end,) = [event for event in run(engine, work) if isinstance(event, ImageFinished)]
    return [Image.open(io.BytesIO(png)) for png in end.maps]


def failure(engine: DiffusionEngine, work: ImageRequest) -> Exception:
    engine.submit(ONE, work)
    (failed,) = [item for item in finish(engine) if isinstance(item, JobFailed)]
    return from_data(failed.error)


def last_latents(engine: DiffusionEngine, work: ImageRequest, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Return what the VAE is given."""
    seen: list[torch.Tensor] = []
    assert engine._parts is not None
    decode = engine._parts.vae.decode

    def spy(latent: torch.Tensor) -> torch.Tensor:
        seen.append(latent)
        return decode(latent)

    with monkeypatch.context() as patch:
        patch.setattr(engine._parts.vae, "decode", spy)
        run(engine, work)
    return torch.stack(seen)


def reference(control: Path) -> ControlNetModel:
    """Return the network as diffusers itself reads the file."""
    tensors = {name: tensor.float() for name, tensor in load_file(str(control)).items()}
    model = ControlNetModel(**CONFIG)
    model.load_state_dict(convert_controlnet_checkpoint(tensors, {"layers_per_block": 1}))
    return model.eval().requires_grad_(False)


def hint() -> torch.Tensor:
    return torch.from_numpy(np.asarray(MAP, dtype=np.float32) / 255).permute(2, 0, 1)[None]


def test_a_unit_acts(engine: DiffusionEngine, unit: ControlUnit) -> None:
    without, with_it, again = (one(engine, request(*units)) for units in ((), (unit,), (unit,)))
    assert np.abs(with_it.astype(int) - without).mean() > 1
    assert np.array_equal(with_it, again)
    other = one(engine, request(changed(unit, image=file_of(noise_image(SIDE, SIDE, seed=4)))))
    assert np.abs(with_it.astype(int) - other).mean() > 0.5


def test_weight_nought_is_no_unit_bit_for_bit(
    engine: DiffusionEngine, unit: ControlUnit, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = last_latents(engine, request(), monkeypatch)
    assert torch.equal(last_latents(engine, request(changed(unit, weight=0.0)), monkeypatch), without)
    nothing = changed(unit, layer_weights=(0.0, 0.0, 0.0, 0.0, 0.0))
    assert torch.equal(last_latents(engine, request(nothing), monkeypatch), without)
    assert torch.equal(last_latents(engine, request(), monkeypatch), without), "nothing of a unit stays behind"


def test_residuals_are_those_of_diffusers(engine: DiffusionEngine, control: Path, unit: ControlUnit) -> None:
    assert engine._parts is not None
    (network,) = engine._parts.control.shelf.lend([unit])
    draw = torch.Generator().manual_seed(1)
    x, text = torch.randn(2, 4, 8, 8, generator=draw), torch.randn(2, 77, TEXT, generator=draw)
    times = torch.tensor([601.0, 601.0])
    with torch.no_grad():
        found = network.outputs(UNetInputs(inputs=x, times=times, text=text, added=None, prompted=None), hint())
        down, middle = reference(control)(x, times, text, hint(), return_dict=False)
    assert len(found) == len(down) + 1 == 5
    for mine, theirs in zip(found, (*down, middle), strict=True):
        assert mine.abs().max() > 0.01
        assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("mode", ["balanced", "prompt", "control"])
def test_latents_are_those_of_a_loop_by_hand(
    engine: DiffusionEngine, control: Path, unit: ControlUnit, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = changed(unit, mode=mode, weight=0.8)
    work = request(unit)
    parts = engine._parts
    assert parts is not None
    text = TextPass(stack=parts.text, settings=work.text, find=lambda *_: None, size=work.size)
    prompts = encode(work.prompt, work.negative, text).at(0)
    context = torch.cat([prompts.parts, prompts.negative[None]])
    network, unet = reference(control), parts.unet_module
    _, table = parts.diffusion.denoiser(work.denoise)
    levels = sigmas(table, work.denoise, 4, discard_next_to_last=False)
    marks = torch.tensor([1.0, 0.0 if mode == "control" else 1.0])[:, None, None, None]
    factors = [0.8 * (1.0 if mode == "balanced" else 0.825 ** (12 - place)) for place in range(5)]
    x = NoiseSource(work.seeds, range(1), (4, 8, 8)).first() * levels[0]
    with torch.no_grad():
        for sigma, following in pairwise(levels):
            inputs = torch.cat([x, x]) * (1 / (sigma**2 + 1) ** 0.5)
            time = table.t(sigma[None]).expand(2)
            down, middle = network(inputs, time, context, hint(), return_dict=False)
            added = [each * factor * marks for each, factor in zip((*down, middle), factors, strict=True)]
            eps = unet(
                inputs,
                time,
                context,
                down_block_additional_residuals=added[:-1],
                mid_block_additional_residual=added[-1],
                return_dict=False,
            )[0]
            clean, without = x - eps[:1] * sigma, x - eps[1:] * sigma
            guided = without + 7.0 * (clean - without)
            x = x + (x - guided) / sigma * (following - sigma)
    found = last_latents(engine, work, monkeypatch)
    assert torch.allclose(found, x, atol=1e-4)
    assert not torch.allclose(found, last_latents(engine, request(), monkeypatch), atol=1e-2)


def previews(engine: DiffusionEngine, work: ImageRequest) -> list[bytes]:
    """Return a look at what each model call made of the picture."""
    events = run(engine, msgspec.structs.replace(work, preview_every=1))
    return [event.png for event in events if isinstance(event, Preview)]


def test_start_and_end_act_in_their_steps_alone(engine: DiffusionEngine, unit: ControlUnit) -> None:
    def looks(*units: ControlUnit) -> list[bytes]:
        return previews(engine, request(*units, denoise=Denoise(steps=8)))

    without, always = looks(), looks(unit)
    assert len(without) == len(always) == 8
    assert without[0] != always[0]
    late = looks(changed(unit, start=0.5))
    assert late[:5] == without[:5], "shares of the calls are 0, 0, 1/8, 2/8, ..."
    assert late[5] != without[5]
    early = looks(changed(unit, end=0.25))
    assert early[:4] == always[:4]
    assert early[4] != always[4]
    assert looks(changed(unit, start=0.9, end=0.95)) == without


def test_several_units_add_up(engine: DiffusionEngine, unit: ControlUnit) -> None:
    half = changed(unit, weight=0.5)
    twice, once = (one(engine, request(*units)).astype(int) for units in ((half, half), (unit,)))
    assert np.abs(twice - once).max() <= 1
    assert engine._parts is not None
    assert engine._parts.control.shelf.held > 0


def test_batches_and_every_sampler_kind(engine: DiffusionEngine, unit: ControlUnit) -> None:
    first, second = pictures(engine, request(unit, batch_size=2))
    assert np.abs(first.astype(int) - one(engine, request(unit))).max() <= 1
    assert np.abs(first.astype(int) - second).mean() > 1
    for sampler in ("ddim", "heun"):
        plain_one, steered = (
            one(engine, request(*units, denoise=Denoise(steps=4, sampler=sampler))) for units in ((), (unit,))
        )
        assert np.abs(plain_one.astype(int) - steered).mean() > 1


def test_prompts_of_different_length_mark_their_rows(engine: DiffusionEngine, unit: ControlUnit) -> None:
    long = plain("cat " * 90)
    for mode in ("balanced", "control"):
        assert one(engine, request(changed(unit, mode=mode), prompt=long)).any()


def hires(**fields: Any) -> HiresPass:
    return HiresPass(
        size=Size(128, 96),
        scale_to=Size(128, 128),
        upscaler="latent",
        strength=0.7,
        denoise=Denoise(steps=4),
        prompt=plain("a cat"),
        negative=plain("a dog"),
        **fields,
    )


def hint_sizes(engine: DiffusionEngine, work: ImageRequest, monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """Return the sizes of the maps that the unit's network sees."""
    assert engine._parts is not None
    (network,) = engine._parts.control.shelf.lend(work.control)
    seen: set[tuple[int, int]] = set()
    outputs = network.outputs

    def spy(call: UNetInputs, hint: torch.Tensor) -> list[torch.Tensor]:
        seen.add((hint.shape[-1], hint.shape[-2]))
        assert call.inputs.shape[-2:] == (hint.shape[-2] // 8, hint.shape[-1] // 8)
        return outputs(call, hint)

    with monkeypatch.context() as patch:
        patch.setattr(network, "outputs", spy)
        run(engine, work)
    return seen


@pytest.mark.parametrize(
    "passes, sizes", [("both", {(64, 64), (128, 96)}), ("first", {(64, 64)}), ("second", {(128, 96)})]
)
def test_passes(
    engine: DiffusionEngine, unit: ControlUnit, passes: str, sizes: set[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hint_sizes(engine, request(changed(unit, passes=passes), hires=hires()), monkeypatch) == sizes
    assert hint_sizes(engine, request(changed(unit, passes=passes)), monkeypatch) == {(64, 64)}


def test_maps_come_back_for_both_passes_unless_they_are_not_wanted(engine: DiffusionEngine, unit: ControlUnit) -> None:
    assert [image.size for image in maps(engine, request(unit, hires=hires()))] == [(128, 96), (64, 64)]
    assert [image.size for image in maps(engine, request(unit, changed(unit, return_map=False)))] == [(64, 64)]
    (shown,) = maps(engine, request(unit))
    assert np.array_equal(np.asarray(shown), np.asarray(MAP))


def test_maps_that_do_not_fit_in_a_message_are_left_out(
    engine: DiffusionEngine, unit: ControlUnit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one_file = len(maps(engine, request(unit))[0].fp.getvalue())  # type: ignore[union-attr]
    monkeypatch.setattr(controls, "MOST_MAP_BYTES", one_file + 1)
    assert len(maps(engine, request(unit, unit))) == 1
    assert "too large to be sent" in caplog.text


def test_a_module_makes_the_map(engine: DiffusionEngine, unit: ControlUnit) -> None:
    edges = Preprocessing(module="canny", resolution=128, threshold_a=100, threshold_b=200)
    (shown,) = maps(engine, request(changed(unit, preprocessing=edges)))
    assert set(np.unique(np.asarray(shown))) == {0, 255}
    perfect, coarse = (
        maps(engine, request(changed(unit, pixel_perfect=flag, preprocessing=edges)))[0].tobytes()
        for flag in (True, False)
    )
    assert perfect != coarse


def test_a_region_keeps_the_rest_as_it_was(engine: DiffusionEngine, unit: ControlUnit) -> None:
    everywhere, nowhere = (
        one(engine, request(changed(unit, region=file_of(Image.new("L", (9, 9), level))))) for level in (255, 0)
    )
    assert np.array_equal(everywhere, one(engine, request(unit)))
    assert np.array_equal(nowhere, one(engine, request()))


def test_inpaint_only_leaves_what_is_shut(engine: DiffusionEngine, unit: ControlUnit) -> None:
    module = Preprocessing(module="inpaint_only")
    made = one(engine, request(changed(unit, mask=file_of(disc(SIDE, radius=10)), preprocessing=module)))
    gap = np.abs(made.astype(int) - np.asarray(MAP))
    assert gap[:16].max() == gap[:, 48:].max() == 0
    assert gap[28:36, 28:36].mean() > 10
    ddim = Denoise(steps=4, sampler="ddim")
    by_time = one(engine, request(changed(unit, mask=file_of(disc(SIDE)), preprocessing=module), denoise=ddim))
    assert np.array_equal(by_time[:8], np.asarray(MAP)[:8])


def test_a_job_from_a_picture_lends_it(engine: DiffusionEngine, unit: ControlUnit) -> None:
    init = InitImages(images=(file_of(MAP),), strength=0.9)
    borrowed, own = (
        one(engine, request(changed(unit, image=image, fit="stretch"), init=init)) for image in (None, file_of(MAP))
    )
    assert np.array_equal(borrowed, own)
    assert np.abs(own.astype(int) - one(engine, request(init=init))).mean() > 0.5


def test_only_what_is_masked_is_seen(engine: DiffusionEngine, unit: ControlUnit) -> None:
    inpaint = Inpaint(mask=file_of(disc(SIDE, radius=6, middle=(20, 20))), blur_x=0, blur_y=0, only_masked=True)
    init = InitImages(images=(file_of(MAP),), strength=0.9, inpaint=inpaint)
    cut, whole = (maps(engine, request(changed(unit, crop_to_mask=flag), init=init))[0] for flag in (True, False))
    assert np.array_equal(np.asarray(whole), np.asarray(MAP))
    assert cut.size == (SIDE, SIDE)
    assert cut.tobytes() != whole.tobytes()


def test_an_adapter_acts(engine: DiffusionEngine, unit: ControlUnit, folder: Path) -> None:
    path = folder / "t2iadapter.safetensors"
    save_file(tiny_adapter_tensors(), str(path))
    adapter = changed(unit, name="t2iadapter", path=str(path))
    without = one(engine, request()).astype(int)
    made = one(engine, request(adapter))
    assert np.abs(made - without).mean() > 1
    assert np.abs(one(engine, request(adapter, unit)).astype(int) - made).mean() > 1
    soft = one(engine, request(changed(adapter, mode="prompt")))
    assert 0 < np.abs(soft - without).mean() != np.abs(made - without).mean()


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_other_families(family: str, folder: Path, unit: ControlUnit) -> None:
    checkpoint = write_tiny_checkpoint(folder / f"{family}.safetensors", family=family)
    path = write_tiny_controlnet(folder / f"control_{family}.safetensors", family=family)
    engine = DiffusionLoader().load(card_of(checkpoint), SETTINGS, lambda fraction: None)
    without, steered = (one(engine, request(*units)) for units in ((), (changed(unit, path=str(path)),)))
    assert np.abs(steered.astype(int) - without).mean() > 1
    error = failure(engine, request(unit))
    assert isinstance(error, InvalidValue)
    assert "another kind of checkpoint" in error.message
    engine.close()


def test_what_is_for_another_checkpoint_is_refused(engine: DiffusionEngine, unit: ControlUnit, folder: Path) -> None:
    wide = write_tiny_controlnet(folder / "wide.safetensors", text=24)
    error = failure(engine, request(changed(unit, name="wide", path=str(wide))))
    assert isinstance(error, InvalidValue)
    assert "another kind of checkpoint: it takes text of 24 values a token, the checkpoint 16" in error.message
    broken = folder / "broken.safetensors"
    broken.write_bytes(b"no")
    for path in (broken, folder / "missing.safetensors", folder / "tiny.safetensors"):
        error = failure(engine, request(changed(unit, path=str(path))))
        assert isinstance(error, InvalidValue)
        assert error.fact("param") == "control"
        assert str(folder) not in error.message
    assert one(engine, request(unit)).any(), "the engine works on"


@pytest.mark.parametrize("fields", [{"image": b"<svg/>"}, {"mask": b"GIF89a"}, {"region": b"\x89PNG"}])
def test_what_is_no_picture_is_refused(engine: DiffusionEngine, unit: ControlUnit, fields: dict[str, bytes]) -> None:
    assert isinstance(failure(engine, request(changed(unit, **fields))), BadImage)


@pytest.mark.parametrize(
    "fields",
    [
        {"image": None},
        {"weight": float("nan")},
        {"weight": 99.0},
        {"start": 0.6, "end": 0.5},
        {"end": 1.5},
        {"layer_weights": (1.0,) * 33},
        {"preprocessing": Preprocessing(module="openpose")},
    ],
)
def test_what_cannot_be_is_refused_at_once(engine: DiffusionEngine, unit: ControlUnit, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        engine.submit(ONE, request(changed(unit, **fields)))


def test_too_many_units(engine: DiffusionEngine, unit: ControlUnit) -> None:
    with pytest.raises(InvalidValue, match="11 control units"):
        engine.submit(ONE, request(*[unit] * 11))
