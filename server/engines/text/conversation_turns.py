"""Messages with calls, spread over as many turns as a chat template needs to show all that is in them. Pure.

Some templates take one call in a message, some drop the calls of a message that says something too, and some refuse it.

    assistant "I look." f() g()         becomes      assistant "I look."
    tool 1                                           assistant f()
    tool 2                                           tool 1
                                                     assistant g()
                                                     tool 2
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from server.engines.text.chat_template import Json


class Spread(NamedTuple):
    """What becomes of a message with calls.

    What it says stays `with` the calls, stands `apart` in a turn before them, or is `left` out. With `single` each call
    has a turn of its own, followed by its result.
    """

    said: Literal["with", "apart", "left"] = "with"
    single: bool = False


# In the order of how much of a conversation stays as it is.
SPREADS = (
    Spread("with"),
    Spread("apart"),
    Spread("left"),
    Spread("with", single=True),
    Spread("apart", single=True),
    Spread("left", single=True),
)


def spread(messages: Sequence[Json], how: Spread) -> list[Json]:
    """Return the conversation with all its messages with calls spread."""
    out: list[Json] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if not message.get("tool_calls"):
            out.append(message)
            continue
        if how.said != "with" and message["content"]:
            if how.said == "apart":
                out.append({"role": message["role"], "content": message["content"]})
            message = {**message, "content": ""}
        if not how.single:
            out.append(message)
            continue
        results: list[Json] = []
        while at < len(messages) and messages[at]["role"] == "tool":
            results.append(messages[at])
            at += 1
        out += _one_by_one(message, results)
    return out


def _one_by_one(message: Json, results: Sequence[Json]) -> Iterator[Json]:
    """Yield a turn for each call with its result behind it; results of no call stay at the end."""
    left = list(results)
    for number, call in enumerate(message["tool_calls"]):
        first = {key: value for key, value in message.items() if number == 0 or key in ("role", "name")}
        yield {"content": "", **first, "tool_calls": [call]}
        mine = [result for result in left if result.get("tool_call_id") == call["id"]]
        left = [result for result in left if result.get("tool_call_id") != call["id"]]
        yield from mine
    yield from left
