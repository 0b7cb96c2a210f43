"""What the GGUF file is called that is made of a model of 2023: told by the identity of its files. Pure."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePath

VERSION = 1
"""Of the conversion: a higher one makes all files anew."""

SUFFIX = ".gguf"
LEFTOVER = ".part"

_ODD = re.compile(r"[^A-Za-z0-9._+-]+")
_DIGITS = 12
_LONGEST_STEM = 120


def converted_name(files: Sequence[str], size: int, mtime_ns: int) -> str:
    """Return the name of the GGUF file for a model in these files.

    Args:
        files: absolute; the first is the main one.
        size: bytes of all together.
        mtime_ns: when the latest of them was changed.
    """
    identity = f"{VERSION}|{size}|{mtime_ns}|{'|'.join(files)}"
    return f"{place_of(files[0])}-{_digest(identity)}{SUFFIX}"


def place_of(main: str) -> str:
    """Return how the names begin of all files that were ever made of what lies at this path."""
    stem = _ODD.sub("_", PurePath(main).stem)[:_LONGEST_STEM]
    return f"{stem}-{_digest(main)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
