"""The shapes of prompts: the table in the module, and what is wrong."""

from typing import Any

import pytest

from compat.llama_server.prompts import MAX_PROMPTS, MEDIA_MARKER, pictured_prompts, prompts_to_core
from server.core.errors import BadRequest, InvalidValue, Unsupported
from server.core.text import MOST_PICTURES, PicturePart, PlacedPicture


@pytest.mark.parametrize(
    ("prompt", "core"),
    [
        ("a", ("a",)),
        ("", ("",)),
        ([1, 2], ((1, 2),)),
        ({"prompt_string": "a"}, ("a",)),
        ({"prompt_string": "a", "multimodal_data": []}, ("a",)),
        (["a"], ("a",)),
        (["a", [1, 2], {"prompt_string": "b"}], ("a", (1, 2), "b")),
        ([[1], [2]], ((1,), (2,))),
    ],
)
def test_shapes(prompt: Any, core: Any) -> None:
    assert prompts_to_core(prompt) == core


@pytest.mark.parametrize(
    ("prompt", "error", "param"),
    [
        ([1, "a"], Unsupported, "prompt"),
        (["b", [1, "a"]], Unsupported, "prompt[1]"),
        ({"prompt_string": f"a{MEDIA_MARKER}", "multimodal_data": ["eA=="]}, Unsupported, "prompt.multimodal_data"),
        ([{"prompt_string": 5}], InvalidValue, "prompt[0].prompt_string"),
        ({}, InvalidValue, "prompt.prompt_string"),
        ([-1], InvalidValue, "prompt"),
        ([1.5], InvalidValue, "prompt"),
        ([2**31], InvalidValue, "prompt"),
        ([1, True], InvalidValue, "prompt"),
        ([[]], InvalidValue, "prompt[0]"),
        ([None], InvalidValue, "prompt[0]"),
        ([[[1]]], InvalidValue, "prompt[0]"),
        (["x"] * (MAX_PROMPTS + 1), InvalidValue, "prompt"),
    ],
)
def test_what_is_wrong(prompt: Any, error: type[BadRequest], param: str) -> None:
    with pytest.raises(error) as caught:
        prompts_to_core(prompt)
    assert caught.value.fact("param") == param


def test_pictures_stand_where_their_markers_stood() -> None:
    x, y, z = ("eA==", "data:image/png;base64,eQ==", "eg==")
    prompt = [
        "plain",
        {"prompt_string": f"a{MEDIA_MARKER}bc{MEDIA_MARKER}", "multimodal_data": [x, y]},
        {"prompt_string": f"{MEDIA_MARKER}{MEDIA_MARKER}d", "multimodal_data": [z, x]},
        {"prompt_string": f"no {MEDIA_MARKER}"},
    ]
    texts, pictures = pictured_prompts(prompt)
    assert texts == ("plain", "abc", "d", f"no {MEDIA_MARKER}")

    def placed(prompt: int, at: int, data: bytes, number: int) -> PlacedPicture:
        return PlacedPicture(
            prompt=prompt, at=at, picture=PicturePart(data, f"prompt[{prompt}].multimodal_data[{number}]")
        )

    assert pictures == (placed(1, 1, b"x", 0), placed(1, 3, b"y", 1), placed(2, 0, b"z", 0), placed(2, 0, b"x", 1))


@pytest.mark.parametrize(
    ("text", "data", "param"),
    [
        ("a", ["eA=="], "prompt.multimodal_data"),
        (MEDIA_MARKER * 2, ["eA=="], "prompt.multimodal_data"),
        (MEDIA_MARKER, ["not base64!"], "prompt.multimodal_data[0]"),
        (MEDIA_MARKER, [""], "prompt.multimodal_data[0]"),
        (MEDIA_MARKER, [5], "prompt.multimodal_data"),
        (MEDIA_MARKER, "eA==", "prompt.multimodal_data"),
        (MEDIA_MARKER, {"a": 1}, "prompt.multimodal_data"),
        (5, ["eA=="], "prompt.prompt_string"),
        (MEDIA_MARKER, ["http://example.org/x.png"], "prompt.multimodal_data[0]"),
        (
            MEDIA_MARKER * (MOST_PICTURES + 1),
            ["eA=="] * (MOST_PICTURES + 1),
            f"prompt.multimodal_data[{MOST_PICTURES}]",
        ),
    ],
)
def test_what_is_wrong_with_pictures(text: Any, data: Any, param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        pictured_prompts({"prompt_string": text, "multimodal_data": data})
    assert caught.value.fact("param") == param
