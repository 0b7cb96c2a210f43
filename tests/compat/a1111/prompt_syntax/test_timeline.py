import time

import pytest

from compat.a1111.prompt_syntax.limits import DEPTH
from compat.a1111.prompt_syntax.timeline import Timing, texts_of
from server.core.errors import InvalidValue
from tests.support.shared import golden, needs_shared

TWENTY = Timing(calls=20)


@pytest.mark.parametrize(
    ("written", "texts"),
    [
        ("", [(20, "")]),
        ("a cat", [(20, "a cat")]),
        ("[a:b:0.5]", [(10, "a"), (20, "b")]),
        ("[a:0.5]", [(10, ""), (20, "a")]),
        ("[a::0.5]", [(10, "a"), (20, "")]),
        ("[:0.5]", [(10, ""), (20, "")]),
        ("[a:b: 5 ]", [(5, "a"), (20, "b")]),
        ("[a:b:0]", [(20, "b")]),
        ("[a:b:-1]", [(20, "b")]),
        ("[a:b:30]", [(20, "a")]),
        ("[a:b:1.5]", [(20, "a")]),
        ("[a:b:0.99]", [(19, "a"), (20, "b")]),
        ("[a:b:.25]", [(5, "a"), (20, "b")]),
        ("[a:b:1e1]", [(10, "a"), (20, "b")]),
        ("[a:[b:c:0.8]:0.5]", [(10, "a"), (16, "b"), (20, "c")]),
        ("[(a:1.2):b:0.5]", [(10, "(a:1.2)"), (20, "b")]),
        ("([a:b:0.5]:1.2)", [(10, "(a:1.2)"), (20, "(b:1.2)")]),
        ("[[a]:b:0.5]", [(10, "[a]"), (20, "b")]),
        # not of the grammar: as written
        ("[a:b:]", [(20, "[a:b:]")]),
        ("a [b", [(20, "a [b")]),
        ("[a:b:c:0.5]", [(20, "[a:b:c:0.5]")]),
        ("[a|b:0.5]", [(20, "[a|b:0.5]")]),
        ("[a:b(c:0.5]", [(20, "[a:b(c:0.5]")]),
        ("[a:b:0.5 x]", [(20, "[a:b:0.5 x]")]),
        ("[a:b:(0.5)]", [(20, "[a:b:(0.5)]")]),
        ("a\\", [(20, "a\\")]),
        # brackets around that close nothing stay, what is inside still switches
        ("[x [a:b:0.5]", [(10, "[x a"), (20, "[x b")]),
        ("[a:b:0.5]]", [(10, "a]"), (20, "b]")]),
        ("([a:b:0.5]", [(10, "(a"), (20, "(b")]),
        ("[(x] [a:b:0.5]", [(10, "[(x] a"), (20, "[(x] b")]),
        ("[[a:b:0.5]:c:d:0.5]", [(10, "[a:c:d:0.5]"), (20, "[b:c:d:0.5]")]),
        # a bar that stands outside of an alternation spoils the whole text, other constructs too
        ("{a|b} [c:d:0.5]", [(20, "{a|b} [c:d:0.5]")]),
        ("(a|b) [c:d:0.5]", [(20, "(a|b) [c:d:0.5]")]),
        ("[a|b [c:d:0.5]", [(20, "[a|b [c:d:0.5]")]),
        # escapes stay for the next level and mean nothing here
        (r"\[a:b:0.5\]", [(20, r"\[a:b:0.5\]")]),
        (r"[a\:b:c:0.5]", [(10, r"a\:b"), (20, "c")]),
        ("[a\\\nb:c:0.5]", [(20, "[a\\\nb:c:0.5]")]),
    ],
)
def test_switches(written: str, texts: list[tuple[int, str]]) -> None:
    assert texts_of(written, TWENTY, "prompt") == texts


@pytest.mark.parametrize(
    ("written", "first"),
    [
        ("[a|b|]", ["a", "b", "", "a", "b"]),
        ("[a|[b|c]]", ["a", "c", "a", "c", "a"]),
        ("[[a|b]|c]", ["a", "c", "a", "c", "a"]),
        ("x[a|b]y", ["xay", "xby", "xay", "xby", "xay"]),
        ("[|]", ["", "", "", "", ""]),
    ],
)
def test_alternatives_take_turns_call_by_call(written: str, first: list[str]) -> None:
    texts = texts_of(written, TWENTY, "prompt")
    assert [end for end, _ in texts] == list(range(1, 21))
    assert [text for _, text in texts[:5]] == first


@pytest.mark.parametrize(
    ("written", "timing", "texts"),
    [
        ("[a:b:0.5]", Timing(calls=10, base_calls=20), [(10, "b")]),
        ("[a:b:1.5]", Timing(calls=10, base_calls=20), [(5, "a"), (10, "b")]),
        ("[a:b:25]", Timing(calls=10, base_calls=20), [(5, "a"), (10, "b")]),
        ("[a:b:2]", Timing(calls=10, base_calls=20), [(10, "b")]),
        ("[a:b:1.5]", Timing(calls=20, old_rule=True), [(1, "a"), (20, "b")]),
        ("[a:b:0.5]", Timing(calls=10, base_calls=20, old_rule=True), [(10, "a"), (20, "b")]),
    ],
)
def test_the_second_pass_counts_on(written: str, timing: Timing, texts: list[tuple[int, str]]) -> None:
    assert texts_of(written, timing, "prompt") == texts


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize(
    ("key", "timing"),
    [
        ("schedule_10", Timing(calls=10)),
        ("schedule_20", Timing(calls=20)),
        ("schedule_hires_base10_hr8", Timing(calls=8, base_calls=10)),
    ],
)
def test_recorded_schedules(key: str, timing: Timing) -> None:
    for case in golden("prompts.json")["prompts"]:
        got = [[end, text] for end, text in texts_of(case["prompt"], timing, "prompt")]
        assert got == case[key], case["prompt"]


def test_every_beginning_of_a_prompt_has_a_schedule() -> None:
    written = "a [b:(c:1.2):0.5] [d|[e|f]|] \\[g\\] (h [i:j:7]:1.1) [k::2] {x} [l"
    for end in range(len(written) + 1):
        texts = texts_of(written[:end], TWENTY, "prompt")
        assert [until for until, _ in texts] == sorted({until for until, _ in texts})
        assert texts[-1][0] == 20


@pytest.mark.parametrize("bracket", "([")
def test_too_many_open_brackets_are_refused(bracket: str) -> None:
    assert texts_of(bracket * DEPTH, TWENTY, "prompt") == [(20, bracket * DEPTH)]
    with pytest.raises(InvalidValue, match="deep"):
        texts_of(bracket * (DEPTH + 1), TWENTY, "prompt")


@pytest.mark.parametrize(
    "hostile",
    [
        "[]" * 32_000,
        "(" * 60 + ")[" * 30_000,
        "[:" * 30 + ":" * 60_000,
        "\\" * 64_000,
        "[a|b]" * 13_000,
        "[a|b][c|d|e][f|g|h|i|j]" * 2_000,
        "[a:b:0.5]" * 7_000,
        "[" + "|" * 64_000 + "]",
        "[a|" + "b" * 60_000 + "]",
    ],
)
def test_hostile_prompts_cost_little_time(hostile: str) -> None:
    began = time.process_time()
    try:
        texts_of(hostile, Timing(calls=2000), "prompt")
    except InvalidValue as error:
        assert error.fact("param") == "prompt"
    assert time.process_time() - began < 2
