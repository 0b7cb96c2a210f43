"""The jobs of one answer whose model may ask for pictures, one after the other, as one stream of events.

| a chat ended with | then |
|---|---|
| no call of the tool | the answer is whole |
| calls of the tool alone | their pictures are made, the model is told so, and goes on |
| calls of other functions too | the pictures are made; it is the caller's turn to answer the other calls |
| its limit of tokens | calls are not whole: nothing is made |
"""

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Callable
from typing import Self

import msgspec

from compat.openai.images.answer import Making, signed, size_text
from compat.openai.images.convert import draw_seed, effort_of
from compat.openai.images.stream import Partials
from compat.openai.picture_tool.events import (
    CallBegins,
    CallFailed,
    PartialPicture,
    PictureBegins,
    PictureEvent,
    PictureMade,
    Told,
)
from compat.openai.picture_tool.names import FAILED, NO_MORE, SHOWN, TYPE
from compat.openai.picture_tool.tool import Arguments, PictureTool
from server.core.errors import BadRequest, Cancelled, InvalidValue, ProtocolError
from server.core.image import ImageReady, ImageRequest, Preview, Size, StepDone
from server.core.jobs import Event, Work
from server.core.text import (
    ChatRequest,
    Message,
    ReasoningDelta,
    TextDelta,
    TextFinished,
    TextPart,
    TextStarted,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from server.service.service import JobStream

Submit = Callable[[Work], JobStream]


class Call:
    """A call while it is written. `number` counts the tool's calls of the whole answer, and other calls of a chat."""

    def __init__(self, event: ToolCallDelta, number: int) -> None:
        if not event.id or not event.name:
            raise ProtocolError("a call begins without id or name")
        self.id = event.id
        self.name = event.name
        self.number = number
        self.arguments: list[str] = []

    @property
    def made(self) -> ToolCall:
        """Return the whole call."""
        return ToolCall(id=self.id, name=self.name, arguments="".join(self.arguments))


class Chat:
    """What one chat of the answer has said: kept for the next one, and told but for the calls of the tool.

    The first of these has the number `first`; `gap` stands before its text.
    """

    def __init__(self, first: int = 0, gap: str = "") -> None:
        self.text: list[str] = []
        self.thoughts: list[str] = []
        self.finished: TextFinished | None = None
        self._calls: dict[int, Call] = {}
        self._first = first
        self._gap = gap

    @property
    def pictures(self) -> list[Call]:
        """Return the calls of the tool."""
        return [call for call in self._calls.values() if call.name == TYPE]

    @property
    def others(self) -> list[Call]:
        """Return the calls that are the caller's to answer."""
        return [call for call in self._calls.values() if call.name != TYPE]

    def take(self, event: Event) -> list[Told]:
        """Note an event; return what is told of it. How long the prompt was and the end are told at the very end."""
        match event:
            case TextDelta():
                gap, self._gap = self._gap, ""
                self.text.append(event.text)
                return [msgspec.structs.replace(event, text=gap + event.text) if gap else event]
            case ReasoningDelta():
                self.thoughts.append(event.text)
            case ToolCallDelta():
                return self._call(event)
            case TextFinished():
                self.finished = event
                return []
            case TextStarted():
                return []
            case _:
                pass
        return [event]

    def _call(self, event: ToolCallDelta) -> list[Told]:
        told: list[Told] = []
        call = self._calls.get(event.index)
        if call is None:
            is_picture = event.name == TYPE
            call = Call(event, self._first + len(self.pictures) if is_picture else len(self.others))
            self._calls[event.index] = call
            told = [CallBegins(call.number)] if is_picture else []
        call.arguments.append(event.arguments)
        return told if call.name == TYPE else [msgspec.structs.replace(event, index=call.number)]


class Rounds:
    """Reads like the stream of one job; closing it ends the job that runs, and none follows.

    `submit` begins a job. Between the texts of two chats stands `gap`.
    """

    def __init__(self, work: ChatRequest, tool: PictureTool, submit: Submit, *, gap: str = "") -> None:
        self._work = work
        self._tool = tool
        self._submit = submit
        self._gap = gap
        self._calls = 0
        self._said = False
        self._results: list[str] = []
        self._ends: list[TextFinished] = []
        self._live = submit(work)
        self._events = self._all()

    async def started(self) -> None:
        """Wait until the chat model has accepted the work; raise the error that it was refused with."""
        await self._live.started()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Told:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Leave."""
        await self._events.aclose()
        await self._live.aclose()

    async def _all(self) -> AsyncGenerator[Told, None]:
        chat = Chat()
        while True:
            async for event in self._live:
                for told in chat.take(event):
                    yield told
            if chat.finished is None:
                return  # cancelled: who reads this finds no end
            self._ends.append(chat.finished)
            self._results = []
            for call in chat.pictures if chat.finished.reason in ("stop", "tool_calls") else ():
                async for picture in self._answered(call):
                    yield picture
            work = self._next(chat)
            if work is None:
                break
            self._said = self._said or bool(chat.text)
            chat = Chat(self._calls, self._gap if self._said else "")
            self._work, self._live = work, self._submit(work)
        yield self._end(chat)

    async def _answered(self, call: Call) -> AsyncGenerator[PictureEvent, None]:
        """Make the picture of a call."""
        self._calls += 1
        tool = self._tool
        try:
            if self._calls > tool.most:
                raise InvalidValue(NO_MORE)
            said = tool.read(call.made.arguments)
            work = await asyncio.to_thread(tool.work, said, draw_seed())
        except BadRequest as error:
            self._results.append(f"{FAILED} {error.message}")
            yield CallFailed(call.number)
            return
        yield PictureBegins(call.number)
        try:
            async for told in self._made(call, said, work):
                yield told
        except BadRequest as error:
            raise tool.placed(error) from None

    async def _made(self, call: Call, said: Arguments, work: ImageRequest) -> AsyncGenerator[PictureEvent, None]:
        """Run the job of a picture."""
        tool = self._tool
        making = Making(work=work, effort=effort_of(tool.request(said)), created=int(time.time()))
        partials = Partials(tool.asked.partial_images or 0)
        ready: ImageReady | None = None
        self._live = self._submit(work)
        async for event in self._live:
            match event:
                case StepDone():
                    partials.step(event)
                case Preview() if (index := partials.next()) is not None:
                    yield PartialPicture(
                        number=call.number,
                        index=index,
                        base64=base64.b64encode(event.png).decode("ascii"),
                        size=size_text(work.size),
                        quality=making.effort,
                    )
                case ImageReady():
                    ready = event
                case _:
                    pass
        if ready is None:
            raise Cancelled("the request was cancelled before its picture was ready", mode="stop")
        file = await asyncio.to_thread(signed, making, ready)
        self._tool = msgspec.structs.replace(tool, base=file, mask=None)
        self._results.append(SHOWN)
        yield PictureMade(
            number=call.number,
            prompt=said.prompt,
            base64=base64.b64encode(file).decode("ascii"),
            kind=making.kind,
            size=size_text(Size(ready.width, ready.height)),
            quality=making.effort,
            edited=tool.edits(said),
        )

    def _next(self, chat: Chat) -> ChatRequest | None:
        """Return the chat that follows, None when the answer is whole."""
        if not self._results or chat.others:
            return None
        work = self._work
        limit = work.sampling.max_tokens
        if limit is not None:
            limit -= chat.finished.usage.completion_tokens if chat.finished else 0
            if limit <= 0:
                return None
        *before, last = work.messages
        text = "".join(chat.text)
        if work.continue_final:
            text = "".join(part.text for part in last.parts if isinstance(part, TextPart)) + text
        else:
            before.append(last)
        spoken = Message(
            role="assistant",
            parts=(TextPart(text),) if text else (),
            tool_calls=tuple(call.made for call in chat.pictures),
            reasoning="".join(chat.thoughts) or None,
        )
        results = (
            Message(role="tool", parts=(TextPart(result),), tool_call_id=call.id)
            for call, result in zip(chat.pictures, self._results, strict=True)
        )
        # Once no more pictures can be made the tool is gone: the model cannot go on calling it.
        is_over = self._calls >= self._tool.most
        return msgspec.structs.replace(
            work,
            messages=(*before, spoken, *results),
            sampling=msgspec.structs.replace(work.sampling, max_tokens=limit),
            tools=tuple(tool for tool in work.tools if not (is_over and tool.name == TYPE)),
            tool_choice="auto",
            tool_name="",
            continue_final=False,
        )

    def _end(self, chat: Chat) -> TextFinished:
        """Return the end of the answer: all chats together."""
        is_cut = bool(self._results) and not chat.others  # the model had more to say, but no tokens left
        usages = [end.usage for end in self._ends]
        last = self._ends[-1]
        return msgspec.structs.replace(
            last,
            reason="length" if is_cut else last.reason,
            usage=Usage(
                prompt_tokens=sum(usage.prompt_tokens for usage in usages),
                completion_tokens=sum(usage.completion_tokens for usage in usages),
                cached_tokens=sum(usage.cached_tokens for usage in usages),
                reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
            ),
            prompt_ms=sum(end.prompt_ms for end in self._ends),
            predicted_ms=sum(end.predicted_ms for end in self._ends),
        )
