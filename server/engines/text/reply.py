"""One choice of one job: its prompt, what was generated, and the events that come of it."""

import time

from server.core.jobs import JobEvent, JobId, Outcome
from server.core.text import FinishReason, TextDelta, TextFinished, Usage
from server.engines.text.candidates import Row
from server.engines.text.contest import Contest
from server.engines.text.detokenise import Detokeniser
from server.engines.text.foresight import Foresight
from server.engines.text.lead import FREE, Lead
from server.engines.text.logprobs import LogprobReader
from server.engines.text.parsed_text import ParsedText
from server.engines.text.pictures import Runs
from server.engines.text.prefix import Scope, Tokens
from server.engines.text.prompt_scores import PromptScores
from server.engines.text.stop_strings import StopStrings
from server.engines.text.token_sampling import TokenSampler
from server.engines.text.token_trail import TokenTrail


class Reply:
    """The life of one choice: waiting, its prompt being computed, running, finished.

    `limit` is the most tokens it may generate; with 0 only its prompt is scored. `ends` are the tokens that end it.
    `logprobs` reads the logprob of each token where somebody wants it, `scores` those of the prompt; with them the
    `echo` is sent once the prompt is computed. `contest` is where the events go in a choice among several. `foresight`
    is what its tokens can be guessed from. `tie` tells that the token chosen last was not far ahead of all others, see
    `TokenSampler`. `started_at` is when it got a sequence, `answering_since` when its first
    token came (`perf_counter`).
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
        echo: str = "",
        tell: bool = False,
        logprobs: LogprobReader | None = None,
        scores: PromptScores | None = None,
        contest: Contest | None = None,
        lead: Lead = FREE,
        scope: Scope = Scope(),  # noqa: B008 (a constant)
        seeded: bool = False,
        pictures: Runs = (),
        slot: int | None = None,
    ) -> None:
        """Make a reply; `tell` sends the logprobs with the text, `lead` says how it is held and read.

        Its prompt shares caches with those of its `scope` alone, which also says under which adapters it is computed.
        With `seeded`, tokens are drawn and the same ones are expected whenever the request is repeated. `pictures` are
        where the prompt has negative ids. `slot` is the number by which its cache may be asked for.
        """
        self.job = job
        self.choice = choice
        self.prompt = prompt
        self.sampler = sampler
        self.running = False
        self.finished: FinishReason | None = None
        self.last_token = 0
        self.limit = limit
        self.logprobs = logprobs
        self.scores = scores
        self.contest = contest
        self.scope = scope
        self.seeded = seeded
        self.pictures = pictures
        self.slot = slot
        self.foresight = Foresight()
        self.tie = False
        self._ends = ends
        self._text = text
        self._stops = stops
        self._echo = echo
        self._tell = tell
        self._trail = TokenTrail()
        self._guide = lead.guide
        self._parsed: ParsedText | None = None
        if lead.parser is not None:
            self._parsed = ParsedText(choice, lead.parser, stops, self._trail, many=lead.many_calls)
        self.sampler.mask = self._guide
        self._cached = 0
        self._generated = 0
        self.started_at = self.answering_since = 0.0

    def start(self, cached: int) -> None:
        """Note that a sequence was found, with `cached` tokens of the prompt in it."""
        self._cached = cached
        self.started_at = time.perf_counter()
        self.sampler.accept(self.prompt[self.prompt >= 0] if self.pictures else self.prompt)
        if self.scores is not None:
            self.scores.claimed = True

    @property
    def scoring(self) -> bool:
        """Tell whether this reply computes the scores of its prompt."""
        return self.scores is not None and not self.scores.complete

    @property
    def left(self) -> int:
        """Return how many tokens it may still generate."""
        return self.limit - self._generated

    @property
    def next_token(self) -> int:
        """Return the token that is to be computed next: the last one, or an earlier one that is computed again."""
        again = self.foresight.footing.again
        return again[0] if again else self.last_token

    def opening(self) -> list[Outcome]:
        """Return the echo of the prompt, once, with its tokens' scores where they were asked for."""
        echo, self._echo = self._echo, ""
        if not echo:
            return []
        scores = self.scores.scores if self.scores is not None else ()
        return [JobEvent(self.job, TextDelta(choice=self.choice, text=echo, tokens=0, logprobs=scores))]

    def choose(self, row: Row) -> int:
        """Return the next token for a row of logits [vocabulary]; see `TokenSampler.choose`."""
        forced = self._guide.forced() if self._guide is not None else None
        token = self.sampler.choose(row) if forced is None else forced
        self.tie = forced is None and self.sampler.is_tie
        return token

    def coming(self) -> list[int]:
        """Return the tokens [n] that must come next whatever the model says, as far as that is known now."""
        return self._guide.coming() if self._guide is not None else []

    def accept(self, token: int) -> list[Outcome]:
        """Take the next token and return what it brings; `finished` is set when it was the last.

        Raises:
            InvalidValue: what the reply is held to has become too complex to go on.
        """
        if not self.running:
            self.running = True
            self.answering_since = time.perf_counter()
        told = self.logprobs.read(token) if self.logprobs is not None and token >= 0 else None
        if token < 0 or token in self._ends:
            return self.finish("stop")
        self.last_token = token
        self.sampler.accept((token,))
        self._generated += 1
        text = self._text.push(token)
        self._trail.push(len(text), told if self._tell else None)
        if self._guide is not None or self._parsed is not None:
            return self._accept_led(token, text)
        text = self._stops.feed(text)
        if self._stops.found:
            return self._delta(text) + self._end("stop")
        if self._generated >= self.limit:
            return self.finish("length", text)
        return self._delta(text)

    def finish(self, reason: FinishReason, text: str = "") -> list[Outcome]:
        """End here: return `text` with what was held back, and the finish."""
        if self._parsed is not None:
            events = self._parsed.finish(text + self._text.flush())
            if reason == "stop" and self._parsed.calls and not self._stops.found:
                reason = "tool_calls"
            return [*(JobEvent(self.job, event) for event in events), *self._end(reason)]
        text += self._stops.feed(self._text.flush())
        if self._stops.found:
            reason = "stop"
        return self._delta(text + self._stops.flush()) + self._end(reason)

    def _accept_led(self, token: int, text: str) -> list[Outcome]:
        """Take a token of a reply that is parsed, or led by a guide, or both."""
        guide, parsed = self._guide, self._parsed
        was_thinking = parsed is not None and parsed.parser.thinking
        if guide is not None:
            guide.accept(token)
        if parsed is not None:
            events: list[Outcome] = [JobEvent(self.job, event) for event in parsed.feed(text)]
        else:
            events = self._delta(self._stops.feed(text))
        if guide is not None:
            guide.observe(text, was_thinking=was_thinking)
        if self._stops.found and parsed is None:
            return events + self._end("stop")
        if self._stops.found or (parsed is not None and parsed.is_over) or (guide is not None and guide.is_over):
            landed = guide is not None and guide.landed
            return events + self.finish("length" if landed else "stop")
        if self._generated >= self.limit:
            return events + self.finish("length")
        return events

    def _delta(self, text: str) -> list[Outcome]:
        if not text:
            return []
        told = self._trail.take(len(text))
        return [
            JobEvent(self.job, TextDelta(choice=self.choice, text=text, tokens=told.tokens, logprobs=told.logprobs))
        ]

    def _end(self, reason: FinishReason) -> list[Outcome]:
        self.finished = reason
        self.sampler.close()
        now = time.perf_counter()
        usage = Usage(
            prompt_tokens=len(self.prompt),
            completion_tokens=self._generated,
            cached_tokens=self._cached,
            reasoning_tokens=self._guide.thought_tokens if self._guide is not None else 0,
        )
        started = self.started_at or now
        first = self.answering_since or now
        event = TextFinished(
            choice=self.choice,
            reason=reason,
            stopped_by=self._stops.which,
            usage=usage,
            prompt_ms=(first - started) * 1000,
            predicted_ms=(now - first) * 1000,
        )
        return [JobEvent(self.job, event)]
