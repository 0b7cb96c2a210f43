"""From accepted work to an answer: wait for the engine, then stream or read on, and let go of the job in any case."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
from litestar import Response

from compat.openai.errors import reply
from compat.openai.picture_tool.events import Told as Spoken
from compat.openai.picture_tool.names import TYPE
from compat.openai.picture_tool.rounds import Rounds
from compat.openai.picture_tool.tool import PictureTool
from compat.openai.settings import OpenAiSettings
from compat.openai.stream import Head
from server.core.errors import ContextTooLong
from server.core.jobs import Work
from server.core.text import ChatRequest
from server.http.auth import owner_of
from server.http.disconnect import unless_disconnected
from server.http.json_body import JsonBody, ignored_header
from server.http.sse import EventStream, event_stream, frame
from server.service.service import JobStream, Service

WAITING = b": waiting for the model\n\n"

Answer = Response[Any] | EventStream
T = TypeVar("T")
Told = TypeVar("Told")
ToldBy = TypeVar("ToldBy", covariant=True)
ToldTo = TypeVar("ToldTo", contravariant=True)


class Stream(Protocol[ToldBy]):
    """The events of a job, or of several that make one answer."""

    async def started(self) -> None:
        """Wait until the engine has accepted the work; raise the error that it was refused with."""
        ...

    def __aiter__(self) -> AsyncIterator[ToldBy]:
        """Return the events."""
        ...

    async def aclose(self) -> None:
        """Leave: what still runs is abandoned."""
        ...


S = TypeVar("S", bound=Stream[Any])


class Encoder(Protocol[ToldTo]):
    """Makes the chunks of a stream, each one line of JSON."""

    def feed(self, event: ToldTo) -> list[bytes]:
        """Return the chunks that an event makes."""
        ...

    def close(self) -> list[bytes]:
        """Return what stands behind the last event."""
        ...


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer to some work needs of the request.

    `param` is the field that holds the prompt, for errors about its length; `ignored` are fields without effect.
    """

    param: str
    ignored: tuple[str, ...]

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the answer."""
        return ignored_header(self.ignored)


def new_head(prefix: str, model: str, settings: OpenAiSettings) -> Head:
    """Return the head of a new answer, with an id of its own: `chatcmpl-...`, `cmpl-...`."""
    return Head(
        id=prefix + secrets.token_hex(12), created=int(time.time()), model=model, fingerprint=settings.fingerprint
    )


def submitted(service: Service, work: Work, request: JsonBody) -> JobStream:
    """Return the stream of a new job; raise what the service refuses it with."""
    return service.submit(work, owner=owner_of(request))


def conversation(
    service: Service, work: ChatRequest, tool: PictureTool | None, request: JsonBody, *, gap: str = ""
) -> Stream[Spoken]:
    """Return the stream of a chat, or of all jobs of one whose model may ask for pictures; raises as `submitted`.

    `gap` stands between the texts of two chats.
    """
    if tool is None or all(offered.name != TYPE for offered in work.tools):
        return submitted(service, work, request)
    owner = owner_of(request)
    return Rounds(work, tool, lambda more: service.submit(more, owner=owner), gap=gap)


async def streamed(
    stream: Stream[Told], order: Order, encoder: Encoder[Told], request: JsonBody, settings: OpenAiSettings
) -> EventStream:
    """Return the streamed answer once the engine has accepted the work, or once patience has ended.

    Raises:
        ServerError: the work was refused before that.
        ClientLeft: nobody waits any more.
    """
    accepted = await opened(stream, order, request, settings.patience_s)
    frames = _frames(stream, encoder, order, b"" if accepted else WAITING)
    return event_stream(frames, headers=order.headers, ping_s=settings.ping_s, on_close=stream.aclose)


async def opened(stream: Stream[Any], order: Order, request: JsonBody, patience_s: float) -> bool:
    """Tell whether the engine has accepted the work before patience ended; raises as `streamed`."""
    try:
        return await unless_disconnected(request, _accepted(stream, order, patience_s))
    except BaseException:
        await stream.aclose()
        raise


async def gathered(stream: S, order: Order, read: Callable[[S], Awaitable[T]], request: JsonBody) -> T:
    """Return what `read` makes of all events; raises as `streamed`, and what ends the work later too."""
    try:
        return await unless_disconnected(request, _read(stream, read, order))
    finally:
        await stream.aclose()


def whole(body: Any, order: Order) -> Response[Any]:
    """Return a whole answer."""
    return Response(body, status_code=200, media_type="application/json", headers=order.headers)


def placed(error: ContextTooLong, param: str) -> ContextTooLong:
    """Return the error with the field that holds the prompt; the engine doesn't know its name."""
    return ContextTooLong(error.message, **{**error.facts, "param": param})


async def _accepted(stream: Stream[Any], order: Order, patience_s: float) -> bool:
    try:
        async with asyncio.timeout(patience_s):
            await stream.started()
    except TimeoutError:
        return False
    except ContextTooLong as error:
        raise placed(error, order.param) from None
    return True


async def _read(stream: S, read: Callable[[S], Awaitable[T]], order: Order) -> T:
    try:
        return await read(stream)
    except ContextTooLong as error:
        raise placed(error, order.param) from None


async def _frames(stream: Stream[Told], encoder: Encoder[Told], order: Order, preface: bytes) -> AsyncIterator[bytes]:
    """Yield the frames of an answer. Once bytes have gone out, an error is a frame and the end, without `[DONE]`."""
    try:
        if preface:
            yield preface
        async for event in stream:
            if chunks := encoder.feed(event):
                yield b"".join(map(frame, chunks))
        yield b"".join(map(frame, encoder.close()))
    except ContextTooLong as error:
        yield frame(reply(placed(error, order.param)).body)
    except Exception as error:
        yield frame(reply(error).body)
