"""Sizes of files, docstrings, and that tests lie where what they test lies."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(file for top in ("server", "compat") for file in (ROOT / top).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
THINK_AT = 400
NEVER_OVER = 600

LONG_FOR_A_REASON: dict[str, str] = {}
"""Modules over 400 lines with the reason why they are not split; over 600 no reason helps.

Test modules are lists of cases: for them only the upper bound counts.
"""

TIME_IS_THE_SUBJECT = {
    "tests/server/test_notify.py": "a loop that stands still is what is tested",
    "tests/house/test_hostile_bodies.py": "health is asked while big bodies are read, with a breath between",
    "tests/server/http/test_gate.py": "that a limit does not strike can only be seen after its time",
}
"""Tests that let time pass; all others wait for events."""

OF_THE_WHOLE_FOLDER = ("client", "fuzz")
"""Tests of a folder's modules together: through the foreign program's own client, and with random input."""


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@cache
def lines_in(file: Path) -> int:
    return len(file.read_text().splitlines())


def is_table(file: Path) -> bool:
    """Tell whether a module holds nothing but data."""
    return not any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree_of(file)))


def test_no_file_is_longer_than_anybody_reads() -> None:
    long = {name_of(file): lines_in(file) for file in [*SOURCES, *TESTS] if lines_in(file) > NEVER_OVER}
    assert {name: count for name, count in long.items() if not is_table(ROOT / name)} == {}


def test_long_modules_have_a_reason() -> None:
    long = {name_of(file): lines_in(file) for file in SOURCES if lines_in(file) > THINK_AT and not is_table(file)}
    assert {name: count for name, count in long.items() if name not in LONG_FOR_A_REASON} == {}
    assert [name for name in LONG_FOR_A_REASON if name not in long] == [], "a reason that is no longer needed"


def test_modules_say_what_they_are_for() -> None:
    assert [name_of(file) for file in SOURCES if not ast.get_docstring(tree_of(file))] == []


@pytest.mark.parametrize("top", ["server", "compat"])
def test_tests_lie_where_what_they_test_lies(top: str) -> None:
    """`tests/server/service/test_loop.py` tests `server/service/loop.py`, or a part of it: `test_loop_crashes.py`."""
    astray = []
    for test in (ROOT / "tests" / top).rglob("test_*.py"):
        folder = ROOT / top / test.parent.relative_to(ROOT / "tests" / top)
        subject = test.stem.removeprefix("test_")
        known = {found.stem for found in folder.glob("*")} | {folder.name, *OF_THE_WHOLE_FOLDER}
        if not folder.exists() or not any(subject == name or subject.startswith(f"{name}_") for name in known):
            astray.append(name_of(test))
    assert astray == []


def test_test_folders_are_packages() -> None:
    assert {name_of(test.parent) for test in TESTS if not (test.parent / "__init__.py").exists()} == set()


def test_no_module_changes_its_globals() -> None:
    guilty = [
        f"{name_of(file)}:{node.lineno}"
        for file in SOURCES
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Global)
    ]
    assert guilty == []


def test_foreign_words_stop_at_the_door() -> None:
    """No name in `server/` speaks of a dialect; prose may name a source, and `app`, `doors` and `config` wire them."""
    guilty = []
    for file in SOURCES:
        if not file.is_relative_to(ROOT / "server") or file.name in ("app.py", "doors.py", "config.py"):
            continue
        for node in ast.walk(tree_of(file)):
            name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None)
            if isinstance(name, str) and re.search(r"openai|a1111", name, re.IGNORECASE):
                guilty.append(f"{name_of(file)}: {name}")
    assert guilty == []


def sleeps_in(file: Path) -> list[str]:
    """Return where a file waits for a time; `asyncio.sleep(0)` only gives others a turn."""
    found = []
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep", "sleep"):
            turn = len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
            found += [] if turn else [f"{name_of(file)}:{node.lineno}"]
    return found


def test_tests_do_not_sleep() -> None:
    tests = [file for file in TESTS if file.name.startswith("test_")]
    assert [place for file in tests if name_of(file) not in TIME_IS_THE_SUBJECT for place in sleeps_in(file)] == []
    assert [name for name in TIME_IS_THE_SUBJECT if not sleeps_in(ROOT / name)] == [], "no longer needed"
