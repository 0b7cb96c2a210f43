"""Finds stop strings in text that arrives in pieces. Pure; knows nothing of tokens.

The string that is complete first ends the text; of several that end at the same character the longest counts. The
result does not depend on how the text was cut into pieces:

    stops     fed                 shown     found
    "END"     "on", "E", "x"      "onEx"    no
    "END"     "on E", "ND of"     "on "     yes
    "b" "abc" "abc"               "a"       yes   ("b" is complete first)
    "aab"     "aaab"              "a"       yes
"""

from collections.abc import Iterable


def _borders(stop: str) -> list[int]:
    """Return for each prefix of `stop` the length of its longest border, as Knuth, Morris and Pratt use it."""
    borders = [0] * len(stop)
    length = 0
    for index in range(1, len(stop)):
        while length and stop[index] != stop[length]:
            length = borders[length - 1]
        if stop[index] == stop[length]:
            length += 1
        borders[index] = length
    return borders


class _Matcher:
    """How much of one stop string the end of the text matches."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.matched = 0
        self._borders = _borders(stop)

    def advance(self, char: str) -> int:
        """Take one character and return how many characters match now; the whole length means found."""
        matched = self.matched
        while matched and (matched == len(self.stop) or self.stop[matched] != char):
            matched = self._borders[matched - 1]
        if self.stop[matched] == char:
            matched += 1
        self.matched = matched
        return matched


class StopStrings:
    """A state machine fed with text; it holds back what may turn out to be the beginning of a stop string.

    `which` is the string that was found, unless it is one of the `unnamed`, which nobody asked for.
    """

    def __init__(self, stops: Iterable[str], unnamed: Iterable[str] = ()) -> None:
        named = dict.fromkeys(stop for stop in stops if stop)
        self._named = frozenset(named)
        self._matchers = [_Matcher(stop) for stop in (named | dict.fromkeys(stop for stop in unnamed if stop))]
        self._first = frozenset(matcher.stop[0] for matcher in self._matchers)
        self._held = ""
        self.found = False
        self.which: str | None = None

    def feed(self, text: str) -> str:
        """Take more text and return what may be shown. After `found` is True nothing more is shown."""
        if self.found:
            return ""
        if not self._held and self._first.isdisjoint(text):
            return text
        longest = 0
        for index, char in enumerate(text):
            longest, complete = self._advance(char)
            if complete:
                self.found = True
                whole = self._held + text[: index + 1]
                self._held = ""
                stop = whole[-complete:]
                self.which = stop if stop in self._named else None
                return whole[:-complete]
        whole = self._held + text
        cut = len(whole) - longest if text else len(whole) - len(self._held)
        self._held = whole[cut:]
        return whole[:cut]

    def flush(self) -> str:
        """Return what was held back: the text has ended without completing a stop string."""
        held, self._held = self._held, ""
        return held

    def _advance(self, char: str) -> tuple[int, int]:
        longest = complete = 0
        for matcher in self._matchers:
            matched = matcher.advance(char)
            longest = max(longest, matched)
            if matched == len(matcher.stop):
                complete = max(complete, matched)
        return longest, complete
