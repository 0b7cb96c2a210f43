"""The shapes of prompts: the table in the module, and what is wrong."""

from typing import Any

import pytest

from compat.llama_server.prompts import MAX_PROMPTS, prompts_to_core
from server.core.errors import BadRequest, InvalidValue, Unsupported


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
        ({"prompt_string": "a", "multimodal_data": ["x"]}, Unsupported, "prompt.multimodal_data"),
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
