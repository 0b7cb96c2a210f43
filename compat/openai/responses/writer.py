"""A job's events as the events of a response's stream, and at the end the response itself. Knows no transport.

An item is open while its events come: thoughts, then a message, then calls, in whatever order the model has them; one
of another kind closes it. A picture's item keeps its place while its call is written and other items follow; it is done
when the picture is there. Plain answers are written the same way, only that nobody reads the events.
"""

from collections.abc import Callable
from typing import TypedDict

import msgspec

from compat.openai.logprobs import chat_logprobs
from compat.openai.picture_tool.events import (
    CallBegins,
    CallFailed,
    PartialPicture,
    PictureBegins,
    PictureEvent,
    PictureMade,
    Told,
)
from compat.openai.responses import output
from compat.openai.stream import Tally, not_text
from compat.openai.wire import ErrorDetail, TokenLogprob
from server.core.errors import Cancelled, ProtocolError
from server.core.jobs import Loading, Waiting
from server.core.text import ReasoningDelta, TextDelta, TextFinished, TextStarted, ToolCallDelta

NewId = Callable[[str], str]
Events = list[output.StreamEvent]

Key = tuple[str, int]
_MESSAGE: Key = ("message", 0)
_THOUGHTS: Key = ("thoughts", 0)


class _Open:
    """The item that is being written. `key` is what it is, and which one of these."""

    def __init__(self, key: Key, item: output.OutputItem) -> None:
        self.key = key
        self.item = item
        self.pieces: list[str] = []
        self.logprobs: list[TokenLogprob] = []

    def finished(self, status: str) -> output.OutputItem:
        """Return the item with all that was written."""
        text = "".join(self.pieces)
        match self.item:
            case output.MessageItem():
                content = (output.OutputText(text=text, logprobs=tuple(self.logprobs)),)
                return msgspec.structs.replace(self.item, status=status, content=content)
            case output.ReasoningItem():
                return msgspec.structs.replace(self.item, status=status, content=(output.ReasoningText(text=text),))
            case output.CallItem():
                return msgspec.structs.replace(self.item, status=status, arguments=text)
            case output.PictureItem():
                return self.item


