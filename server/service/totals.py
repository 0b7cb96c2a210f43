"""How much text has been read and written since the start; for metrics."""

import msgspec

from server.core.jobs import Work
from server.core.text import ChatRequest, CompletionRequest, TextFinished


class TextTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over all text jobs. Prompt tokens taken from the cache are counted apart from those that were computed."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    predicted_tokens: int = 0
    prompt_seconds: float = 0.0
    predicted_seconds: float = 0.0


class Totals:
    """Owns the running sums; the loop alone changes them, through the board."""

    def __init__(self) -> None:
        self._sums = TextTotals()

    def note(self, work: Work, event: TextFinished) -> None:
        """Add one finished choice. Choices of one prompt share it, so only the first of them counts it."""
        choices = work.choices if isinstance(work, ChatRequest | CompletionRequest) else 1
        usage, sums = event.usage, self._sums
        first = event.choice % choices == 0
        cached = min(usage.cached_tokens, usage.prompt_tokens) if first else 0
        self._sums = TextTotals(
            prompt_tokens=sums.prompt_tokens + (usage.prompt_tokens - cached if first else 0),
            cached_tokens=sums.cached_tokens + cached,
            predicted_tokens=sums.predicted_tokens + usage.completion_tokens,
            prompt_seconds=sums.prompt_seconds + (event.prompt_ms / 1000 if first else 0.0),
            predicted_seconds=sums.predicted_seconds + event.predicted_ms / 1000,
        )

    def view(self) -> TextTotals:
        """Return the sums so far."""
        return self._sums
