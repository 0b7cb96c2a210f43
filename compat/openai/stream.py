"""A stream's chunks: encoders that are fed a job's events and give JSON bodies. They know nothing of the transport.

One chunk costs a few small structs and one encoding: 2-3 us (see the test that times it).
"""

from typing import Never, assert_never

import msgspec
from msgspec import UNSET, UnsetType

from compat.openai import wire
from compat.openai.logprobs import OffsetText, chat_logprobs
from compat.openai.picture_tool.events import CallBegins, CallFailed, PartialPicture, PictureBegins, PictureMade, Told
from server.core.errors import Cancelled, ProtocolError
from server.core.image import ImageFinished, ImageReady, ImageStarted, Preview, StepDone
from server.core.jobs import Event, Loading, Waiting
from server.core.slots import SlotDone
from server.core.text import (
    EmbeddingsReady,
    FinishReason,
    ReasoningDelta,
    ScoresReady,
    TextDelta,
    TextFinished,
    TextStarted,
    Tokenized,
    TokenLogprob,
    ToolCallDelta,
)
from server.http.picture_files import MEDIA_TYPES

DONE = b"[DONE]"

FINISH_REASONS: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "cancelled": "stop",
}
"""The core's words in OpenAI's; a job that was stopped on request has nothing better than `stop`."""

