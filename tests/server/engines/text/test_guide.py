import json

import numpy as np
import pytest

pytest.importorskip("llguidance")

from server.core.text import ChatRequest, JsonConstraint, Tool
from server.engines.text.constraints import Constraints
from server.engines.text.guide import Guide
from server.engines.text.landing import Landing, single_characters
from server.engines.text.reply_plan import ReplyPlanner
from tests.support.spelled_words import SpelledWords

HERMES = 'tools <tool_call>{"name": x, "arguments": y}</tool_call>'
THINKING = HERMES + "<think></think>"
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": False}
TOOLS = (Tool(name="f", parameters=json.dumps(SCHEMA)),)
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "x"}}\n</tool_call>'


class Walk:
    """A reply that is written by hand, character by character, unless its guide forces a token."""

    def __init__(self, template: str, *, limit: int = 1000, opened: bool = False, **fields: object) -> None:
        self.words = SpelledWords(words=["</think>", "l>!"])
        constraints = Constraints(self.words)
        request = ChatRequest(model="m", messages=(), **fields)  # type: ignore[arg-type]
        plan = ReplyPlanner(template, constraints, {}).plan(request, opened=opened)
        self.parser = plan.parser()
        landing = Landing(self.words.piece, single_characters(self.words.size, self.words.piece))
        self.guide = Guide(plan, self.parser, constraints, limit=limit, landing=landing if plan.ends_as_json else None)
        self.text = ""

    def write(self, text: str) -> None:
        for char in text:
            self.step(ord(char))

    def step(self, token: int) -> None:
        piece = self.words.piece(token).decode()
        was_thinking = self.parser is not None and self.parser.thinking
        self.guide.accept(token)
        if self.parser is not None:
            self.parser.feed(piece)
        self.guide.observe(piece, was_thinking=was_thinking)
        self.text += piece

    def follow(self) -> None:
        while (token := self.guide.forced()) is not None:
            self.step(token)

    def allowed(self) -> set[str] | None:
        """Return what may come next, None for anything."""
        row = np.zeros(self.words.size, np.float32)
        ids = self.guide.restrict(row)
        if ids is None and np.isfinite(row).all():
            return None
        return self.words.texts(np.flatnonzero(np.isfinite(row)) if ids is None else ids)


def test_text_is_free_until_a_call_begins_and_after_it() -> None:
    walk = Walk(HERMES, tools=TOOLS)
    walk.write("Let me see <tool_cal")
    assert walk.allowed() is None
    walk.write('l>\n{"name": "f", "arguments": {"a": "')
    assert walk.allowed() == {"x", "y"}
    walk.write('x"}}\n</tool_call>')
    assert walk.allowed() is None
    assert not walk.guide.is_over
    walk.write("\n" + CALL[: CALL.index("x")])
    assert walk.allowed() == {"x", "y"}


def test_a_single_call_is_the_end_when_there_must_not_be_more() -> None:
    walk = Walk(HERMES, tools=TOOLS, parallel_tools=False)
    walk.write(CALL[:-1])
    assert not walk.guide.is_over
    walk.write(CALL[-1])
    assert walk.guide.is_over


def test_marks_within_thoughts_are_not_calls() -> None:
    walk = Walk(THINKING, tools=TOOLS)
    walk.write("<think>I could <tool_call>\n")
    assert walk.allowed() is None
    walk.write("but no</think>" + CALL[: CALL.index("x")])
    assert walk.allowed() == {"x", "y"}


def test_bare_json_is_a_call_only_at_the_beginning() -> None:
    call = '{"name": "f", "arguments": {"a": "'
    begin, later = Walk("", tools=TOOLS), Walk("", tools=TOOLS)
    begin.write("\n" + call)
    assert begin.allowed() == {"x", "y"}
    later.write("It is " + "very " * 40 + call)
    assert later.allowed() is None


def test_what_begins_unlike_a_call_within_one_token_is_left_alone() -> None:
    walk = Walk(HERMES, tools=TOOLS)
    walk.write("<tool_cal")
    walk.step(walk.words.tokens("l>!")[0])
    assert walk.text == "<tool_call>!"
    assert walk.allowed() is None


def test_a_reply_that_is_complete_is_over() -> None:
    walk = Walk("", constraint=JsonConstraint(schema=json.dumps(SCHEMA)))
    walk.write('{"a": "x"')
    assert not walk.guide.is_over
    walk.write("}")
    assert walk.guide.is_over
    assert not walk.guide.landed


@pytest.mark.parametrize("budget", [0, 1, 5])
@pytest.mark.parametrize("opened", [False, True])
def test_thoughts_end_when_their_budget_is_used_up(budget: int, opened: bool) -> None:
    walk = Walk(THINKING, opened=opened, reasoning_budget=budget)
    if not opened:
        walk.write("<think>")
    written = 0
    while walk.parser is not None and walk.parser.thinking:
        walk.follow()
        if walk.parser.thinking:
            walk.write("h")
            written += 1
    walk.follow()
    assert walk.text.endswith("\n</think>\n\n")
    assert written <= max(budget, 1)
    assert walk.allowed() is None


def test_thoughts_leave_room_for_what_was_promised() -> None:
    walk = Walk(THINKING, opened=True, limit=100, constraint=JsonConstraint(schema=json.dumps(SCHEMA)))
    for _ in range(100):
        walk.follow()
        if walk.parser is None or not walk.parser.thinking:
            break
        walk.write("h")
    assert 50 <= len(walk.text) < 70
    walk.write('{"a": "')
    assert walk.allowed() == {"x", "y"}


def test_a_promise_is_kept_before_the_limit() -> None:
    walk = Walk("", limit=60, constraint=JsonConstraint(schema='{"type": "object"}'))
    walk.write('{"a": "')
    while not walk.guide.is_over:
        walk.follow()
        if not walk.guide.is_over:
            walk.write("z")
    assert walk.guide.landed
    assert len(walk.text) <= 60
    assert json.loads(walk.text)
