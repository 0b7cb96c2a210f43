"""Finds stop strings in text that arrives in pieces. Pure; knows nothing of tokens.

The string that is complete first ends the text; of several that end at the same character the longest counts. The
result does not depend on how the text was cut into pieces:

    stops     fed                 shown     found
    "END"     "on", "E", "x"      "onEx"    no
    "END"     "on E", "ND of"     "on "     yes
    "b" "abc" "abc"               "a"       yes   ("b" is complete first)
    "aab"     "aaab"              "a"       yes
"""

from collections import deque
from collections.abc import Iterable


class _Automaton:
    """All stop strings at once, as Aho and Corasick search for them: a character costs the same however many there are.

    A state is what of the end of the text begins a stop string, as much as can be. `depth` is how many characters that
    is, `complete` the length of the longest stop string that ends there, 0 for none.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self.depth, self.complete = [0], [0]
        self._next: list[dict[str, int]] = [{}]
        self._shorter = [0]
        for stop in stops:
            self._add(stop)
        self._link()

    def advance(self, state: int, char: str) -> int:
        """Return the state after one more character."""
        while True:
            if (found := self._next[state].get(char)) is not None:
                return found
            if not state:
                return 0
            state = self._shorter[state]

    def _add(self, stop: str) -> None:
        state = 0
        for char in stop:
            following = self._next[state].get(char)
            if following is None:
                following = self._next[state][char] = len(self._next)
                self._next.append({})
                self._shorter.append(0)
                self.complete.append(0)
                self.depth.append(self.depth[state] + 1)
            state = following
        self.complete[state] = len(stop)

    def _link(self) -> None:
        """Find for each state, the short ones first, the longest other one that it ends with."""
        pending = deque(self._next[0].values())
        while pending:
            state = pending.popleft()
            self.complete[state] = self.complete[state] or self.complete[self._shorter[state]]
            for char, following in self._next[state].items():
                self._shorter[following] = self.advance(self._shorter[state], char)
                pending.append(following)


class StopStrings:
    """A state machine fed with text; it holds back what may turn out to be the beginning of a stop string.

    `which` is the string that was found, unless it is one of the `unnamed`, which nobody asked for.
    """

    def __init__(self, stops: Iterable[str], unnamed: Iterable[str] = ()) -> None:
        named = dict.fromkeys(stop for stop in stops if stop)
        every = named | dict.fromkeys(stop for stop in unnamed if stop)
        self._named = frozenset(named)
        self._first = frozenset(stop[0] for stop in every)
        self._automaton = _Automaton(every)
        self._state = 0
        self._held = ""
        self.found = False
        self.which: str | None = None

    def feed(self, text: str) -> str:
        """Take more text and return what may be shown. After `found` is True nothing more is shown."""
        if self.found:
            return ""
        if not self._held and self._first.isdisjoint(text):
            return text
        automaton, state = self._automaton, self._state
        for index, char in enumerate(text):
            state = automaton.advance(state, char)
            if complete := automaton.complete[state]:
                self.found = True
                whole = self._held + text[: index + 1]
                self._held = ""
                stop = whole[-complete:]
                self.which = stop if stop in self._named else None
                return whole[:-complete]
        self._state = state
        whole = self._held + text
        cut = len(whole) - automaton.depth[state]
        self._held = whole[cut:]
        return whole[:cut]

    def flush(self) -> str:
        """Return what was held back: the text has ended without completing a stop string."""
        held, self._held = self._held, ""
        self._state = 0
        return held
