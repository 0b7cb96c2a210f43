"""Level 1 of a prompt: parts joined by `AND`, each with an optional weight at its end.

| written | parts |
|---|---|
| `a:1.2 AND b:-1` | `a` 1.2, ` b` -1 |
| `a AND b :0.5` | `a` 1, ` b` 0.5 |
| `a ANDb` | `a ANDb` 1 |
| `(a AND b:1.2)` | `(a` 1, ` b:1.2)` 1 |
| `wallpaper 16:9` | `wallpaper 16` 9 |
"""

import math
import re

from compat.a1111.prompt_syntax.limits import PARTS
from server.core.errors import InvalidValue

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*([-+]?(?:\d+\.?|\d*\.\d+))")


def split_parts(prompt: str, param: str) -> list[tuple[str, float]]:
    """Return texts with weights; raise InvalidValue when there are too many."""
    texts = _AND.split(prompt)
    if len(texts) > PARTS:
        raise InvalidValue.of(param, f"the prompt joins {len(texts)} parts with AND; {PARTS} is the most")
    return [_weighted(text, param) for text in texts]


def _weighted(text: str, param: str) -> tuple[str, float]:
    text = text.rstrip()
    head, colon, tail = text.rpartition(":")
    match = _WEIGHT.fullmatch(tail) if colon else None
    if match is None:
        return text, 1.0
    weight = float(match.group(1))
    if not math.isfinite(weight):
        raise InvalidValue.of(param, "a weight in the prompt is too large")
    return head.rstrip(), weight
