import json
from typing import Any

import msgspec
import pytest

from compat.openai.images import wire
from compat.openai.picture_tool.names import PICTURE as IN_WORDS
from compat.openai.picture_tool.names import TYPE
from compat.openai.picture_tool.tool import LONGEST_PROMPT, SHAPES, Arguments
from server.core.errors import BadRequest, InvalidValue, Unsupported
from server.core.image import FileFormat, Size
from server.core.prompt import plain
from server.core.text import ChatRequest, Message, PicturePart, TextPart, Tool
from tests.compat.openai.images.sent import hole, picture
from tests.compat.openai.picture_tool.asked import tool

PICTURE = picture(640, 320)
SAID = Arguments(prompt="a cat")


def properties(**given: Any) -> dict[str, Any]:
    schema = json.loads(tool(**given).function().parameters)
    assert (schema["type"], schema["required"], schema["additionalProperties"]) == ("object", ["prompt"], False)
    found: dict[str, Any] = schema["properties"]
    return found


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, ["prompt", "size"]),
        ({"size": "auto"}, ["prompt", "size"]),
        ({"size": "512x512"}, ["prompt"]),
        ({"base": PICTURE}, ["prompt", "size", "edit"]),
        ({"base": PICTURE, "action": "auto", "size": "64x64"}, ["prompt", "edit"]),
        ({"base": PICTURE, "action": "edit"}, ["prompt", "size"]),
        ({"base": PICTURE, "action": "generate"}, ["prompt", "size"]),
        ({"action": "auto"}, ["prompt", "size"]),
    ],
)
def test_what_the_model_is_asked_for(given: dict[str, Any], names: list[str]) -> None:
    assert list(properties(**given)) == names


def test_what_the_model_says() -> None:
    assert tool().read('{"prompt": "a cat", "size": "portrait", "edit": true, "mood": 5}') == Arguments(
        prompt="a cat", size="portrait", edit=True
    )


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "{}", '{"prompt": 5}', '{"prompt": ""}', '{"prompt": "x", "size": "huge"}',
     '{"prompt": "\\ud800"}', '{"prompt": "' + "x" * (LONGEST_PROMPT + 1) + '"}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_call(text: str) -> None:
    with pytest.raises(InvalidValue, match="prompt"):
        tool().read(text)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_model_chooses_a_shape_of_about_as_many_pixels(shape: Any) -> None:
    made = tool().work(Arguments(prompt="x", size=shape), 5).size
    wide, high = SHAPES[shape]
    assert made.width / made.height == pytest.approx(wide / high, rel=0.12)
    assert made.width * made.height == pytest.approx(512 * 512, rel=0.2)


def test_a_size_of_the_tool_wins() -> None:
    assert tool(size="320x256").work(Arguments(prompt="x", size="portrait"), 5).size == Size(320, 256)


def test_a_call_becomes_a_picture_request() -> None:
    asked = tool(
        quality="low", output_format="jpeg", output_compression=60, seed=9, cfg_scale=3, negative_prompt="fog",
        partial_images=2, sampler="euler", schedule="simple",
    )  # fmt: skip
    work = asked.work(SAID, 5)
    assert (work.model, work.prompt, work.negative, work.batches) == ("paint", plain("a cat"), plain("fog"), 1)
    assert (work.seeds.first, work.denoise.cfg_scale, work.denoise.sampler) == (9, 3.0, "euler")
    assert work.file == FileFormat(kind="jpeg", quality=60)
    assert work.denoise.steps == 12 and work.preview_every == 4
    assert tool().work(SAID, 5).seeds.first == 5
    assert tool().work(SAID, 5).preview_every == 0


@pytest.mark.parametrize(
    ("given", "edit", "edits"),
    [
        ({}, None, False),
        ({}, True, False),
        ({"base": PICTURE}, None, False),
        ({"base": PICTURE}, True, True),
        ({"base": PICTURE, "action": "auto"}, True, True),
        ({"base": PICTURE, "action": "generate"}, True, False),
        ({"base": PICTURE, "action": "edit"}, False, True),
    ],
)
def test_when_the_newest_picture_is_changed(given: dict[str, Any], edit: bool | None, edits: bool) -> None:
    asked, said = tool(**given), Arguments(prompt="a cat", edit=edit)
    assert asked.edits(said) is edits
    init = asked.work(said, 5).init
    assert (init is not None) is edits
    if init is not None:
        assert init.images == (PICTURE,) and init.strength == 0.75
        assert asked.work(said, 5).size == Size(704, 384), "in the shape of the picture"


def test_a_change_within_a_mask() -> None:
    mask = hole(640, 320)
    asked = tool(base=PICTURE, mask=mask, action="edit", input_fidelity="high")
    init = asked.work(SAID, 5).init
    assert init is not None and init.inpaint is not None
    assert (init.inpaint.mask, init.strength) == (mask, 0.75)
    assert isinstance(asked.request(SAID), wire.EditRequest)


@pytest.mark.parametrize(
    ("given", "kind", "param"),
    [
        ({"size": "huge"}, InvalidValue, "tools[0].size"),
        ({"size": "1x1"}, InvalidValue, "tools[0].size"),
        ({"output_format": "gif"}, Unsupported, "tools[0].output_format"),
        ({"background": "transparent"}, Unsupported, "tools[0].background"),
        ({"action": "edit"}, InvalidValue, "tools[0].action"),
        ({"action": "edit", "base": b"no picture"}, BadRequest, "tools[0].image"),
        ({"action": "edit", "base": PICTURE, "mask": picture(640, 320)}, BadRequest, "tools[0].mask"),
    ],
)
def test_mistakes_are_told_with_their_path(given: dict[str, Any], kind: type[BadRequest], param: str) -> None:
    with pytest.raises(kind) as caught:
        tool(**given).work(SAID, 5)
    assert caught.value.fact("param") == param


def chat(*names: str, choices: int = 1) -> ChatRequest:
    return ChatRequest(model="tiny", messages=(), tools=tuple(Tool(name=name) for name in names), choices=choices)


def test_the_function_takes_the_place_of_what_stands_for_it() -> None:
    before, own, after = tool().offered(chat("f", TYPE, "g")).tools
    assert (before, own, after) == (Tool(name="f"), tool().function(), Tool(name="g"))


def test_what_the_tool_cannot_stand_beside() -> None:
    with pytest.raises(InvalidValue) as caught:
        tool().offered(chat(TYPE, TYPE))
    assert caught.value.fact("param") == "tools[0].type"
    with pytest.raises(InvalidValue) as caught:
        tool().offered(chat(TYPE, choices=2))
    assert caught.value.fact("param") == "n"


@pytest.mark.parametrize(
    ("given", "sees", "in_words"),
    [({}, False, True), ({}, True, False), ({"action": "edit"}, False, True), ({"action": "generate"}, False, False)],
)
def test_a_model_that_does_not_see_is_told_of_pictures_in_words(
    given: dict[str, Any], sees: bool, in_words: bool
) -> None:
    parts = (TextPart("change it"), PicturePart(PICTURE))
    work = msgspec.structs.replace(chat(TYPE), messages=(Message(role="user", parts=parts),))
    asked = msgspec.structs.replace(tool(base=PICTURE, **given), sees=sees)
    (message,) = asked.offered(work).messages
    assert message.parts == ((parts[0], TextPart(IN_WORDS)) if in_words else parts)
    assert asked.offered(msgspec.structs.replace(work, tools=())).messages == work.messages, "the tool is not offered"
