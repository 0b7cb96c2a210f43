"""Which tokens a piece of shown text stands for. Pure.

Tokens become text later than they are chosen: bytes wait for a whole character, characters for a stop string that may
begin. A token belongs to the piece in which its first character is shown; one that only begins a character belongs to
the piece with that character. Tokens whose text is never shown (a stop string) are told of never.
"""

from collections import deque
from typing import NamedTuple

from server.core.text import TokenLogprob


class Told(NamedTuple):
    """The tokens of one piece of text: how many, and their logprobs where they are known."""

    tokens: int
    logprobs: tuple[TokenLogprob, ...]


class TokenTrail:
    """Remembers the tokens whose text has not been shown yet, and where in the text each begins."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, TokenLogprob | None]] = deque()
        self._made = self._shown = 0

    def push(self, characters: int, logprob: TokenLogprob | None = None) -> None:
        """Note the next token, after which so many more characters of the text are known, maybe none."""
        self._waiting.append((self._made, logprob))
        self._made += characters

    def take(self, characters: int) -> Told:
        """Note that so many more characters are shown and return the tokens that they stand for."""
        self._shown += characters
        count = 0
        logprobs = []
        while self._waiting and self._waiting[0][0] < self._shown:
            _, logprob = self._waiting.popleft()
            count += 1
            if logprob is not None:
                logprobs.append(logprob)
        return Told(count, tuple(logprobs))

    def take_all(self) -> Told:
        """Return all tokens that were not told of yet: for text that is not shown as the model wrote it."""
        return self.take(self._made + 1 - self._shown)
