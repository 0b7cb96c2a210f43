from typing import Any

import msgspec
import pytest

from compat.openai.images import wire
from compat.openai.images.convert import DRAWN, Given, draw_seed, to_core, without_effect
from compat.openai.images.look import look
from server.core.errors import InvalidValue, Unsupported
from server.core.image import Denoise, FileFormat, ImageRequest, Inpaint, Seeds, Size
from server.core.prompt import plain
from tests.compat.openai.images.sent import asked, card, edited, hole, picture

IMAGE, MASK = picture(640, 480), hole(640, 480)


def given(mask: bytes | None = None) -> Given:
    return Given(image=IMAGE, seen=look(IMAGE, "image"), mask=mask)


def work(**fields: Any) -> ImageRequest:
    return to_core(asked(**fields), card(), 5)


def test_a_plain_prompt() -> None:
    assert work() == ImageRequest(
        model="paint",
        prompt=plain("a cat"),
        negative=plain(""),
        size=Size(512, 512),
        seeds=Seeds(first=5),
        denoise=Denoise(sampler="dpmpp_2m", schedule="karras", steps=20, cfg_scale=7.0),
    )


def test_a_prompt_has_no_syntax() -> None:
    text = "a [cat:dog:0.5] AND (x:1.2) <lora:y:1> BREAK"
    assert work(prompt=text).prompt == plain(text)


def test_our_own_fields() -> None:
    made = work(
        negative_prompt="fog", seed=9, steps=3, cfg_scale=0, sampler="euler_a", schedule="simple", n=4, size="640x64"
    )
    assert made.negative == plain("fog")
    assert made.seeds.first == 9
    assert made.denoise == Denoise(sampler="euler_a", schedule="simple", steps=3, cfg_scale=0.0)
    assert (made.batches, made.batch_size, made.size) == (4, 1, Size(640, 64))
    assert work(seed=-1).seeds.first == 5
    assert work(seed=0).seeds.first == 0


def test_seeds_are_drawn_from_32_bits() -> None:
    drawn = {draw_seed() for _ in range(50)}
    assert len(drawn) > 45
    assert all(0 <= seed < DRAWN for seed in drawn)


@pytest.mark.parametrize(
    ("quality", "steps"),
    [("low", 12), ("medium", 20), ("standard", 20), ("auto", 20), ("high", 30), ("hd", 30), ("weird", 20)],
)
def test_quality_means_steps(quality: str, steps: int) -> None:
    assert work(quality=quality).denoise.steps == steps
    assert work(quality=quality, steps=7).denoise.steps == 7


def test_a_distilled_checkpoint_gets_few_steps_and_little_guidance() -> None:
    made = to_core(asked(), card("sdxl_turbo", "sdxl"), 5)
    assert made.denoise == Denoise(sampler="euler", schedule="sgm_uniform", steps=6, cfg_scale=1.0)
    assert made.size == Size(1024, 1024)


@pytest.mark.parametrize("size", ["", "auto", "AUTO", None])
def test_auto_sizes(size: str | None) -> None:
    assert to_core(asked(size=size), card(family="sd1"), 0).size == Size(512, 512)
    assert to_core(asked(size=size), card(family="sdxl"), 0).size == Size(1024, 1024)
    assert to_core(edited(size=size), card(family="sd1"), 0, given()).size == Size(576, 448)
    assert to_core(edited(size=size), card(family="sdxl"), 0, given()).size == Size(1152, 896)


@pytest.mark.parametrize(
    "size", ["512", "x", "512x", "0x0", "63x512", "99999x99999", "8192x2049", "-5x5", "5.5x5", "٦٤x٦٤"]
)
def test_sizes_that_are_none(size: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        work(size=size)
    assert caught.value.fact("param") == "size"


def test_sizes_at_the_bounds() -> None:
    assert work(size="64x64").size == Size(64, 64)
    assert work(size="8192x2048").size == Size(8192, 2048)
    assert work(size="1792X1024").size == Size(1792, 1024)


def test_an_edit_of_the_whole_picture() -> None:
    for fidelity, strength in ((None, 0.75), ("low", 0.75), ("high", 0.5)):
        init = to_core(edited(input_fidelity=fidelity), card(), 5, given()).init
        assert init is not None
        assert (init.images, init.strength, init.resize, init.inpaint) == ((IMAGE,), strength, "crop", None)


def test_an_edit_through_a_mask() -> None:
    for fidelity, strength in ((None, 1.0), ("high", 0.75)):
        init = to_core(edited(input_fidelity=fidelity), card(), 5, given(MASK)).init
        assert init is not None
        assert init.strength == strength
        assert init.inpaint == Inpaint(mask=MASK, invert=True, content="fill")


def test_a_variation() -> None:
    made = to_core(wire.VariationRequest(n=2), card(), 5, given())
    assert made.prompt == plain("")
    assert made.init is not None
    assert (made.init.strength, made.batches) == (0.6, 2)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength_wins(strength: float) -> None:
    for request in (
        edited(strength=strength, input_fidelity="high"),
        msgspec.convert({"strength": strength}, wire.VariationRequest),
    ):
        init = to_core(request, card(), 5, given()).init
        assert init is not None and init.strength == strength


@pytest.mark.parametrize(("partials", "every"), [(None, 0), (0, 0), (1, 10), (2, 6), (3, 5)])
def test_previews_are_made_for_partial_pictures_alone(partials: int | None, every: int) -> None:
    assert work(stream=True, partial_images=partials).preview_every == every
    assert work(stream=False, partial_images=partials).preview_every == 0
    assert work(stream=True, partial_images=3, steps=2).preview_every == 1


def test_what_has_no_effect_is_named() -> None:
    assert without_effect(asked(quality="weird", output_compression=50, partial_images=2)) == (
        "quality", "output_compression", "partial_images",
    )  # fmt: skip
    assert without_effect(asked(output_format="webp", output_compression=50, background="auto")) == ()
    harmless = asked(quality="hd", output_format="png", partial_images=2, stream=True)
    assert without_effect(harmless) == without_effect(asked(partial_images=0)) == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"output_format": "svg"}, "output_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"stream": True, "response_format": "url"}, "response_format"),
    ],
)
def test_what_would_be_another_answer_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        work(**fields)
    assert caught.value.fact("param") == param


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, FileFormat()),
        ({"output_format": "PNG", "output_compression": 5}, FileFormat()),
        ({"output_format": "jpeg"}, FileFormat(kind="jpeg", quality=100)),
        ({"output_format": "jpg", "output_compression": 70}, FileFormat(kind="jpeg", quality=70)),
        ({"output_format": "webp", "output_compression": 0}, FileFormat(kind="webp", quality=1)),
    ],
)
def test_how_pictures_are_written(fields: dict[str, Any], expected: FileFormat) -> None:
    assert work(**fields).file == expected


def test_a_webp_picture_is_not_longer_than_its_head_can_say() -> None:
    assert work(size="16383x64", output_format="webp").size == Size(16_383, 64)
    with pytest.raises(InvalidValue) as caught:
        work(size="16384x64", output_format="webp")
    assert caught.value.fact("param") == "size"
    assert work(size="16384x64", output_format="jpeg").size == Size(16_384, 64)


@pytest.mark.parametrize("fields", [{"output_format": "gif"}, {"output_format": "tiff"}, {"background": "transparent"}])
def test_pictures_that_are_not_made(fields: dict[str, Any]) -> None:
    with pytest.raises(Unsupported) as caught:
        work(**fields)
    assert caught.value.fact("param") == next(iter(fields))
