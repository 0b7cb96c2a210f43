from typing import Any

import pytest

from compat.openai.images import wire
from compat.openai.images.convert import Given
from compat.openai.images.given import read
from server.core.errors import BadImage, InvalidValue, ServerError, Unsupported
from tests.compat.openai.images.sent import form, hole, picture

Files = list[tuple[str, bytes]]


def edit(files: Files, **texts: str) -> tuple[wire.EditRequest, Given, tuple[str, ...]]:
    return read(*form(files, **({"prompt": "a cat"} | texts)), wire.EditRequest)


def test_numbers_come_as_texts() -> None:
    sent = {"n": "2", "stream": "true", "partial_images": "3", "cfg_scale": "5.5", "seed": "7", "size": "64x64"}
    request, given, ignored = edit([("image", picture())], **sent)
    assert (request.n, request.stream, request.partial_images) == (2, True, 3)
    assert (request.cfg_scale, request.seed, request.size) == (5.5, 7, "64x64")
    assert given.mask is None
    assert ignored == ()


def test_a_picture_and_its_mask() -> None:
    image, mask = picture(70, 40, kind="JPEG"), hole(70, 40)
    for name in ("image", "image[]"):
        _, given, _ = edit([(name, image), ("mask", mask)])
        assert (given.image, given.mask, given.seen.width, given.seen.height) == (image, mask, 70, 40)


def test_what_nobody_reads_is_named() -> None:
    _, _, ignored = edit([("image", picture()), ("extra", b"x")], user="me", style="vivid", empty="")
    assert ignored == ("user", "style", "extra")
    sent = form([("image", picture()), ("mask", hole())], input_fidelity="high")
    _, given, ignored = read(*sent, wire.VariationRequest)
    assert ignored == ("input_fidelity", "mask")
    assert given.mask is None


def test_only_dall_e_2_takes_the_pictures_own_transparency_for_a_mask() -> None:
    image = hole()
    assert edit([("image", image)], model="dall-e-2")[1].mask == image
    assert edit([("image", image)], model="gpt-image-1")[1].mask is None
    assert edit([("image", image)])[1].mask is None
    assert edit([("image", hole(box=(0, 0, 0, 0)))], model="dall-e-2")[1].mask is None
    assert edit([("image", picture())], model="dall-e-2")[1].mask is None


@pytest.mark.parametrize(
    ("files", "texts", "kind", "param"),
    [
        ([], {}, InvalidValue, "image"),
        ([("image", b"")], {}, InvalidValue, "image"),
        ([("image", b"<svg/>")], {}, BadImage, "image"),
        ([("image", picture())], {"prompt": ""}, InvalidValue, "prompt"),
        ([("image", picture())], {"n": "eleven"}, InvalidValue, "n"),
        ([("image", picture())], {"n": "11"}, InvalidValue, "n"),
        ([("image", picture())], {"strength": "nan"}, InvalidValue, "strength"),
        ([("image", picture())], {"input_fidelity": "some"}, InvalidValue, "input_fidelity"),
        ([("image", picture())] * 2, {}, Unsupported, "image"),
        ([("image", picture()), ("mask", hole()), ("mask", hole())], {}, Unsupported, "mask"),
        ([("image", picture()), ("markup", hole())], {}, Unsupported, "markup"),
        ([("image", picture()), ("mask", b"x")], {}, BadImage, "mask"),
        ([("image", picture()), ("mask", picture())], {}, BadImage, "mask"),
        ([("image", picture()), ("mask", picture(mode="LA"))], {}, BadImage, "mask"),
        ([("image", picture()), ("mask", hole(32, 64))], {}, BadImage, "mask"),
        ([("image", picture()), ("mask", hole(box=(0, 0, 0, 0)))], {}, BadImage, "mask"),
    ],
)
def test_refusals_name_their_field(files: Files, texts: dict[str, Any], kind: type[ServerError], param: str) -> None:
    with pytest.raises(kind) as caught:
        edit(files, **texts)
    assert caught.value.fact("param") == param
