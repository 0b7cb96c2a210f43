from typing import Any

import pytest

from server.engines.text.conversation_turns import Spread, spread

Shown = list[str]
CALLS = ("f", "g")


def call(name: str) -> dict[str, Any]:
    return {"id": f"id_{name}", "type": "function", "function": {"name": name, "arguments": {}}}


TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": [call("f"), call("g")]},
    {"role": "tool", "content": "1", "tool_call_id": "id_g"},
    {"role": "tool", "content": "2", "tool_call_id": "id_f"},
    {"role": "tool", "content": "3", "tool_call_id": "id_h"},
    {"role": "assistant", "content": "done"},
]


def shown(messages: list[dict[str, Any]]) -> Shown:
    """Return each message as its role's first letter, its content, the thoughts in brackets and the calls."""
    return [
        f"{message['role'][0]} {message['content']}"
        + (f" ({message['reasoning_content']})" if "reasoning_content" in message else "")
        + "".join(f" {one['function']['name']}()" for one in message.get("tool_calls", ()))
        for message in messages
    ]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Spread(), ["u hi", "a I look. (hm) f() g()", "t 1", "t 2", "t 3", "a done"]),
        (Spread("apart"), ["u hi", "a I look.", "a  (hm) f() g()", "t 1", "t 2", "t 3", "a done"]),
        (Spread("left"), ["u hi", "a  (hm) f() g()", "t 1", "t 2", "t 3", "a done"]),
        (Spread(single=True), ["u hi", "a I look. (hm) f()", "t 2", "a  g()", "t 1", "t 3", "a done"]),
        (Spread("apart", single=True), ["u hi", "a I look.", "a  (hm) f()", "t 2", "a  g()", "t 1", "t 3", "a done"]),
    ],
)
def test_calls_are_spread_over_turns(how: Spread, expected: Shown) -> None:
    before = shown(TALK)
    assert shown(spread(TALK, how)) == expected
    assert shown(TALK) == before


@pytest.mark.parametrize("how", [Spread(), Spread("apart"), Spread("left", single=True)])
def test_a_conversation_without_calls_stays_as_it_is(how: Spread) -> None:
    talk = [TALK[0], TALK[-1], {"role": "tool", "content": "x"}]
    assert spread(talk, how) == talk
    assert spread([], how) == []
