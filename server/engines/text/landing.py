"""Brings JSON to an end before the limit of tokens cuts it off.

A model that is held to a schema can still go on for ever inside a string. Shortly before its limit the rest is written
for it: the string is closed, optional parts are left out, required ones get the shortest value that the grammar admits.
How many tokens that takes is found by going through the grammar on a copy; it is looked at seldom, since it changes
little from token to token.
"""

from collections.abc import Callable, Sequence

import numpy as np

from server.engines.text.candidates import Ids
from server.engines.text.constraints import TokenMask

_LOOK_FROM = 256
_MARGIN = 4
_MOST_TOKENS = 512
_OPTIONS = 256
_IN_STRING = (b'"',)
_OUTSIDE = (b"/", b"}", b"]", b'"', b":", b",", *(b"%d" % figure for figure in range(10)))


class Landing:
    """Watches one reply, of which each token is told, and says which tokens end it in time.

    `piece` gives a token's bytes and `single` the ids of one-character tokens. `closings` are what a format ends with
    where it could go on for ever, as text and as tokens.
    """

    def __init__(
        self, piece: Callable[[int], bytes], single: dict[bytes, int], closings: Sequence[tuple[str, list[int]]] = ()
    ) -> None:
        self._piece = piece
        self._single = single
        self._closings = closings
        self._strings = StringState()
        self._look_at = _LOOK_FROM

    def tokens(self, mask: TokenMask, text: str, left: int) -> list[int]:
        """Return the tokens that end the reply if it must end now, none while there is room.

        Args:
            mask: where the reply stands.
            text: what its last token added.
            left: how many tokens may follow.
        """
        self._strings.feed(text)
        if left > self._look_at:
            return []
        ending = self.shortest(mask, left + _MARGIN)
        if ending is None:
            self._look_at = left - max(1, left // 8)
            return []
        spare = left - len(ending)
        if spare <= _MARGIN:
            return ending[:left]
        self._look_at = left - max(1, (spare - _MARGIN) // 2)
        return []

    def shortest(self, mask: TokenMask, most: int) -> list[int] | None:
        """Return a short way to the end, None when none was found within `most` tokens."""
        way = mask.copy()
        strings = self._strings.copy()
        found: list[int] = []
        while not way.may_end:
            step = self._step(way, strings)
            if not step or len(found) >= min(most, _MOST_TOKENS):
                return None
            for token in step:
                way.accept(token)
                strings.feed(self._piece(token).decode("utf-8", "ignore"))
            found += step
        return found

    def _step(self, way: TokenMask, strings: "StringState") -> list[int]:
        for text, tokens in self._closings:
            # A string in JSON would admit a mark as its own text, but no line break: what has one ends other text.
            if (not strings.inside or "\n" in text) and way.admits(tokens):
                strings.inside = False
                return tokens
        token = self._next(way.allowed(), strings)
        return [] if token is None else [token]

    def _next(self, allowed: Ids, strings: "StringState") -> int | None:
        for char in _IN_STRING if strings.inside else _OUTSIDE:
            token = self._single.get(char)
            if token is not None and _has(allowed, token):
                return token
        if len(allowed) > _OPTIONS:
            # Free text of some required length or form: any letter or figure will do.
            plain = [token for char, token in self._single.items() if char.isalnum() and _has(allowed, token)]
            return plain[0] if plain else int(allowed[0])
        return max((int(token) for token in allowed), key=lambda token: len(self._piece(token).strip()), default=None)


class StringState:
    """Whether a text in JSON stands inside a string."""

    def __init__(self, inside: bool = False, escaped: bool = False) -> None:
        self.inside = inside
        self._escaped = escaped

    def feed(self, text: str) -> None:
        """Take more text."""
        for char in text:
            if self._escaped:
                self._escaped = False
            elif char == '"':
                self.inside = not self.inside
            elif char == "\\" and self.inside:
                self._escaped = True

    def copy(self) -> "StringState":
        """Return a second state like this one."""
        return StringState(self.inside, self._escaped)


def single_characters(size: int, piece: Callable[[int], bytes]) -> dict[bytes, int]:
    """Return the ids of all tokens that are one ASCII character, the lowest id for each."""
    found: dict[bytes, int] = {}
    for token in range(size):
        text = piece(token)
        if len(text) == 1 and text[0] < 128:
            found.setdefault(text, token)
    return found


def _has(ids: Ids, token: int) -> bool:
    at = int(np.searchsorted(ids, token))
    return at < len(ids) and int(ids[at]) == token
