"""The source tree of llama.cpp, whose templates and vocabularies are recordings that tests compare with.

It is part of the source distribution of llama-cpp-python. Unpack that anywhere and name the folder, or the
`vendor/llama.cpp` in it, by the environment variable HEARTH_LLAMA_SOURCE; tests that need it skip otherwise.
"""

import os
from pathlib import Path

import pytest

_NAMED = os.environ.get("HEARTH_LLAMA_SOURCE", "")


def _found(named: str) -> Path | None:
    places = [Path(named), Path(named) / "vendor" / "llama.cpp"] if named else []
    return next((place for place in places if (place / "models" / "templates").is_dir()), None)


LLAMA_SOURCE = _found(_NAMED)

needs_llama_source = pytest.mark.skipif(
    LLAMA_SOURCE is None, reason="HEARTH_LLAMA_SOURCE names no source tree of llama.cpp"
)


def llama_files(pattern: str) -> list[Path]:
    """Return the files of the tree that match, sorted; none where there is no tree."""
    return [] if LLAMA_SOURCE is None else sorted(LLAMA_SOURCE.glob(pattern))
