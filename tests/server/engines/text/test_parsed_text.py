import re

import pytest

pytest.importorskip("llguidance")

from server.core.text import ReasoningDelta, TextDelta, Tool, ToolCallDelta
from server.engines.text.parsed_text import Delta, ParsedText, new_id
from server.engines.text.reasoning import THINK, ReasoningSplitter
from server.engines.text.stop_strings import StopStrings
from server.engines.text.token_trail import TokenTrail
from server.engines.text.tool_formats.hermes import HERMES

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "stop"}}\n</tool_call>'


def parsed(text: str, *, stops: tuple[str, ...] = (), many: bool = True, streams: bool = True) -> list[Delta]:
    """Feed a text character by character, each a token, and return the events."""
    trail = TokenTrail()
    parser = ReasoningSplitter(HERMES.parser((Tool(name="f"),), streams=streams), THINK, opened=False)
    made = ParsedText(3, parser, StopStrings(stops), trail, many=many)
    events: list[Delta] = []
    for char in text:
        trail.push(1)
        events += made.feed(char)
        if made.is_over:
            return events
    return events + made.finish("")


def test_calls_have_an_id_and_a_name_once_and_their_arguments_after_them() -> None:
    calls = [event for event in parsed(f"{CALL}\n{CALL}") if isinstance(event, ToolCallDelta)]
    for index in (0, 1):
        first, *rest = [call for call in calls if call.index == index]
        assert re.fullmatch(r"call_[0-9A-Za-z]{9,}", first.id)
        assert (first.name, first.arguments) == ("f", "")
        assert all((call.id, call.name) == ("", "") for call in rest)
        assert "".join(call.arguments for call in rest) == '{"a": "stop"}'
    assert calls[0].id != next(call.id for call in calls if call.index == 1)


def test_stop_strings_are_looked_for_in_the_answer_alone() -> None:
    events = parsed(f"<think>stop it</think>go stop{CALL}", stops=("stop",))
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "stop it"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "go "
    assert not any(isinstance(event, ToolCallDelta) for event in events)
    whole = parsed(CALL, stops=("stop",))
    assert "".join(event.arguments for event in whole if isinstance(event, ToolCallDelta)) == '{"a": "stop"}'


def test_what_a_stop_string_held_back_comes_before_a_call() -> None:
    events = parsed(f"x st{CALL}", stops=("stop",))
    kinds = [type(event) for event in events]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "x st"
    assert kinds.index(ToolCallDelta) > max(place for place, kind in enumerate(kinds) if kind is TextDelta)


def test_of_calls_that_must_not_be_many_there_is_one() -> None:
    events = parsed(f"{CALL}\n{CALL}", many=False)
    assert {event.index for event in events if isinstance(event, ToolCallDelta)} == {0}


@pytest.mark.parametrize("streams", [False, True])
def test_every_event_tells_its_choice_and_no_token_is_told_of_twice(streams: bool) -> None:
    text = f"<think>hm</think>answer {CALL}"
    events = parsed(text, streams=streams)
    assert {event.choice for event in events} == {3}
    assert len(text) - len("</tool_call>}\n") <= sum(event.tokens for event in events) <= len(text)
    assert all(not isinstance(event, TextDelta | ReasoningDelta) or event.text for event in events)


def test_ids_differ() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000
