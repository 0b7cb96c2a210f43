"""Colours as options have them: hex digits behind a `#`."""

import re

Rgb = tuple[int, int, int]

WHITE: Rgb = (255, 255, 255)

_COLOUR = re.compile(r"#([0-9a-fA-F]{6}|[0-9a-fA-F]{3})")


def colour_of(text: str) -> Rgb:
    """Return a colour written in hex digits; white for anything else."""
    match = _COLOUR.fullmatch(text.strip())
    if match is None:
        return WHITE
    digits = match.group(1) if len(match.group(1)) == 6 else "".join(digit * 2 for digit in match.group(1))
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue
