import pytest

pytest.importorskip("llguidance")

from server.engines.text.output_parser import AnswerText, make_parser
from server.engines.text.reasoning import (
    HARMONY_THINK,
    MISTRAL_THINK,
    SEED_THINK,
    THINK,
    ReasoningSplitter,
    ThoughtForm,
    opens_thoughts,
    thought_form,
)
from server.engines.text.tool_formats.harmony import HARMONY
from server.engines.text.tool_formats.hermes import HERMES
from tests.support.parsing import STEPS, Short, feed, short

TABLE: list[tuple[str, bool, Short]] = [
    ("<think>\nhm <b> ok\n</think>\n\nanswer <think> x", False, [("", "hm <b> ok"), "answer <think> x"]),
    ("hm\n</think>\n\nanswer", True, [("", "hm"), "answer"]),
    ("<think>\nhm</think>a", True, [("", "hm"), "a"]),
    ("<think></think>\n\nx", False, ["x"]),
    ("\n</think>\n\nx", True, ["x"]),
    ("no thoughts", False, ["no thoughts"]),
    ("\n\nx", False, ["\n\nx"]),
    ("<thi", False, ["<thi"]),
    ("a < b</think>c", True, [("", "a < b"), "c"]),
    ("cut off </thi", True, [("", "cut off </thi")]),
    ("<think>only", False, [("", "only")]),
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("text", "opened", "expected"), TABLE)
def test_thoughts_are_told_apart(text: str, opened: bool, expected: Short, step: int) -> None:
    assert short(feed(ReasoningSplitter(AnswerText(), THINK, opened=opened), text, step)) == expected


def test_thinking_lasts_from_mark_to_mark() -> None:
    parser = ReasoningSplitter(AnswerText(), THINK, opened=False)
    states = []
    for text in ("<think>", "a", "</thi", "nk>", "b"):
        parser.feed(text)
        states.append(parser.thinking)
    assert states == [True, True, True, False, False]


@pytest.mark.parametrize("step", STEPS)
def test_calls_follow_thoughts(step: int) -> None:
    text = '<think>call <tool_call>?</think>\n<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    parser = HERMES.parser((), streams=True)
    assert short(feed(ReasoningSplitter(parser, THINK, opened=False), text, step)) == [
        ("", "call <tool_call>?"),
        ("f", "{}"),
    ]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("form", "thoughts", "opened", "text", "expected"),
    [
        (None, THINK, False, "<think>a</think>b", "<think>\na\n</think>\n\nb"),
        (None, THINK, True, "a</think>b", "a\n</think>\n\nb"),
        (
            HARMONY,
            HARMONY_THINK,
            False,
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
            "<think>\na\n</think>\n\nb",
        ),
    ],
)
def test_thoughts_that_are_not_split_off_stay_in_the_text(
    form: object, thoughts: ThoughtForm, opened: bool, text: str, expected: str, step: int
) -> None:
    harmony = HARMONY if form is HARMONY else None
    parser = make_parser(harmony, (), thoughts, opened=opened, split=False, streams=False)
    assert parser is not None
    assert short(feed(parser, text, step)) == [expected]


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("{{ '<think>' }}...</think>", THINK),
        ("[THINK]x[/THINK]", MISTRAL_THINK),
        ("<seed:think></seed:think>", SEED_THINK),
        ("<|channel|>analysis<|message|>", HARMONY_THINK),
        ("<think> alone", None),
        ("", None),
    ],
)
def test_the_template_tells_how_thoughts_are_marked(template: str, form: ThoughtForm | None) -> None:
    assert thought_form(template) is form


@pytest.mark.parametrize(
    ("prompt", "form", "opened"),
    [
        ("<|im_start|>assistant\n<think>\n", THINK, True),
        ("<|im_start|>assistant\n", THINK, False),
        ("<think>\n\n</think>\n\n", THINK, False),
        ("<think>", None, False),
        ("<|channel|>analysis<|message|>", HARMONY_THINK, False),
    ],
)
def test_a_prompt_may_end_within_thoughts(prompt: str, form: ThoughtForm | None, opened: bool) -> None:
    assert opens_thoughts(prompt, form) is opened


def test_without_tools_and_thoughts_there_is_no_parser() -> None:
    assert make_parser(None, (), None, opened=False, split=True, streams=False) is None
    assert make_parser(HERMES, (), None, opened=False, split=True, streams=False) is None
