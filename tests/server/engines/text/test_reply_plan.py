import json

import pytest

pytest.importorskip("llguidance")

from server.core.errors import InvalidValue
from server.core.text import ChatRequest, JsonConstraint, RegexConstraint, Tool
from server.engines.text.constraints import Constraints
from server.engines.text.reply_plan import MOST_TOOLS, ReplyPlan, ReplyPlanner
from tests.support.spelled_words import SpelledWords

HERMES = 'tools <tool_call>{"name": x, "arguments": y}</tool_call>'
THINKING = HERMES + "<think></think>"
HARMONY = "<|start|><|channel|>analysis<|message|>"
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOLS = (Tool(name="f", parameters=json.dumps(PARAMETERS)), Tool(name="g"))
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'
JSON = JsonConstraint(schema='{"type": "array"}')


def plan(template: str, *, opened: bool = False, **fields: object) -> ReplyPlan:
    words = SpelledWords()
    request = ChatRequest(model="m", messages=(), **fields)  # type: ignore[arg-type]
    return ReplyPlanner(template, Constraints(words), words.control_ids).plan(request, opened=opened)


def admits(made: ReplyPlan, text: str) -> bool:
    assert made.mask is not None
    mask = made.mask.copy()
    return mask.follow(text) and mask.may_end


@pytest.mark.parametrize(
    ("fields", "admitted", "refused"),
    [
        ({"tools": TOOLS, "tool_choice": "required"}, [CALL, OTHER, f"{CALL}\n{OTHER}"], ["hello", "[]", ""]),
        ({"tools": TOOLS, "tool_choice": "required", "parallel_tools": False}, [CALL], [f"{CALL}\n{OTHER}"]),
        ({"tools": TOOLS, "tool_choice": "named", "tool_name": "f"}, [CALL], [OTHER]),
        ({"tools": TOOLS, "tool_choice": "required", "constraint": JSON}, [CALL], ["[]"]),
        ({"tools": TOOLS, "constraint": JSON}, [CALL, "[1]"], ["hello"]),
        ({"tools": TOOLS, "tool_choice": "none", "constraint": JSON}, ["[1]"], [CALL]),
        ({"constraint": JSON}, ["[1]"], ["{}", CALL]),
        ({"constraint": RegexConstraint(pattern="a+")}, ["aa"], ["ab", ""]),
    ],
)
def test_what_a_reply_is_held_to(fields: dict[str, object], admitted: list[str], refused: list[str]) -> None:
    made = plan(HERMES, **fields)
    assert [text for text in admitted if not admits(made, text)] == []
    assert [text for text in refused if admits(made, text)] == []
    thinking = plan(THINKING, **fields)
    assert all(admits(thinking, text) and admits(thinking, f"<think>\nhm {{\n</think>\n\n{text}") for text in admitted)
    opened = plan(THINKING, opened=True, **fields)
    assert all(admits(opened, f"hm\n</think>\n\n{text}") and not admits(opened, text) for text in admitted)


def test_harmony_answers_and_calls_in_its_channels() -> None:
    answer = "<|channel|>final<|message|>[1]"
    call = '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}'
    thoughts = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
    made = plan(HARMONY, constraint=JSON, tools=TOOLS)
    for text in (answer, call, thoughts + answer, thoughts + call):
        assert admits(made, text)
    assert not admits(made, "[1]")
    assert plan(HARMONY).parser() is not None


def test_without_a_promise_only_calls_are_held_and_only_from_their_mark_on() -> None:
    made = plan(HERMES, tools=TOOLS)
    assert made.mask is None and made.call_mask is not None
    assert made.call_mask.follow(CALL)
    assert made.call_mask.is_complete


def test_calls_in_one_section_are_held_together() -> None:
    """A second call could not follow the end of the section."""
    one, two = '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}', ', {"name": "g", "arguments": {}}'
    many = plan("[TOOL_CALLS] [", tools=TOOLS).call_mask
    assert many is not None
    assert many.copy().follow(f"{one}{two}]") and many.copy().follow(f"{one}]")
    single = plan("[TOOL_CALLS] [", tools=TOOLS, parallel_tools=False).call_mask
    assert single is not None
    assert not single.copy().follow(f"{one}{two}]") and single.copy().follow(f"{one}]")


def test_a_schema_that_cannot_be_promised_is_refused_only_where_it_was_promised() -> None:
    tools = (Tool(name="f", parameters='{"type": "object", "properties": {"a": {"uniqueItems": true}}}'),)
    assert plan(HERMES, tools=tools).call_mask is not None
    with pytest.raises(InvalidValue) as refused:
        plan(HERMES, tools=tools, tool_choice="required")
    assert refused.value.fact("param") == "tools"
    broken = (Tool(name="f", parameters='{"type": "object", "properties": {"a": {"type": "nonsense"}}}'),)
    made = plan(HERMES, tools=broken)
    assert made.call_mask is None and made.parser() is not None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "named", "tool_name": "h"}, "tool_choice"),
        ({"tools": TOOLS[:1] * (MOST_TOOLS + 1)}, "tools"),
        ({"constraint": JsonConstraint(schema='{"type": "nonsense"}', param="format")}, "format"),
    ],
)
def test_what_cannot_be_done_is_refused(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        plan(HERMES, **fields)
    assert refused.value.fact("param") == param


def test_a_plain_chat_is_free() -> None:
    made = plan(HERMES)
    assert (made.mask, made.call_mask, made.parser()) == (None, None, None)
    assert plan(HERMES, tools=TOOLS, tool_choice="none").parser() is None


def test_many_tools_take_no_time_to_speak_of() -> None:
    properties = {f"p{number}": {"type": "string", "description": "x" * 30} for number in range(12)}
    parameters = json.dumps({"type": "object", "properties": properties, "required": ["p1"]})
    tools = tuple(Tool(name=f"tool{number}", parameters=parameters) for number in range(28))
    made = plan("", tools=tools)
    assert made.call_mask is not None
    assert made.call_mask.follow('{"name": "tool27", "arguments": {"p1": ""}}')
