"""Whole answers: a job's events read to the end, and told at once. Pure but for waiting for the events."""

from collections.abc import AsyncIterable

import msgspec
from msgspec import UNSET

from compat.openai import wire
from compat.openai.logprobs import OffsetText, chat_logprobs, joined
from compat.openai.picture_tool.events import CallBegins, CallFailed, PartialPicture, PictureBegins, PictureMade, Told
from compat.openai.stream import FINISH_REASONS, Head, Manner, Tally, finish_reason, not_text, shown
from server.core.errors import Cancelled, ProtocolError
from server.core.jobs import Loading, Waiting
from server.core.text import (
    ReasoningDelta,
    TextDelta,
    TextFinished,
    TextStarted,
    TokenLogprob,
    ToolCallDelta,
)


class Draft:
    """One choice of an answer while it grows."""

    def __init__(self) -> None:
        self._deltas: list[TextDelta] = []
        self._thoughts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._calls: dict[int, list[ToolCallDelta]] = {}
        self.pictures: list[PictureMade] = []
        self.finished: TextFinished | None = None

    def take(self, event: TextDelta | ReasoningDelta | ToolCallDelta) -> None:
        """Add what is new."""
        self._logprobs.extend(event.logprobs)
        match event:
            case TextDelta():
                self._deltas.append(event)
            case ReasoningDelta():
                self._thoughts.append(event.text)
            case ToolCallDelta():
                self._calls.setdefault(event.index, []).append(event)

    def reply(self) -> "Reply":
        """Return the choice as a value; raise ProtocolError when a call has no name."""
        if self.finished is None:
            raise ProtocolError("a choice is read before it has ended")
        return Reply(
            deltas=tuple(self._deltas),
            thoughts="".join(self._thoughts),
            calls=tuple(_call(self._calls[index]) for index in sorted(self._calls)),
            logprobs=tuple(self._logprobs),
            finished=self.finished,
            pictures=tuple(self.pictures),
        )


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One choice of a finished answer."""

    deltas: tuple[TextDelta, ...]
    thoughts: str
    calls: tuple[wire.MadeCall, ...]
    logprobs: tuple[TokenLogprob, ...]
    finished: TextFinished
    pictures: tuple[PictureMade, ...] = ()

    @property
    def text(self) -> str:
        """Return the text without thoughts and calls."""
        return "".join(delta.text for delta in self.deltas)


def _call(pieces: list[ToolCallDelta]) -> wire.MadeCall:
    identity = next((piece.id for piece in pieces if piece.id), "")
    name = next((piece.name for piece in pieces if piece.name), "")
    if not identity or not name:
        raise ProtocolError("a call has neither id nor name")
    arguments = "".join(piece.arguments for piece in pieces)
    return wire.MadeCall(id=identity, function=wire.CalledFunction(name=name, arguments=arguments))


class Collected(msgspec.Struct, frozen=True):
    """A whole answer: its choices, and what they used together."""

    replies: tuple[Reply, ...]
    tally: Tally


async def collect(events: AsyncIterable[Told], tally: Tally) -> Collected:
    """Read a job's events to the end; those about pictures belong to the first choice.

    Raises:
        ServerError: the job ended with it; Cancelled when it ended before all its choices did.
    """
    drafts = [Draft() for _ in range(tally.choices)]
    async for event in events:
        match event:
            case TextStarted():
                tally.start(event)
            case TextDelta() | ReasoningDelta() | ToolCallDelta():
                drafts[event.choice].take(event)
            case TextFinished():
                tally.finish(event)
                drafts[event.choice].finished = event
            case PictureMade():
                drafts[0].pictures.append(event)
            case Waiting() | Loading() | CallBegins() | PictureBegins() | PartialPicture() | CallFailed():
                pass
            case _:
                not_text(event)
    if not tally.is_complete:
        raise Cancelled("the request was cancelled before its answer was complete", mode="stop")
    return Collected(tuple(draft.reply() for draft in drafts), tally)


def chat_from_core(head: Head, answer: Collected, manner: Manner) -> wire.ChatCompletion:
    """Return the body of a whole chat answer."""
    choices = [
        wire.ChatChoice(
            index=index,
            message=_message(reply, manner),
            logprobs=chat_logprobs(reply.logprobs) if manner.logprobs else None,
            finish_reason=finish_reason(reply.finished, called=bool(reply.calls), manner=manner),
        )
        for index, reply in enumerate(answer.replies)
    ]
    return wire.ChatCompletion(
        id=head.id,
        created=head.created,
        model=head.model,
        system_fingerprint=head.fingerprint,
        choices=tuple(choices),
        usage=answer.tally.usage(),
        timings=answer.tally.timings(),
    )


def _message(reply: Reply, manner: Manner) -> wire.AssistantMessage:
    calls = reply.calls
    return wire.AssistantMessage(
        content=reply.text if reply.text or not calls else None,
        reasoning_content=reply.thoughts if reply.thoughts and manner.reasoning else UNSET,
        tool_calls=calls if calls and not manner.old_calls else UNSET,
        function_call=calls[0].function if calls and manner.old_calls else UNSET,
        images=tuple(shown(made, index) for index, made in enumerate(reply.pictures)) or UNSET,
    )


def completion_from_core(head: Head, answer: Collected, manner: Manner) -> wire.Completion:
    """Return the body of a whole plain completion."""
    choices = [
        wire.CompletionChoice(
            text=reply.text,
            index=index,
            logprobs=_plain_logprobs(reply) if manner.logprobs else None,
            finish_reason=FINISH_REASONS[reply.finished.reason],
        )
        for index, reply in enumerate(answer.replies)
    ]
    return wire.Completion(
        id=head.id,
        created=head.created,
        model=head.model,
        system_fingerprint=head.fingerprint,
        choices=tuple(choices),
        usage=answer.tally.usage(),
        timings=answer.tally.timings(),
    )


def _plain_logprobs(reply: Reply) -> wire.PlainLogprobs:
    offsets = OffsetText()
    parts = [offsets.feed(delta.text, delta.logprobs) for delta in reply.deltas]
    return joined([part for part in parts if part is not None])
