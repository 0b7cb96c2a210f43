import pytest

pytest.importorskip("llguidance")

from server.core.text import Tool
from server.engines.text.constraints import Constraints
from server.engines.text.output_parser import AnswerText, make_parser
from server.engines.text.reasoning import (
    APERTUS_THINK,
    APRIEL_THINK,
    COMMAND_THINK,
    GEMMA_THINK,
    HARMONY_THINK,
    HY_THINK,
    KIMI_THINK,
    MINIMAX_THINK,
    MISTRAL_THINK,
    MUSE_THINK,
    SEED_THINK,
    SOLAR_THINK,
    THINK,
    ReasoningSplitter,
    ThoughtForm,
    opens_thoughts,
    thought_form,
    thought_grammar,
)
from server.engines.text.tool_formats.base import ToolFormat
from server.engines.text.tool_formats.harmony import HARMONY
from server.engines.text.tool_formats.hermes import HERMES
from server.engines.text.tool_formats.invoke import MUSE
from server.engines.text.tool_formats.kimi import KIMI_K3
from server.engines.text.tool_formats.lark import LarkWriter
from server.engines.text.tool_formats.listed import APERTUS, APRIEL, COMMAND_R7B
from server.engines.text.tool_formats.solar import SOLAR
from tests.support.parsing import STEPS, Short, feed, short
from tests.support.spelled_words import SpelledWords

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
    ("</think>answer </think> x", False, ["answer </think> x"]),
    ("\n</think>\n\n<think>x", False, ["<think>x"]),
    ("</thi", False, ["</thi"]),
]
ALL = (
    *(THINK, SEED_THINK, MISTRAL_THINK, GEMMA_THINK, MINIMAX_THINK, HY_THINK, COMMAND_THINK, KIMI_THINK),
    *(APRIEL_THINK, APERTUS_THINK, MUSE_THINK, SOLAR_THINK),
)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("text", "opened", "expected"), TABLE)
def test_thoughts_are_told_apart(text: str, opened: bool, expected: Short, step: int) -> None:
    assert short(feed(ReasoningSplitter(AnswerText(), THINK, opened=opened), text, step)) == expected


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("form", ALL)
def test_every_form_is_told_apart_and_held_to_by_its_grammar(form: ThoughtForm, step: int) -> None:
    text = f"{form.opening}hm{form.closing}{form.after}yes"
    pieces = feed(ReasoningSplitter(AnswerText(), form, opened=False), text, step)
    assert short(pieces) == [("", "hm"), f"{form.after}yes"]
    opened = feed(ReasoningSplitter(AnswerText(), form, opened=True), text.removeprefix(form.opening), step)
    assert opened == pieces
    write = LarkWriter({})
    grammar = write.grammar(f'{thought_grammar(write, form, opened=False)} "yes"')
    mask = Constraints(SpelledWords()).lark_mask(grammar, "tools")
    assert mask.copy().follow(text)
    assert mask.copy().follow("yes")
    assert form.ending.strip().startswith(form.closing)


@pytest.mark.parametrize("step", STEPS)
def test_thoughts_that_are_broken_by_a_call_end_with_it(step: int) -> None:
    text = '<|inner_prefix|>hm<|tools_prefix|>[{"f": {}}]<|tools_suffix|>'
    parser = make_parser(APERTUS, (Tool(name="f"),), APERTUS_THINK, opened=False, split=True, streams=False)
    assert parser is not None
    assert short(feed(parser, text, step)) == [("", "hm"), ("f", "{}")]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("form", "thoughts", "text"),
    [
        (SOLAR, SOLAR_THINK, "<|think|>hm<|end|><|begin|>assistant<|content|>yes<|end|>"),
        (MUSE, MUSE_THINK, " to=self<|message|>hm<|eom|><|start|>assistant to=user<|message|>yes<|eot|>"),
        (
            KIMI_K3,
            KIMI_THINK,
            "<|open|>think<|sep|>hm<|close|>think<|sep|><|open|>response<|sep|>yes<|close|>response<|sep|>",
        ),
        (APRIEL, APRIEL_THINK, "Here are my reasoning steps:\nhm\n[BEGIN FINAL RESPONSE]\nyes[END FINAL RESPONSE]"),
        (
            COMMAND_R7B,
            COMMAND_THINK,
            "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>yes<|END_RESPONSE|>",
        ),
    ],
)
def test_marks_around_answers_are_dropped_though_there_are_no_tools(
    form: ToolFormat, thoughts: ThoughtForm, text: str, step: int
) -> None:
    parser = make_parser(form, (), thoughts, opened=False, split=True, streams=False)
    assert parser is not None
    assert short(feed(parser, text, step)) == [("", "hm"), "yes"]


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
        ("<|channel>thought\n<channel|>", GEMMA_THINK),
        ("'<mm:think>' </mm:think>", MINIMAX_THINK),
        ("':opensource' <think{}> </think{}>", HY_THINK),
        ("<|START_THINKING|><|END_THINKING|>", COMMAND_THINK),
        ("open_tag('think') <|open|> <|sep|> <|close|>", KIMI_THINK),
        ("<|inner_prefix|> <|inner_suffix|>", APERTUS_THINK),
        ("say [BEGIN FINAL RESPONSE]", APRIEL_THINK),
        (" to=self<|message|>", MUSE_THINK),
        ("<|begin|>assistant<|think|>", SOLAR_THINK),
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