_NOTHING = wire.Delta()


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer is told.

    `usage`: a stream ends with a usage chunk. `logprobs`: tokens are told. `reasoning`: thoughts are told.
    `old_calls`: a call is told as `function_call`, as to a request with `functions`.
    """

    usage: bool = False
    logprobs: bool = False
    reasoning: bool = True
    old_calls: bool = False


def finish_reason(event: TextFinished, *, called: bool, manner: Manner) -> str:
    """Return why a choice ended, in OpenAI's words; an ordinary end behind calls counts as theirs."""
    reason = FINISH_REASONS[event.reason]
    if called and reason in ("stop", "tool_calls"):
        return "function_call" if manner.old_calls else "tool_calls"
    return reason


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What every chunk of a stream repeats."""

    id: str
    created: int
    model: str
    fingerprint: str


class Tally:
    """Adds up what the choices of one answer used. Choice `k` of prompt `i` has the index `i * per_prompt + k`."""

    def __init__(self, choices: int, *, per_prompt: int) -> None:
        self.choices = choices
        self._per_prompt = per_prompt
        self._prompt_tokens: int | None = None
        self._finished: dict[int, TextFinished] = {}

    @property
    def is_complete(self) -> bool:
        """Tell whether every choice has finished."""
        return len(self._finished) == self.choices

    def start(self, event: TextStarted) -> None:
        """Note the length of all prompts together."""
        self._prompt_tokens = event.prompt_tokens

    def finish(self, event: TextFinished) -> None:
        """Note what one choice used."""
        self._finished[event.choice] = event

    def usage(self) -> wire.Usage:
        """Return the tokens of the answer; each prompt counts once, however many choices continue it."""
        firsts = [event.usage for index, event in self._finished.items() if index % self._per_prompt == 0]
        prompt = self._prompt_tokens
        if prompt is None:
            prompt = sum(usage.prompt_tokens for usage in firsts)
        completion = sum(event.usage.completion_tokens for event in self._finished.values())
        cached = min(sum(usage.cached_tokens for usage in firsts), prompt)
        thought = sum(event.usage.reasoning_tokens for event in self._finished.values())
        return wire.Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=wire.PromptTokensDetails(cached),
            completion_tokens_details=wire.CompletionTokensDetails(min(thought, completion)),
        )

    def timings(self) -> wire.Timings | UnsetType:
        """Return the speed of the answer, unset when nothing was timed. Choices run at once, so the longest counts."""
        prompt_ms = max((event.prompt_ms for event in self._finished.values()), default=0.0)
        predicted_ms = max((event.predicted_ms for event in self._finished.values()), default=0.0)
        if prompt_ms <= 0 and predicted_ms <= 0:
            return UNSET
        usage = self.usage()
        cached = usage.prompt_tokens_details.cached_tokens
        computed, written = usage.prompt_tokens - cached, usage.completion_tokens
        return wire.Timings(
            cache_n=cached,
            prompt_n=computed,
            prompt_ms=prompt_ms,
            prompt_per_token_ms=_ratio(prompt_ms, computed),
            prompt_per_second=_ratio(1000.0 * computed, prompt_ms),
            predicted_n=written,
            predicted_ms=predicted_ms,
            predicted_per_token_ms=_ratio(predicted_ms, written),
            predicted_per_second=_ratio(1000.0 * written, predicted_ms),
        )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def shown(made: PictureMade, index: int) -> wire.ShownPicture:
    """Return a picture that the model has asked for, number `index` of the message."""
    url = f"data:{MEDIA_TYPES[made.kind]};base64,{made.base64}"
    return wire.ShownPicture(index=index, image_url=wire.PictureUrl(url))


class ChatEncoder:
    """Chunks of a chat answer: role, thoughts, text, calls and pictures, finish for each choice, usage, `[DONE]`."""

    def __init__(self, head: Head, tally: Tally, manner: Manner) -> None:
        self._head = head
        self._tally = tally
        self._manner = manner
        self._opened: set[int] = set()
        self._called: set[int] = set()
        self._pictures = 0
        self._encode = msgspec.json.Encoder().encode

    def feed(self, event: Told) -> list[bytes]:
        """Return the chunks that an event makes, each one line of JSON."""
        match event:
            case TextDelta() | ReasoningDelta() | ToolCallDelta():
                return self._more(event)
            case PictureMade():
                return self._picture(event)
            case CallBegins() | PictureBegins() | PartialPicture() | CallFailed():
                return []
            case TextFinished():
                return self._finish(event)
            case TextStarted():
                self._tally.start(event)
                return []
            case Waiting() | Loading():
                return []
            case _:
                return not_text(event)

    def close(self) -> list[bytes]:
        """Return what stands behind the last choice; raise Cancelled when the job ended before all choices did."""
        return _closing(self._tally, self._last() if self._manner.usage else None)

    def _more(self, event: TextDelta | ReasoningDelta | ToolCallDelta) -> list[bytes]:
        delta = self._delta(event)
        if delta is None and not event.logprobs:
            return []
        chunks = self._opening(event.choice)
        chunks.append(self._chunk(event.choice, delta or _NOTHING, logprobs=event.logprobs))
        return chunks

    def _delta(self, event: TextDelta | ReasoningDelta | ToolCallDelta) -> wire.Delta | None:
        match event:
            case TextDelta():
                return wire.Delta(content=event.text) if event.text else None
            case ReasoningDelta():
                return wire.Delta(reasoning_content=event.text) if event.text and self._manner.reasoning else None
            case ToolCallDelta():
                return self._call(event)

    def _call(self, event: ToolCallDelta) -> wire.Delta | None:
        self._called.add(event.choice)
        if not event.id:
            if not event.arguments:
                return None
            function = wire.CalledFunction(arguments=event.arguments)
            call = wire.CallDelta(index=event.index, function=function)
        else:
            function = wire.CalledFunction(name=event.name, arguments=event.arguments)
            call = wire.CallDelta(index=event.index, id=event.id, type="function", function=function)
        if self._manner.old_calls:
            return wire.Delta(function_call=function) if event.index == 0 else None
        return wire.Delta(tool_calls=(call,))

    def _picture(self, made: PictureMade) -> list[bytes]:
        chunks = self._opening(0)
        chunks.append(self._chunk(0, wire.Delta(images=(shown(made, self._pictures),))))
        self._pictures += 1
        return chunks

    def _finish(self, event: TextFinished) -> list[bytes]:
        self._tally.finish(event)
        chunks = self._opening(event.choice)
        is_last = self._tally.is_complete and not self._manner.usage
        timings = self._tally.timings() if is_last else UNSET
        reason = finish_reason(event, called=event.choice in self._called, manner=self._manner)
        chunks.append(self._chunk(event.choice, _NOTHING, reason=reason, timings=timings))
        return chunks

    def _opening(self, choice: int) -> list[bytes]:
        if choice in self._opened:
            return []
        self._opened.add(choice)
        return [self._chunk(choice, wire.Delta(role="assistant", content=None))]

    def _chunk(
        self,
        choice: int,
        delta: wire.Delta,
        *,
        logprobs: tuple[TokenLogprob, ...] = (),
        reason: str | None = None,
        timings: wire.Timings | UnsetType = UNSET,
    ) -> bytes:
        told = chat_logprobs(logprobs) if logprobs and self._manner.logprobs else None
        head = self._head
        chunk = wire.Chunk(
            id=head.id,
            created=head.created,
            model=head.model,
            system_fingerprint=head.fingerprint,
            choices=(wire.ChunkChoice(index=choice, delta=delta, logprobs=told, finish_reason=reason),),
            usage=None if self._manner.usage else UNSET,
            timings=timings,
        )
        return self._encode(chunk)

    def _last(self) -> bytes:
        head = self._head
        chunk = wire.Chunk(
            id=head.id,
            created=head.created,
            model=head.model,
            system_fingerprint=head.fingerprint,
            choices=(),
            usage=self._tally.usage(),
            timings=self._tally.timings(),
        )
        return self._encode(chunk)


class CompletionEncoder:
    """Chunks of a plain completion: text, finish for each choice, then usage if asked for, then `[DONE]`."""

    def __init__(self, head: Head, tally: Tally, manner: Manner) -> None:
        self._head = head
        self._tally = tally
        self._manner = manner
        self._offsets: dict[int, OffsetText] = {}
        self._encode = msgspec.json.Encoder().encode

    def feed(self, event: Event) -> list[bytes]:
        """Return the chunks that an event makes, each one line of JSON."""
        match event:
            case TextDelta():
                return self._delta(event)
            case TextFinished():
                self._tally.finish(event)
                is_last = self._tally.is_complete and not self._manner.usage
                timings = self._tally.timings() if is_last else UNSET
                return [self._chunk(event.choice, "", reason=FINISH_REASONS[event.reason], timings=timings)]
            case TextStarted():
                self._tally.start(event)
                return []
            case Waiting() | Loading():
                return []
            case ReasoningDelta() | ToolCallDelta():
                raise ProtocolError("a plain completion gave thoughts or calls")
            case _:
                return not_text(event)

    def close(self) -> list[bytes]:
        """Return what stands behind the last choice; raise Cancelled when the job ended before all choices did."""
        return _closing(self._tally, self._last() if self._manner.usage else None)

    def _delta(self, event: TextDelta) -> list[bytes]:
        told = None
        if self._manner.logprobs:
            told = self._offsets.setdefault(event.choice, OffsetText()).feed(event.text, event.logprobs)
        if not event.text and told is None:
            return []
        return [self._chunk(event.choice, event.text, logprobs=told)]

    def _chunk(
        self,
        choice: int,
        text: str,
        *,
        logprobs: wire.PlainLogprobs | None = None,
        reason: str | None = None,
        timings: wire.Timings | UnsetType = UNSET,
    ) -> bytes:
        return self._body(
            (wire.CompletionChoice(text=text, index=choice, logprobs=logprobs, finish_reason=reason),),
            usage=None if self._manner.usage else UNSET,
            timings=timings,
        )

    def _last(self) -> bytes:
        return self._body((), usage=self._tally.usage(), timings=self._tally.timings())

    def _body(
        self,
        choices: tuple[wire.CompletionChoice, ...],
        *,
        usage: wire.Usage | UnsetType | None,
        timings: wire.Timings | UnsetType,
    ) -> bytes:
        head = self._head
        chunk = wire.Completion(
            id=head.id,
            created=head.created,
            model=head.model,
            system_fingerprint=head.fingerprint,
            choices=choices,
            usage=usage,
            timings=timings,
        )
        return self._encode(chunk)


OfAnotherJob = (
    EmbeddingsReady
    | ScoresReady
    | Tokenized
    | SlotDone
    | ImageStarted
    | StepDone
    | Preview
    | ImageReady
    | ImageFinished
)


def not_text(event: OfAnotherJob) -> Never:
    """Raise ProtocolError: the event belongs to a job of another kind."""
    match event:
        case EmbeddingsReady() | ScoresReady() | Tokenized() | SlotDone():
            raise ProtocolError("a job that writes text gave vectors, scores, tokens or a file")
        case ImageStarted() | StepDone() | Preview() | ImageReady() | ImageFinished():
            raise ProtocolError("a text job gave pictures")
        case _:
            assert_never(event)


def _closing(tally: Tally, last: bytes | None) -> list[bytes]:
    if not tally.is_complete:
        raise Cancelled("the request was cancelled before its answer was complete", mode="stop")
    return [DONE] if last is None else [last, DONE]
