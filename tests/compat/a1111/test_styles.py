import os
from pathlib import Path

import pytest

from compat.a1111.styles import Style, StyleBook, apply_styles, cut_comments
from server.core.errors import InvalidValue


@pytest.mark.parametrize(
    ("prompt", "texts", "merged"),
    [
        (" a cat ", [], " a cat "),
        ("a cat", ["oil"], "a cat, oil"),
        (" a cat ", ["oil "], "a cat, oil"),
        (" a cat ", [""], "a cat"),
        ("", ["oil"], "oil"),
        ("a cat", ["old {prompt}, oil"], "old a cat, oil"),
        ("a", ["{prompt} and {prompt}"], "a and a"),
        ("a", ["b", "c"], "a, b, c"),
    ],
)
def test_merging(prompt: str, texts: list[str], merged: str) -> None:
    assert apply_styles(prompt, texts, "prompt") == merged


def test_styles_that_multiply_are_stopped() -> None:
    with pytest.raises(InvalidValue):
        apply_styles("a", ["{prompt}{prompt}"] * 1000, "prompt")


@pytest.mark.parametrize(
    ("prompt", "cut"),
    [
        ("a # b\nc", "a \nc"),
        ("a\n# b\nc", "a\nc"),
        ("# a\nb", "\nb"),
        ("a # b", "a \n"),
        ("a", "a"),
        ("x #y\n#z\nw", "x \nw"),
    ],
)
def test_comments(prompt: str, cut: str) -> None:
    assert cut_comments(prompt) == cut


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    file = tmp_path / "styles.csv"
    book = StyleBook([str(tmp_path / "missing.csv"), str(file)])
    assert book.all() == {}
    file.write_text('﻿name,prompt,negative_prompt\none,"{prompt}, a",b\n#note,x,y\n,empty,\n', encoding="utf-8")
    assert book.all() == {"one": Style("one", "{prompt}, a", "b")}
    file.write_text("name,text\nold,words\n", encoding="utf-8")
    os.utime(file, ns=(1, 1))
    assert book.all() == {"old": Style("old", "words", "")}


def test_a_broken_file_counts_as_empty(tmp_path: Path) -> None:
    file = tmp_path / "styles.csv"
    file.write_bytes(b"name,prompt\n\xff\xfe,a\n")
    assert StyleBook([str(file)]).all() == {}
