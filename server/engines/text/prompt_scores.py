"""The logprobs of a prompt's own tokens, for requests that want the prompt echoed with them.

They need the logits at every position, so the whole prompt is computed, in chunks of few outputs. One reply does that
for all replies to the same prompt; the others wait for it.
"""

from collections.abc import Iterable

from server.core.text import TokenLogprob
from server.engines.text.candidates import Row
from server.engines.text.logprobs import LogprobReader
from server.engines.text.prefix import Tokens


class PromptScores:
    """Gathers the scores of one prompt [n]. `claimed` tells that a reply computes them."""

    def __init__(self, prompt: Tokens, reader: LogprobReader) -> None:
        self._prompt = prompt
        self._reader = reader
        self._scores = [reader.first(int(prompt[0]))]
        self.claimed = False

    @property
    def complete(self) -> bool:
        """Tell whether every token has its score."""
        return len(self._scores) == len(self._prompt)

    @property
    def scores(self) -> tuple[TokenLogprob, ...]:
        """Return the scores so far, in the order of the prompt."""
        return tuple(self._scores)

    def feed(self, rows: Iterable[Row]) -> None:
        """Take the logits [n, vocabulary] of the next positions; the last position predicts nothing of the prompt."""
        for row in rows:
            if not self.complete:
                self._scores.append(self._reader.of(row, int(self._prompt[len(self._scores)])))
