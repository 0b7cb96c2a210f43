"""Raw texts and token ids on the wire and in the core."""

from typing import Any

import pytest

from compat.openai.prompts import prompts_to_core
from server.core.errors import InvalidValue


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("text", ("text",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["a", [1]], ("a", (1,))),
    ],
)
def test_prompts(prompt: Any, expected: Any) -> None:
    assert prompts_to_core(prompt, "prompt") == expected


@pytest.mark.parametrize(
    ("given", "param"),
    [([1, "a"], "input[0]"), (["a", []], "input[1]"), (["a"] * 2049, "input"), ([[1] * (2**20 + 1)], "input[0]")],
)
def test_lists_that_are_refused(given: Any, param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        prompts_to_core(given, "input")
    assert caught.value.fact("param") == param