class Writer:
    """Writes one response. `new_id` makes an id with the prefix that it is given; `now` tells Unix seconds."""

    def __init__(
        self, blank: output.Response, new_id: NewId, now: Callable[[], float], *, logprobs: bool = False
    ) -> None:
        self.response = blank
        self._new_id = new_id
        self._now = now
        self._logprobs = logprobs
        self._tally = Tally(1, per_prompt=1)
        self._number = 0
        self._items: list[output.OutputItem] = []
        self._pictures: dict[int, int] = {}
        self._open: _Open | None = None
        self._reason = ""

    def start(self) -> Events:
        """Return the events that stand before all others."""
        return [
            output.Created(response=self.response, sequence_number=self._next()),
            output.InProgress(response=self.response, sequence_number=self._next()),
        ]

    def feed(self, event: Told) -> Events:
        """Return the events that a job's event makes, or one about a picture."""
        match event:
            case CallBegins() | PictureBegins() | PartialPicture() | PictureMade() | CallFailed():
                return self._picture(event)
            case TextDelta():
                return self._text(event)
            case ReasoningDelta():
                return self._thought(event)
            case ToolCallDelta():
                return self._call(event)
            case TextFinished():
                return self._finish(event)
            case TextStarted():
                self._tally.start(event)
                return []
            case Waiting() | Loading():
                return []
            case _:
                return not_text(event)

    def close(self) -> output.StreamEvent:
        """Return the last event; raise Cancelled when the job ended before its answer did.

        From here on `response` is the finished one.
        """
        if not self._tally.is_complete:
            raise Cancelled("the request was cancelled before its answer was complete", mode="stop")
        is_cut = self._reason == "length"
        self.response = msgspec.structs.replace(
            self.response,
            status="incomplete" if is_cut else "completed",
            incomplete_details=output.Incomplete("max_output_tokens") if is_cut else None,
            completed_at=None if is_cut else int(self._now()),
            output=tuple(self._items),
            usage=self._usage(),
        )
        kind = output.Ended if is_cut else output.Completed
        return kind(response=self.response, sequence_number=self._next())

    def fail(self, detail: ErrorDetail) -> Events:
        """Return the last events of a response that cannot be finished."""
        for index in (index for index in self._pictures.values() if index < len(self._items)):
            self._items[index] = msgspec.structs.replace(self._items[index], status="failed")
        self.response = msgspec.structs.replace(
            self.response,
            status="failed",
            error=output.Failure(code=detail.code or "server_error", message=detail.message),
            output=tuple(self._items),
        )
        error = output.ErrorEvent(
            code=detail.code, message=detail.message, param=detail.param, sequence_number=self._next()
        )
        return [error, output.Failed(response=self.response, sequence_number=self._next())]

    def _next(self) -> int:
        number = self._number
        self._number += 1
        return number

    def _usage(self) -> output.Usage:
        usage = self._tally.usage()
        return output.Usage(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=output.InputDetails(cached_tokens=usage.prompt_tokens_details.cached_tokens),
            output_tokens=usage.completion_tokens,
            output_tokens_details=output.OutputDetails(usage.completion_tokens_details.reasoning_tokens),
            total_tokens=usage.total_tokens,
        )

    def _text(self, event: TextDelta) -> Events:
        logprobs = chat_logprobs(event.logprobs).content if self._logprobs else ()
        if not event.text and not logprobs:
            return []
        events = self._turn_to(_MESSAGE)
        item, index = self._writing()
        item.pieces.append(event.text)
        item.logprobs.extend(logprobs)
        more = output.TextMore(
            item_id=item.item.id,
            output_index=index,
            delta=event.text,
            logprobs=logprobs,
            sequence_number=self._next(),
        )
        return [*events, more]

    def _thought(self, event: ReasoningDelta) -> Events:
        if not event.text:
            return []
        events = self._turn_to(_THOUGHTS)
        item, index = self._writing()
        item.pieces.append(event.text)
        more = output.ThoughtMore(
            item_id=item.item.id, output_index=index, delta=event.text, sequence_number=self._next()
        )
        return [*events, more]

    def _call(self, event: ToolCallDelta) -> Events:
        events: Events = []
        key = ("call", event.index)
        if self._open is None or self._open.key != key:
            if not event.id or not event.name:
                raise ProtocolError("a call begins without id or name")
            item = output.CallItem(id=self._new_id("fc_"), status="in_progress", call_id=event.id, name=event.name)
            events = [*self._close("completed"), *self._begin(key, item)]
        if not event.arguments:
            return events
        writing, index = self._writing()
        writing.pieces.append(event.arguments)
        more = output.ArgumentsMore(
            item_id=writing.item.id, output_index=index, delta=event.arguments, sequence_number=self._next()
        )
        return [*events, more]

    def _finish(self, event: TextFinished) -> Events:
        self._tally.finish(event)
        self._reason = event.reason
        events: Events = []
        if self._open is None and not self._items:
            events = self._turn_to(_MESSAGE)  # an answer has at least one item
        events += self._close("incomplete" if event.reason == "length" else "completed")
        return [*events, *(made for number in list(self._pictures) for made in self._settle(number, status="failed"))]

    def _picture(self, event: PictureEvent) -> Events:
        if isinstance(event, CallBegins):
            item = output.PictureItem(id=self._new_id("ig_"), status="in_progress")
            begun = [*self._close("completed"), *self._begin(("picture", event.number), item)]
            self._pictures[event.number] = index = len(self._items)
            return [*begun, output.PictureAsked(item_id=item.id, output_index=index, sequence_number=self._next())]
        closed = self._close("completed")
        index = self._pictures[event.number]
        where: _Where = {"item_id": self._items[index].id, "output_index": index}
        match event:
            case PictureBegins():
                self._items[index] = msgspec.structs.replace(self._items[index], status="generating")
                return [*closed, output.PictureBegun(**where, sequence_number=self._next())]
            case PartialPicture():
                shown = output.PictureShown(
                    **where,
                    partial_image_index=event.index,
                    partial_image_b64=event.base64,
                    quality=event.quality,
                    size=event.size,
                    sequence_number=self._next(),
                )
                return [*closed, shown]
            case PictureMade():
                done = output.PictureDone(**where, sequence_number=self._next())
                return [*closed, done, *self._settle(event.number, **_told_of(event))]
            case CallFailed():
                return [*closed, *self._settle(event.number, status="failed")]

    def _settle(self, number: int, **changes: str) -> Events:
        """Finish a picture's item."""
        index = self._pictures.pop(number)
        item = self._items[index] = msgspec.structs.replace(self._items[index], **changes)
        return [output.ItemDone(output_index=index, item=item, sequence_number=self._next())]

    def _writing(self) -> tuple[_Open, int]:
        if self._open is None:
            raise ProtocolError("no item is open")
        return self._open, len(self._items)

    def _turn_to(self, key: Key) -> Events:
        if self._open is not None and self._open.key == key:
            return []
        events = self._close("completed")
        item: output.MessageItem | output.ReasoningItem
        part: output.Piece
        if key == _MESSAGE:
            item = output.MessageItem(id=self._new_id("msg_"), status="in_progress")
            part = output.OutputText(text="")
        else:
            item = output.ReasoningItem(id=self._new_id("rs_"), status="in_progress")
            part = output.ReasoningText(text="")
        events += self._begin(key, item)
        added = output.PartAdded(
            item_id=item.id, output_index=len(self._items), part=part, sequence_number=self._next()
        )
        return [*events, added]

    def _begin(self, key: Key, item: output.OutputItem) -> Events:
        self._open = _Open(key, item)
        return [output.ItemAdded(output_index=len(self._items), item=item, sequence_number=self._next())]

    def _close(self, status: str) -> Events:
        if self._open is None:
            return []
        index, item = len(self._items), self._open.finished(status)
        self._items.append(item)
        self._open = None
        if isinstance(item, output.PictureItem):
            return []  # its place is taken; it is done when the picture is there
        events = self._done(item, index)
        return [*events, output.ItemDone(output_index=index, item=item, sequence_number=self._next())]

    def _done(self, item: output.OutputItem, index: int) -> Events:
        match item:
            case output.MessageItem(id=identity, content=(piece,)):
                text = output.TextDone(
                    item_id=identity,
                    output_index=index,
                    text=piece.text,
                    logprobs=piece.logprobs,
                    sequence_number=self._next(),
                )
                return [text, self._part_done(identity, index, piece)]
            case output.ReasoningItem(id=identity, content=(thoughts,)):
                told = output.ThoughtDone(
                    item_id=identity, output_index=index, text=thoughts.text, sequence_number=self._next()
                )
                return [told, self._part_done(identity, index, thoughts)]
            case output.CallItem():
                return [
                    output.ArgumentsDone(
                        item_id=item.id,
                        output_index=index,
                        name=item.name,
                        arguments=item.arguments,
                        sequence_number=self._next(),
                    )
                ]
            case _:
                raise ProtocolError("an item has no part")

    def _part_done(self, identity: str, index: int, part: output.Piece) -> output.PartDone:
        return output.PartDone(item_id=identity, output_index=index, part=part, sequence_number=self._next())


class _Where(TypedDict):
    item_id: str
    output_index: int


def _told_of(made: PictureMade) -> dict[str, str]:
    return {
        "status": "completed",
        "result": made.base64,
        "revised_prompt": made.prompt,
        "action": "edit" if made.edited else "generate",
        "background": "opaque",
        "output_format": made.kind,
        "quality": made.quality,
        "size": made.size,
    }
