"""IP-Adapters on real torch, held against diffusers' own and transformers' own, on random weights."""

import copy
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from server.core.image import ControlUnit, Denoise, HiresPass, ImageRequest, InitImages, Preprocessing, Seeds, Size
from server.core.models import ImageSettings
from server.core.prompt import plain
from server.engines.image.conditioning import TextPass, encode
from server.engines.image.control.vision import prepared
from server.engines.image.diffusion import DiffusionEngine, DiffusionLoader
from server.engines.image.schedules import sigmas
from server.engines.image.seeds import NoiseSource
from tests.engines.test_controlnet import failure, last_latents, one, previews
from tests.support import tiny_ip_adapter as tiny
from tests.support.golden_images import card_of
from tests.support.picture_files import disc, file_of, noise_image
from tests.support.tiny_checkpoint import write_tiny_checkpoint
from tests.support.tiny_controlnet import write_tiny_controlnet

pytestmark = pytest.mark.torch

SETTINGS = ImageSettings(device="cpu", dtype="float32", threads=1)
SIDE = 64
SHOWN = noise_image(tiny.SIDE, tiny.SIDE, seed=3)
KINDS = get_args(tiny.Kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ip")
    tiny.write(folder / "encoder.safetensors", tiny.encoder_tensors())
    for kind in KINDS:
        tiny.write(folder / f"{kind}.safetensors", tiny.adapter_tensors(kind))
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[DiffusionEngine]:
    path = write_tiny_checkpoint(folder / "tiny.safetensors")
    engine = DiffusionLoader().load(card_of(path), SETTINGS, lambda fraction: None)
    yield engine
    engine.close()


@pytest.fixture
def unit(folder: Path) -> ControlUnit:
    return unit_of(folder, "plain")


def unit_of(folder: Path, kind: str, **fields: Any) -> ControlUnit:
    base = ControlUnit(
        name=kind,
        path=str(folder / f"{kind}.safetensors"),
        image=file_of(SHOWN),
        preprocessing=Preprocessing(module="picture"),
        encoders=(str(folder / "plain.safetensors"), str(folder / "encoder.safetensors"))[1:],
    )
    return msgspec.structs.replace(base, **fields)


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


def by_hand(engine: DiffusionEngine, folder: Path, kind: tiny.Kind, work: ImageRequest, weight: float) -> torch.Tensor:
    """Return the last latents of a loop with diffusers' own adapter and transformers' own encoder."""
    parts = engine._parts
    assert parts is not None
    unet: Any = copy.deepcopy(parts.unet_module)
    unet._load_ip_adapter_weights([tiny.as_diffusers(tiny.adapter_tensors(kind))])
    for processor in unet.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [weight]
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**tiny.ENCODER)).eval()
    encoder.load_state_dict(tiny.encoder_tensors())
    with torch.no_grad():
        shown, nothing = (
            encoder(picture, output_hidden_states=True)
            for picture in (prepared(SHOWN, tiny.SIDE), torch.zeros(1, 3, tiny.SIDE, tiny.SIDE))
        )
    if kind == "plain":
        seen = torch.stack([shown.image_embeds, torch.zeros_like(shown.image_embeds)])
    else:
        seen = torch.stack([shown.hidden_states[-2], nothing.hidden_states[-2]])
    text = TextPass(stack=parts.text, settings=work.text, find=lambda *_: None, size=work.size)
    prompts = encode(work.prompt, work.negative, text).at(0)
    context = torch.cat([prompts.parts, prompts.negative[None]])
    _, table = parts.diffusion.denoiser(work.denoise)
    levels = sigmas(table, work.denoise, 4, discard_next_to_last=False)
    x = NoiseSource(work.seeds, range(1), (4, 8, 8)).first() * levels[0]
    with torch.no_grad():
        for sigma, following in pairwise(levels):
            inputs = torch.cat([x, x]) * (1 / (sigma**2 + 1) ** 0.5)
            time = table.t(sigma[None]).expand(2)
            eps = unet(inputs, time, context, added_cond_kwargs={"image_embeds": [seen]}, return_dict=False)[0]
            clean, without = x - eps[:1] * sigma, x - eps[1:] * sigma
            x = x + (x - (without + 7.0 * (clean - without))) / sigma * (following - sigma)
    return x


