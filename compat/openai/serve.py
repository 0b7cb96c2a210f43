"""From accepted work to an answer: wait for the engine, then stream or collect, and let go of the job in any case."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from litestar import Response

from compat.openai.body import BodyRequest
from compat.openai.convert import Collected, collect
from compat.openai.errors import reply
from compat.openai.settings import OpenAiSettings
from compat.openai.stream import ChatEncoder, CompletionEncoder, Head, Tally
from server.core.errors import ContextTooLong
from server.core.jobs import Work
from server.http.auth import owner_of
from server.http.disconnect import unless_disconnected
from server.http.sse import EventStream, event_stream, frame
from server.service.service import JobStream, Service

IGNORED_HEADER = "x-hearth-ignored"

Encoder = ChatEncoder | CompletionEncoder
Answer = Response[Any] | EventStream
_WAITING = b": waiting for the model\n\n"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Work with all that its answer needs: the head of its chunks and the request it belongs to.

    `param` is the field that holds the prompt, for errors about its length.
    """

    work: Work
    head: Head
    tally: Tally
    param: str
    ignored: tuple[str, ...]

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the answer."""
        return {IGNORED_HEADER: ", ".join(self.ignored)} if self.ignored else {}


def new_head(prefix: str, model: str, settings: OpenAiSettings) -> Head:
    """Return the head of a new answer, with an id of its own: `chatcmpl-...`, `cmpl-...`."""
    identity = f"{prefix}-{secrets.token_hex(12)}"
    return Head(id=identity, created=int(time.time()), model=model, fingerprint=settings.fingerprint)


async def streamed(
    service: Service, order: Order, encoder: Encoder, request: BodyRequest, settings: OpenAiSettings
) -> EventStream:
    """Return the streamed answer once the engine has accepted the work, or once patience has ended.

    Raises:
        ServerError: the work was refused before that.
        ClientLeft: nobody waits any more.
    """
    stream = service.submit(order.work, owner=owner_of(request))
    try:
        accepted = await unless_disconnected(request, _accepted(stream, order, settings.patience_s))
    except BaseException:
        await stream.aclose()
        raise
    frames = _frames(stream, encoder, order, b"" if accepted else _WAITING)
    return event_stream(frames, headers=order.headers, ping_s=settings.ping_s, on_close=stream.aclose)


async def collected(
    service: Service, order: Order, body: Callable[[Head, Collected], Any], request: BodyRequest
) -> Response[Any]:
    """Return the whole answer; raises as `streamed`, and what ends the job later too."""
    stream = service.submit(order.work, owner=owner_of(request))
    try:
        answer = await unless_disconnected(request, _collect(stream, order))
    finally:
        await stream.aclose()
    return Response(body(order.head, answer), status_code=200, media_type="application/json", headers=order.headers)


async def _accepted(stream: JobStream, order: Order, patience_s: float) -> bool:
    try:
        async with asyncio.timeout(patience_s):
            await stream.started()
    except TimeoutError:
        return False
    except ContextTooLong as error:
        raise _placed(error, order) from None
    return True


async def _collect(stream: JobStream, order: Order) -> Collected:
    try:
        return await collect(stream, order.tally)
    except ContextTooLong as error:
        raise _placed(error, order) from None


def _placed(error: ContextTooLong, order: Order) -> ContextTooLong:
    """Return the error with the field that holds the prompt; the engine doesn't know its name."""
    return ContextTooLong(error.message, **{**error.facts, "param": order.param})


async def _frames(stream: JobStream, encoder: Encoder, order: Order, preface: bytes) -> AsyncIterator[bytes]:
    """Yield the frames of a job. Once bytes have gone out, an error is a frame and the end, without `[DONE]`."""
    try:
        if preface:
            yield preface
        async for event in stream:
            if chunks := encoder.feed(event):
                yield b"".join(map(frame, chunks))
        yield b"".join(map(frame, encoder.close()))
    except ContextTooLong as error:
        yield frame(reply(_placed(error, order)).body)
    except Exception as error:
        yield frame(reply(error).body)
