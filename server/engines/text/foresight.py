"""What one reply's next tokens can be guessed from, and how its guesses fared."""

from collections.abc import Sequence
from typing import NamedTuple

from server.engines.text.footing import Footing
from server.engines.text.lookup import Lookup
from server.engines.text.prefix import Tokens
from server.engines.text.speculation import NO_HOPE, WIDTHS, Acceptance, Hope

_DRAFT_HITS, _DRAFT_TRIALS = 4.0, 4.5


class Guess(NamedTuple):
    """Tokens that may come next. `score` is told which of them did; None where that is known beforehand."""

    tokens: Sequence[int]
    hope: Hope
    score: Acceptance | None = None

    def observe(self, place: int, token: int) -> None:
        """Note the token that came at a place of the guess, all before it being right."""
        if self.score is not None and place < len(self.tokens):
            self.score.observe(right=token == self.tokens[place])


class Foresight:
    """Belongs to one reply. A draft model is trusted until it is seen to fail, the text so far once it has not."""

    def __init__(self) -> None:
        self.footing = Footing()
        self.drafts = Acceptance(_DRAFT_HITS, _DRAFT_TRIALS)
        self._lookups = Acceptance()
        self._lookup = Lookup()

    def certain(self, tokens: Sequence[int]) -> Guess:
        """Return tokens that must come next as a guess."""
        count = len(tokens)
        return Guess(tokens, Hope(sure=count, length=count))

    def guess(self, text: Tokens) -> Guess | None:
        """Return what the text [n] so far suggests, None when nothing; it must begin with what was given before."""
        self._lookup.extend(text[len(self._lookup) :].tolist())
        found = self._lookup.guess(WIDTHS[-1])
        return None if found is None else Guess(found, Hope(rate=self._lookups.rate), self._lookups)

    def drafted(self, tokens: Sequence[int]) -> Guess:
        """Return what a draft model says as a guess."""
        return Guess(tokens, self.draft_hope, self.drafts)

    @property
    def draft_hope(self) -> Hope:
        """Return what can be expected of a draft."""
        return Hope(rate=self.drafts.rate)


def hope_of(guess: Guess | None) -> Hope:
    """Return what is expected of a guess, or of none."""
    return NO_HOPE if guess is None else guess.hope
