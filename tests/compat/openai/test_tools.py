"""Functions and the choice among them, on the wire and in the core."""

from typing import Any

import msgspec
import pytest

from compat.openai import wire
from compat.openai.tools import PICTURES, Offer, is_old_form, tools_to_core
from server.core.errors import InvalidValue, Unsupported
from server.core.text import Tool

FUNCTION = {"name": "f", "description": "does f", "parameters": {"type": "object", "properties": {}}}
F = {"type": "function", "function": FUNCTION}
G = {"type": "function", "function": {"name": "g"}}
TF = Tool(name="f", description="does f", parameters='{"type":"object","properties":{}}')
TG = Tool(name="g", parameters='{"type":"object","properties":{}}')
DRAW = {"type": "image_generation", "size": "512x512"}
NAMED = {"type": "function", "function": {"name": "g"}}


def read(**fields: Any) -> wire.ChatCompletionRequest:
    body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    return msgspec.convert(body, wire.ChatCompletionRequest)


def offer(**fields: Any) -> Offer:
    return tools_to_core(read(**fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Offer()),
        ({"tools": None, "tool_choice": None}, Offer()),
        ({"tools": [], "tool_choice": "auto"}, Offer()),
        ({"tools": [F]}, Offer(tools=(TF,))),
        ({"tools": [F] * 28, "tool_choice": "auto"}, Offer(tools=(TF,) * 28)),
        ({"tools": [F], "tool_choice": "none"}, Offer(choice="none")),
        ({"tools": [F, G], "tool_choice": "required"}, Offer(tools=(TF, TG), choice="required")),
        ({"tools": [F], "tool_choice": "any"}, Offer(tools=(TF,), choice="required")),
        ({"tools": [F], "parallel_tool_calls": False}, Offer(tools=(TF,), parallel=False)),
        ({"tools": [F], "parallel_tool_calls": None}, Offer(tools=(TF,))),
        ({"tools": [F, G], "tool_choice": NAMED}, Offer(tools=(TF, TG), choice="named", name="g", parallel=False)),
        (
            {"tools": [F, G], "tool_choice": {"type": "function", "name": "g"}},
            Offer(tools=(TF, TG), choice="named", name="g", parallel=False),
        ),
        (
            {
                "tools": [F, G],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [G]}},
            },
            Offer(tools=(TG,)),
        ),
        (
            {"tools": [F, G], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [G]}},
            Offer(tools=(TG,), choice="required"),
        ),
        ({"functions": [FUNCTION]}, Offer(tools=(TF,), parallel=False)),
        ({"functions": [FUNCTION], "function_call": "none"}, Offer(choice="none", parallel=False)),
        (
            {"functions": [FUNCTION], "function_call": {"name": "f"}},
            Offer(tools=(TF,), choice="named", name="f", parallel=False),
        ),
        ({"tools": [G], "functions": [FUNCTION]}, Offer(tools=(TG,))),
        ({"tools": [G, DRAW, F]}, Offer(tools=(TG, PICTURES, TF))),
        (
            {"tools": [G, DRAW], "tool_choice": DRAW},
            Offer(tools=(TG, PICTURES), choice="named", name=PICTURES.name, parallel=False),
        ),
        (
            {"tools": [G, DRAW], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [DRAW]}},
            Offer(tools=(PICTURES,), choice="required"),
        ),
        ({"tools": [G, DRAW], "tool_choice": "none"}, Offer(choice="none")),
    ],
)
def test_what_is_offered(fields: dict[str, Any], expected: Offer) -> None:
    assert offer(**fields) == expected


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"tool_choice": "required"}, InvalidValue, "tool_choice"),
        ({"tools": [F], "tool_choice": "sometimes"}, InvalidValue, "tool_choice"),
        ({"tools": [F], "tool_choice": NAMED}, InvalidValue, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "function"}}, InvalidValue, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "function", "function": {"name": 5}}}, InvalidValue, "tool_choice"),
        ({"tools": [F], "tool_choice": DRAW}, InvalidValue, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "custom", "name": "f"}}, Unsupported, "tool_choice.type"),
        ({"tools": [F], "tool_choice": {"type": "allowed_tools"}}, InvalidValue, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "allowed_tools", "tools": [G]}}, InvalidValue, "tool_choice"),
        (
            {"tools": [F], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": []}},
            InvalidValue,
            "tool_choice",
        ),
        ({"functions": [FUNCTION], "function_call": {"name": "g"}}, InvalidValue, "function_call"),
        ({"tools": [{"type": "web_search"}]}, Unsupported, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, InvalidValue, "tools[0].function"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as caught:
        offer(**fields)
    assert caught.value.fact("param") == param  # type: ignore[attr-defined]


def test_a_schema_that_is_too_large_is_refused() -> None:
    huge = {"type": "object", "description": "x" * 2**20}
    with pytest.raises(InvalidValue) as caught:
        offer(tools=[{"type": "function", "function": {"name": "f", "parameters": huge}}])
    assert caught.value.fact("param") == "tools[0].function.parameters"


def test_the_old_form_is_that_of_functions_alone() -> None:
    assert is_old_form(read(functions=[FUNCTION]))
    assert not is_old_form(read(functions=[FUNCTION], tools=[G]))
    assert not is_old_form(read())
