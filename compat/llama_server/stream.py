"""The chunks of a completion: an encoder that is fed a job's events. It knows nothing of the transport."""

import msgspec
from msgspec import UNSET, UnsetType

from compat.llama_server import wire
from server.core.errors import Cancelled, ProtocolError
from server.core.jobs import Event, Loading, Waiting
from server.core.text import LikelyToken, TextDelta, TextFinished, TextStarted, TokenLogprob


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer takes from its request. `prompts` are shown as text ("" for tokens), one for `choices` each.

    `limit` is how many tokens may be written, None = as many as the context holds. `slot` is the one that was named,
    -1 when none was.
    """

    model: str
    prompts: tuple[str, ...]
    choices: int
    settings: wire.GenerationSettings
    limit: int | None
    tells_tokens: bool = False
    tells_probabilities: bool = False
    slot: int = -1

    @property
    def count(self) -> int:
        """Return how many completions there are."""
        return len(self.prompts) * self.choices


class CompletionEncoder:
    """Makes a chunk of every piece of text, and a last one that tells how each completion ended."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._prompt_tokens = 0
        self._written = [0] * asked.count
        self._has_new_line = [False] * asked.count
        self._finished: set[int] = set()

    def feed(self, event: Event) -> list[wire.Chunk | wire.Completion]:
        """Return the chunks that an event of the job makes."""
        match event:
            case TextDelta():
                return [self._chunk(event)]
            case TextFinished():
                self._finished.add(event.choice)
                return [self._last(event)]
            case TextStarted():
                # The sum over all prompts is a prompt's own length only when there is one.
                self._prompt_tokens = event.prompt_tokens if len(self._asked.prompts) == 1 else 0
                return []
            case Waiting() | Loading():
                return []
            case _:
                raise ProtocolError("a prompt was answered by something else than text")

    def close(self) -> None:
        """Raise Cancelled when the job ended before all completions did."""
        if len(self._finished) < self._asked.count:
            raise Cancelled("the request was cancelled before its answer was complete", mode="stop")

    def _chunk(self, event: TextDelta) -> wire.Chunk:
        index = event.choice
        self._written[index] += event.tokens
        self._has_new_line[index] = self._has_new_line[index] or "\n" in event.text
        return wire.Chunk(
            index=index,
            content=event.text,
            id_slot=self._asked.slot,
            tokens=tuple(item.token for item in event.logprobs) if self._asked.tells_tokens else (),
            tokens_predicted=self._written[index],
            tokens_evaluated=self._prompt_tokens,
            completion_probabilities=self._probabilities(event.logprobs),
        )

    def _probabilities(self, told: tuple[TokenLogprob, ...]) -> tuple[wire.Probability, ...] | UnsetType:
        return tuple(_probability(item) for item in told) if self._asked.tells_probabilities else UNSET

    def _last(self, event: TextFinished) -> wire.Completion:
        asked, usage = self._asked, event.usage
        stop_type = _stop_type(event, asked.settings.stop)
        left = asked.limit is None or usage.completion_tokens < asked.limit
        return wire.Completion(
            index=event.choice,
            content="",
            id_slot=asked.slot,
            model=asked.model,
            tokens_predicted=usage.completion_tokens,
            tokens_evaluated=usage.prompt_tokens,
            tokens_cached=usage.cached_tokens,
            generation_settings=asked.settings,
            prompt=asked.prompts[event.choice // asked.choices],
            has_new_line=self._has_new_line[event.choice],
            truncated=event.reason == "length" and left,
            stop_type=stop_type,
            stopping_word=(event.stopped_by or "") if stop_type == "word" else "",
            stopped_eos=stop_type == "eos",
            stopped_limit=stop_type == "limit",
            stopped_word=stop_type == "word",
            timings=_timings(event),
            completion_probabilities=() if asked.tells_probabilities else UNSET,
        )


def _stop_type(event: TextFinished, stops: tuple[str, ...]) -> str:
    if event.reason == "length":
        return "limit"
    if event.reason == "cancelled":
        return "none"
    return "word" if event.stopped_by in stops else "eos"


def _probability(item: TokenLogprob) -> wire.Probability:
    return wire.Probability(
        id=item.token,
        token=item.piece.decode(errors="replace"),
        bytes=list(item.piece),
        logprob=item.logprob if item.logprob is not None else 0.0,
        top_logprobs=[_top(likely) for likely in item.top],
    )


def _top(item: LikelyToken) -> wire.TopProbability:
    text = item.piece.decode(errors="replace")
    return wire.TopProbability(id=item.token, token=text, bytes=list(item.piece), logprob=item.logprob)


def _timings(event: TextFinished) -> wire.Timings:
    usage = event.usage
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    computed, written = usage.prompt_tokens - cached, usage.completion_tokens
    return wire.Timings(
        cache_n=cached,
        prompt_n=computed,
        prompt_ms=event.prompt_ms,
        prompt_per_token_ms=_ratio(event.prompt_ms, computed),
        prompt_per_second=_ratio(1000.0 * computed, event.prompt_ms),
        predicted_n=written,
        predicted_ms=event.predicted_ms,
        predicted_per_token_ms=_ratio(event.predicted_ms, written),
        predicted_per_second=_ratio(1000.0 * written, event.predicted_ms),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
