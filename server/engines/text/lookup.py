"""A guess at the next tokens of a text: what followed when it last stood where it stands now. Pure.

Texts that repeat what they were given (code to change, passages to quote, lists) or themselves go on as they did after
the same tokens before.

    text                  guess of 4 tokens
    a b c d e … a b c     d e … a
    x y z x y z           x y z x   the guess repeats with the text
    a b c d               (none)

All places where three tokens ended before are found by an index that grows with the text, so that a guess costs
microseconds however long the text is.
"""

from collections.abc import Iterable

SHORTEST_MATCH = 3
LONGEST_MATCH = 16
MOST_PLACES = 16
"""How many of the latest places are compared; in long texts of few different tokens there are thousands."""

_SHIFT = 21
_NOWHERE = -1


class Lookup:
    """One text and where in it each three tokens ended last."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._latest: dict[int, int] = {}
        # For each place the one before it where the same three tokens ended: chains through the whole text.
        self._before: list[int] = []

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens to the text."""
        text, latest, before = self._tokens, self._latest, self._before
        for token in tokens:
            text.append(token)
            place = len(text) - 1
            if place < SHORTEST_MATCH - 1:
                before.append(_NOWHERE)
                continue
            key = (text[place - 2] << _SHIFT | text[place - 1]) << _SHIFT | token
            before.append(latest.get(key, _NOWHERE))
            latest[key] = place

    def guess(self, count: int) -> list[int] | None:
        """Return the `count` tokens that may follow, None when the end of the text has not occurred before.

        Of the latest places where the last tokens stand, the one counts that agrees furthest back; then the latest.
        """
        if not self._before or count < 1:
            return None
        best, longest = _NOWHERE, SHORTEST_MATCH - 1
        place = self._before[-1]
        for _ in range(MOST_PLACES):
            if place == _NOWHERE or longest >= LONGEST_MATCH:
                break
            length = self._agreement(place)
            if length > longest:
                best, longest = place, length
            place = self._before[place]
        if best == _NOWHERE:
            return None
        following = self._tokens[best + 1 : best + 1 + count]
        while len(following) < count:
            following += following[: count - len(following)]
        return following if min(following) >= 0 else None  # negative: a picture, which nobody writes

    def _agreement(self, place: int) -> int:
        """Return how many tokens up to a place are the same as the last ones."""
        text, shift = self._tokens, len(self._tokens) - 1 - place
        most = min(LONGEST_MATCH, place + 1)
        for back in range(most):
            if text[place - back] != text[place - back + shift]:
                return back
        return most
