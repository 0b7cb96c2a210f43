"""One choice of one job: its prompt, what was generated, and the events that come of it."""

import time

from server.core.jobs import JobEvent, JobId, Outcome
from server.core.text import FinishReason, TextDelta, TextFinished, Usage
from server.engines.text.detokenise import Detokeniser
from server.engines.text.prefix import Tokens
from server.engines.text.stop_strings import StopStrings
from server.engines.text.token_sampling import TokenSampler


class Reply:
    """The life of one choice: waiting, its prompt being computed, running, finished.

    `limit` is the most tokens it may generate. `ends` are the tokens that end it.
    """

    def __init__(
        self,
        job: JobId,
        choice: int,
        prompt: Tokens,
        *,
        limit: int,
        ends: frozenset[int],
        sampler: TokenSampler,
        text: Detokeniser,
        stops: StopStrings,
    ) -> None:
        self.job = job
        self.prompt = prompt
        self.sampler = sampler
        self.running = False
        self.finished: FinishReason | None = None
        self.last_token = 0
        self._choice = choice
        self._limit = limit
        self._ends = ends
        self._text = text
        self._stops = stops
        self._cached = 0
        self._generated = 0
        self._unsent = 0
        self._started = self._first = 0.0

    def start(self, cached: int) -> None:
        """Note that a sequence was found, with `cached` tokens of the prompt in it."""
        self._cached = cached
        self._started = time.perf_counter()
        self.sampler.accept(self.prompt)

    def accept(self, token: int) -> list[Outcome]:
        """Take the next token and return what it brings; `finished` is set when it was the last."""
        if not self.running:
            self.running = True
            self._first = time.perf_counter()
        if token < 0 or token in self._ends:
            return self.finish("stop")
        self.last_token = token
        self.sampler.accept((token,))
        self._generated += 1
        self._unsent += 1
        text = self._stops.feed(self._text.push(token))
        if self._stops.found:
            return self._delta(text) + self._end("stop")
        if self._generated >= self._limit:
            return self.finish("length", text)
        return self._delta(text)

    def finish(self, reason: FinishReason, text: str = "") -> list[Outcome]:
        """End here: return `text` with what was held back, and the finish."""
        text += self._stops.feed(self._text.flush())
        if self._stops.found:
            reason = "stop"
        return self._delta(text + self._stops.flush()) + self._end(reason)

    def _delta(self, text: str) -> list[Outcome]:
        if not text:
            return []
        count, self._unsent = self._unsent, 0
        return [JobEvent(self.job, TextDelta(choice=self._choice, text=text, tokens=count))]

    def _end(self, reason: FinishReason) -> list[Outcome]:
        self.finished = reason
        self.sampler.close()
        now = time.perf_counter()
        usage = Usage(prompt_tokens=len(self.prompt), completion_tokens=self._generated, cached_tokens=self._cached)
        started = self._started or now
        first = self._first or now
        event = TextFinished(
            choice=self._choice,
            reason=reason,
            usage=usage,
            prompt_ms=(first - started) * 1000,
            predicted_ms=(now - first) * 1000,
        )
        return [JobEvent(self.job, event)]