@pytest.mark.parametrize("kind", KINDS)
def test_latents_are_those_of_diffusers_own_adapter(
    engine: DiffusionEngine, folder: Path, kind: tiny.Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = request(unit_of(folder, kind, weight=0.7))
    found = last_latents(engine, work, monkeypatch)
    theirs = by_hand(engine, folder, kind, work, 0.7)
    largest = theirs.abs().max()  # random weights make latents that are far larger than those of pictures
    assert torch.allclose(found / largest, theirs / largest, atol=1e-5)
    assert not torch.allclose(found / largest, last_latents(engine, request(), monkeypatch) / largest, atol=1e-2)


def test_sdxl(folder: Path) -> None:
    path = write_tiny_checkpoint(folder / "xl.safetensors", family="sdxl")
    tensors = tiny.adapter_tensors("plus", context=2 * tiny.TEXT, family="sdxl")
    tiny.write(folder / "xl-plus.safetensors", tensors)
    engine = DiffusionLoader().load(card_of(path), SETTINGS, lambda fraction: None)
    try:
        looking = unit_of(folder, "xl-plus")
        assert np.abs(one(engine, request(looking)).astype(int) - one(engine, request())).mean() > 1
        assert "another kind of checkpoint" in str(failure(engine, request(unit_of(folder, "plain"))))
    finally:
        engine.close()


def test_weight_nought_is_no_unit_bit_for_bit(
    engine: DiffusionEngine, unit: ControlUnit, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = last_latents(engine, request(), monkeypatch)
    silent = msgspec.structs.replace(unit, weight=0.0)
    assert torch.equal(last_latents(engine, request(silent), monkeypatch), without)
    last_latents(engine, request(unit), monkeypatch)
    assert torch.equal(last_latents(engine, request(), monkeypatch), without), "nothing of a unit stays behind"


def test_start_and_end_act_in_their_steps_alone(engine: DiffusionEngine, unit: ControlUnit) -> None:
    def looks(*units: ControlUnit) -> list[bytes]:
        return previews(engine, request(*units, denoise=Denoise(steps=8)))

    without, always = looks(), looks(unit)
    late = looks(msgspec.structs.replace(unit, start=0.5))
    assert late[:5] == without[:5]
    assert late[5] != without[5]
    early = looks(msgspec.structs.replace(unit, end=0.25))
    assert early[:4] == always[:4]
    assert early[4] != always[4]


def test_several_pictures_count_by_their_mean(engine: DiffusionEngine, unit: ControlUnit) -> None:
    other = file_of(noise_image(40, 40, seed=9))
    twice = msgspec.structs.replace(unit, more_images=(file_of(SHOWN),))
    both, turned = (
        msgspec.structs.replace(unit, image=first, more_images=(second,))
        for first, second in ((file_of(SHOWN), other), (other, file_of(SHOWN)))
    )
    alone, doubled, mixed, again = (one(engine, request(each)).astype(int) for each in (unit, twice, both, turned))
    assert np.abs(alone - doubled).max() <= 1
    assert np.abs(alone - mixed).mean() > 0.5
    assert np.abs(mixed - again).max() <= 1


def test_beside_a_control_net_in_batches_in_a_second_pass_and_from_a_picture(
    engine: DiffusionEngine, unit: ControlUnit, folder: Path
) -> None:
    net = write_tiny_controlnet(folder / "net.safetensors")
    mapped = ControlUnit(name="net", path=str(net), image=file_of(noise_image(SIDE, SIDE)))
    alone, with_it = (one(engine, request(*units)).astype(int) for units in ((mapped,), (mapped, unit)))
    assert np.abs(alone - with_it).mean() > 0.5
    hires = HiresPass(
        size=Size(128, 96),
        scale_to=Size(128, 96),
        upscaler="latent",
        strength=0.7,
        denoise=Denoise(steps=4),
        prompt=plain("a cat"),
        negative=plain("a dog"),
    )
    second = msgspec.structs.replace(unit, passes="second")
    for work in (request(batch_size=2), request(hires=hires)):
        without = one(engine, work).astype(int)
        assert np.abs(one(engine, msgspec.structs.replace(work, control=(second,))) - without).mean() > 0.5
    lent = msgspec.structs.replace(unit, image=None)
    init = InitImages(images=(file_of(SHOWN),), strength=0.6)
    assert one(engine, request(lent, init=init)).any()


def test_a_region(engine: DiffusionEngine, unit: ControlUnit, monkeypatch: pytest.MonkeyPatch) -> None:
    def latents(**fields: Any) -> torch.Tensor:
        return last_latents(engine, request(msgspec.structs.replace(unit, **fields)), monkeypatch)

    everywhere, white = latents(), latents(region=file_of(noise_image(8, 8).point(lambda _: 255)))
    assert torch.equal(everywhere, white)
    black = latents(region=file_of(noise_image(8, 8).point(lambda _: 0)))
    assert torch.allclose(black, last_latents(engine, request(), monkeypatch), atol=1e-5)
    part = latents(region=file_of(disc(SIDE, radius=12)))
    assert not torch.allclose(part, everywhere, atol=1e-3)
    assert not torch.allclose(part, black, atol=1e-3)


def test_an_encoder_is_asked_once_for_a_picture(
    engine: DiffusionEngine, unit: ControlUnit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.engines.image.control import vision

    built: list[object] = []
    real = vision.build
    monkeypatch.setattr(vision, "build", lambda *args: built.append(args) or real(*args))
    assert engine._parts is not None
    engine._parts.control.eyes.clear()
    for seed in (1, 2):
        one(engine, request(unit, seeds=Seeds(first=seed)))
    assert len(built) == 1
    one(engine, request(msgspec.structs.replace(unit, image=file_of(noise_image(9, 9)))))
    assert len(built) == 2


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"encoders": ()}, "needs an image encoder"),
        ({"layer_weights": (1.0,)}, "no weights of layers"),
        ({"preprocessing": Preprocessing(module="canny")}, "takes no map"),
        ({"image": b"text"}, "no picture"),
    ],
)
def test_units_that_cannot_act(engine: DiffusionEngine, unit: ControlUnit, fields: Any, told: str) -> None:
    assert told in str(failure(engine, request(msgspec.structs.replace(unit, **fields))))
    assert one(engine, request()).any()


def test_files_that_cannot_be_used(engine: DiffusionEngine, folder: Path) -> None:
    faces = tiny.adapter_tensors("full") | {"ip_adapter.0.to_q_lora.down.weight": torch.zeros(2, 2)}
    headless = {name: each for name, each in tiny.adapter_tensors().items() if name.startswith("image_proj.")}
    strange = {name.replace(".proj.", ".other."): each for name, each in tiny.adapter_tensors().items()}
    for name, tensors, told in (
        ("faces", faces, "for faces"),
        ("headless", headless, "lacks its attentions"),
        ("strange", strange, "unknown kind"),
    ):
        tiny.write(folder / f"{name}.safetensors", tensors)
        assert told in str(failure(engine, request(unit_of(folder, name))))
    net = write_tiny_controlnet(folder / "mapped.safetensors")
    wrong = unit_of(folder, "plain", path=str(net))
    assert "follows a map" in str(failure(engine, request(wrong)))
