"""Recorded truth of the original programs, kept beside the repository; tests skip where it is not."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared"

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="recordings are not beside the repository")


@cache
def golden(name: str) -> Any:
    """Return one of the recordings, parsed: `golden("rng.json")`."""
    return json.loads((SHARED / "golden" / name).read_text())
