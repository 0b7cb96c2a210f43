"""Named prompt styles from A1111's `styles.csv`, and what is done to a prompt before it is parsed.

| style | prompt | becomes |
|---|---|---|
| `{prompt}, oil` | `a cat` | `a cat, oil` |
| `oil` | ` a cat ` | `a cat, oil` |
| unknown | ` a cat ` | `a cat` |
"""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from compat.a1111.prompt_syntax.limits import check_length

_LINE_COMMENT = re.compile(r"(?:^|\n)#[^\n]*(?:\n|\Z)")
_COMMENT = re.compile(r"#[^\n]*(?:\n|\Z)")
_LARGEST_FILE = 16 * 1024 * 1024


class Style(msgspec.Struct, frozen=True):
    """A style's name and its two texts."""

    name: str
    prompt: str = ""
    negative: str = ""


class StyleBook:
    """The styles of some files, in order; a file is read again when it changed. Broken files count as empty."""

    def __init__(self, files: Iterable[str] = ()) -> None:
        self._files = [Path(file) for file in files]
        self._seen: tuple[tuple[int, int], ...] | None = None
        self._styles: dict[str, Style] = {}

    def all(self) -> dict[str, Style]:
        """Return the styles by name."""
        seen = tuple(_stamp(file) for file in self._files)
        if seen != self._seen:
            self._styles = {style.name: style for file in self._files for style in _read(file)}
            self._seen = seen
        return self._styles


def apply_styles(prompt: str, texts: Iterable[str], param: str) -> str:
    """Return the prompt with each style's text merged in, in order.

    Raises:
        InvalidValue: it grows beyond what a prompt can be.
    """
    for text in texts:
        if "{prompt}" in text:
            prompt = text.replace("{prompt}", prompt)
        else:
            prompt = ", ".join(part for part in (prompt.strip(), text.strip()) if part)
        check_length(prompt, param)
    return prompt


def cut_comments(prompt: str) -> str:
    """Return the prompt without `# ...`: lines of their own go whole, others end at the sign."""
    return _COMMENT.sub("\n", _LINE_COMMENT.sub("\n", prompt))


def _stamp(file: Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)


def _read(file: Path) -> list[Style]:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            return []
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return [style for row in csv.DictReader(lines) if (style := _style(row)) is not None]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _style(row: dict[str, str | None]) -> Style | None:
    name = row.get("name") or ""
    if not name or name.startswith("#"):
        return None
    prompt = row.get("prompt") or row.get("text") or ""  # files of 2022 call the column `text`
    return Style(name, prompt, row.get("negative_prompt") or "")
