"""Whole requests from the wire to the core, and whole answers back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from compat.anthropic import wire
from compat.anthropic.convert import collect, count_to_core, to_core
from compat.anthropic.stream import Asked, MessageEncoder
from server.core.errors import Cancelled, InvalidValue, Unsupported
from server.core.jobs import Event
from server.core.text import JsonConstraint, ReasoningDelta, TextDelta, TextFinished, TextStarted, ToolCallDelta, Usage
from tests.compat.anthropic.door import HELLO, TOOL, request
from tests.support.aio import asynchronous

THINK = {"type": "enabled", "budget_tokens": 20}


def test_sampling() -> None:
    fields = {"temperature": 0.5, "top_k": -1, "top_p": 0.9, "stop_sequences": ["x", ""]}
    sampling = to_core(request(**fields)).sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.5, 0, 0.9)
    assert (sampling.max_tokens, sampling.stop) == (50, ("x",))
    assert to_core(request()).sampling.temperature is None


@pytest.mark.parametrize(
    ("choice", "core"),
    [
        (None, ("auto", "", True)),
        ({"type": "auto"}, ("auto", "", True)),
        ({"type": "auto", "disable_parallel_tool_use": True}, ("auto", "", False)),
        ({"type": "any"}, ("required", "", True)),
        ({"type": "tool", "name": "look"}, ("named", "look", True)),
        ({"type": "none"}, ("none", "", True)),
    ],
)
def test_tool_choice(choice: Any, core: tuple[str, str, bool]) -> None:
    work = to_core(request(tools=[TOOL], tool_choice=choice))
    assert (work.tool_choice, work.tool_name, work.parallel_tools) == core


@pytest.mark.parametrize(
    ("thinking", "enabled", "budget"),
    [(None, False, 0), ({"type": "disabled"}, False, 0), (THINK, True, 20), ({"type": "adaptive"}, True, None)],
)
def test_thinking(thinking: Any, enabled: bool, budget: int | None) -> None:
    work = to_core(request(thinking=thinking))
    assert (work.template_options["enable_thinking"], work.reasoning_budget) == (enabled, budget)


@pytest.mark.parametrize("effort", ["high", "xhigh", "max"])
def test_efforts_above_what_templates_know(effort: str) -> None:
    assert to_core(request(output_config={"effort": effort})).template_options["reasoning_effort"] == "high"


def test_the_form_of_the_answer() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    expected = JsonConstraint(schema='{"type":"object"}', param="output_config.format.schema")
    assert to_core(request(output_config={"format": form})).constraint == expected
    old = to_core(request(output_format=form)).constraint
    assert old == JsonConstraint(schema='{"type":"object"}', param="output_format.schema")


def test_a_last_assistant_message_is_continued_unless_it_is_empty_or_a_call() -> None:
    def last(content: Any) -> bool:
        return to_core(request(messages=[*HELLO, {"role": "assistant", "content": content}])).continue_final

    assert last("The answer is (")
    assert not last("")
    assert not last([{"type": "tool_use", "id": "t", "name": "look"}])
    assert to_core(request(messages=[*HELLO, {"role": "assistant", "content": ""}])).messages[-1].role == "user"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 50}}, "thinking.budget_tokens"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice.name"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
    ],
)
def test_wrong_values_name_their_place(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        to_core(request(**fields))
    assert caught.value.fact("param") == param


@pytest.mark.parametrize("name", ["mcp_servers", "container"])
def test_refused_fields(name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        to_core(request(**{name: ["x"]}))
    assert caught.value.fact("param") == name
    to_core(request(**{name: []}))


def test_a_count_asks_for_the_same_prompt() -> None:
    asked = request(system="s", tools=[TOOL], thinking=THINK)
    counted = count_to_core(asked).chat
    assert counted is not None
    answered = to_core(asked)
    for field in ("messages", "tools", "template_options", "continue_final", "model"):
        assert getattr(counted, field) == getattr(answered, field)


async def play(*events: Event) -> AsyncIterator[Event]:
    for event in events:
        yield event


def encoder(**fields: Any) -> MessageEncoder:
    return MessageEncoder(Asked(id="msg_1", model="tiny", thoughts=True, **fields))


def finished(reason: Any = "stop") -> TextFinished:
    return TextFinished(choice=0, reason=reason, usage=Usage(prompt_tokens=5, completion_tokens=4, cached_tokens=3))


@asynchronous
async def test_a_whole_answer_is_the_stream_put_together() -> None:
    answer = await collect(
        play(
            TextStarted(prompt_tokens=5),
            ReasoningDelta(choice=0, text="h"),
            ReasoningDelta(choice=0, text="m"),
            TextDelta(choice=0, text="I "),
            TextDelta(choice=0, text="look"),
            ToolCallDelta(choice=0, index=0, id="a", name="look"),
            ToolCallDelta(choice=0, index=0, arguments='{"at"'),
            ToolCallDelta(choice=0, index=0, arguments=':"x"}'),
            ToolCallDelta(choice=0, index=1, id="b", name="go", arguments="{}"),
            finished("tool_calls"),
        ),
        encoder(),
    )
    assert answer.content == (
        wire.ThinkingBlock("hm", "unsigned"),
        wire.TextBlock("I look"),
        wire.ToolUseBlock("a", "look", {"at": "x"}),
        wire.ToolUseBlock("b", "go", {}),
    )
    assert (answer.stop_reason, answer.id) == ("tool_use", "msg_1")
    assert answer.usage == wire.Usage(input_tokens=2, cache_read_input_tokens=3, output_tokens=4)


@asynchronous
async def test_a_call_that_was_cut_off_has_no_input() -> None:
    call = ToolCallDelta(choice=0, index=0, id="a", name="look", arguments='{"at": "x')
    answer = await collect(play(TextStarted(prompt_tokens=5), call, finished("length")), encoder())
    assert answer.content == (wire.ToolUseBlock("a", "look", {}),)
    assert answer.stop_reason == "max_tokens"


@asynchronous
async def test_an_answer_without_an_end_was_cancelled() -> None:
    with pytest.raises(Cancelled):
        await collect(play(TextStarted(prompt_tokens=5), TextDelta(choice=0, text="x")), encoder())
