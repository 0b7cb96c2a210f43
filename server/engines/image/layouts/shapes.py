"""Names and shapes of a part's tensors: what all layouts look at."""

from collections.abc import Mapping
from typing import TypeVar

from server.core.errors import LoadFailed

Shapes = Mapping[str, tuple[int, ...]]
"""Tensor name (without the part's prefix) to shape."""

KeyMap = dict[str, str]
"""Name in the file to name in the module."""

V = TypeVar("V")


def under(prefix: str, entries: Mapping[str, V]) -> dict[str, V]:
    """Return the entries whose name begins with `prefix`, named without it."""
    return {name[len(prefix) :]: value for name, value in entries.items() if name.startswith(prefix)}


def need(shapes: Shapes, name: str, dims: int) -> tuple[int, ...]:
    """Return the shape of a tensor that every model of the kind has, which has `dims` dimensions.

    Raises:
        LoadFailed: it is missing or of another form.
    """
    found = shapes.get(name)
    if found is None:
        raise LoadFailed(f"the checkpoint lacks the tensor {name!r}; it is damaged or of an unknown kind")
    if len(found) != dims:
        raise LoadFailed(f"the tensor {name!r} of the checkpoint has {len(found)} dimensions and not {dims}")
    return found


def count(shapes: Shapes, pattern: str) -> int:
    """Return how many consecutive numbers, from 0, can stand for `{}` in `pattern` so that a name begins with it."""
    number = 0
    while any(name.startswith(pattern.format(number)) for name in shapes):
        number += 1
    return number
