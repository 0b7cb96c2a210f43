"""How much prompt is taken: bounds that no real prompt meets, so that a hostile one costs no time."""

from server.core.errors import InvalidValue

LONGEST = 64 * 1024
"""Bytes of UTF-8 in one prompt."""

DEPTH = 64
"""Open brackets of one kind at a time."""

PARTS = 100
"""Members of a composition: each is a text encoding and a model evaluation of its own."""

SCHEDULED = 1024 * 1024
"""Characters in all different texts of one prompt's schedule."""

VISITS = 500_000
"""Nodes of a parsed prompt times texts of its schedule."""


def check_length(text: str, param: str) -> None:
    """Raise InvalidValue for a prompt that is too long."""
    if len(text) > LONGEST or len(text.encode("utf-8", "surrogatepass")) > LONGEST:
        raise InvalidValue.of(param, f"the prompt is longer than {LONGEST // 1024} KiB")


def too_deep(param: str) -> InvalidValue:
    """Return the error for brackets in brackets in brackets."""
    return InvalidValue.of(param, f"the prompt nests brackets more than {DEPTH} deep")
