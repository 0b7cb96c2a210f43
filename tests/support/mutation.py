"""Bodies that are broken in small ways, for tests that send many of them."""

import json
import random
from copy import deepcopy
from typing import Any

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**64), 1e308, -0.5, "", "x",
    "\u0000", "\U0001f600" * 9, "x" * 3000,
    [], [[]], [None], ["a", 1], {}, {"": None}, {"a": {"b": [1]}}, [1] * 200, {str(k): k for k in range(300)},
]  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything inside a JSON value."""
    inner: list[tuple[Any, ...]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        inner += [(*at, key), *places(item, (*at, key))]
    return inner


def mutated(body: dict[str, Any], rng: random.Random) -> bytes:
    """Return the body with one to three values replaced or removed, and sometimes with wrong bytes."""
    body = deepcopy(body)
    for _ in range(rng.randint(1, 3)):
        there = places(body)
        if not there:
            break
        path = rng.choice(there)
        owner: Any = body
        for key in path[:-1]:
            owner = owner[key]
        if rng.random() < 0.2:
            del owner[path[-1]]
        else:
            owner[path[-1]] = deepcopy(rng.choice(VALUES))
    encoded = bytearray(json.dumps(body, ensure_ascii=rng.random() < 0.5).encode())
    if rng.random() < 0.3:
        for _ in range(rng.randint(1, 4)):
            encoded[rng.randrange(len(encoded))] = rng.randrange(256)
    if rng.random() < 0.05:
        del encoded[rng.randrange(len(encoded)) :]
    return bytes(encoded)
