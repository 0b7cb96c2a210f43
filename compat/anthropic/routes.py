"""The handlers of the Anthropic door: decode, convert, ask, encode."""

import secrets
from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

import msgspec
from litestar import Request, Response, Router, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody
from litestar.types import ASGIApp

from compat.anthropic import wire
from compat.anthropic.convert import collect, collect_count, count_to_core, tells_thoughts, to_core
from compat.anthropic.errors import reply
from compat.anthropic.picture_urls import name_pictures, with_pictures
from compat.anthropic.settings import AnthropicSettings
from compat.anthropic.stream import Asked, MessageEncoder
from compat.dialect import Dialect
from server.http.asking import gathered, opened
from server.http.disconnect import unless_disconnected
from server.http.fetch import Fetcher
from server.http.json_body import JsonBody, ignored_header, reading, refuse_ignored
from server.http.reply import to_response
from server.http.sse import EventStream, event_stream, frame
from server.service.service import JobStream, Service

Asking = TypeVar("Asking", bound=wire.Conversation)

PREFIX = "/v1/messages"
_WAITING = b": waiting for the model\n\n"


class Door:
    """What the handlers do."""

    def __init__(self, service: Service, settings: AnthropicSettings) -> None:
        self._service = service
        self._settings = settings
        self._fetcher = Fetcher(allowed=settings.fetch_images)

    async def answer(self, data: wire.MessagesRequest, request: JsonBody) -> Response[Any] | EventStream:
        """Answer a conversation, whole or as a stream of events."""
        headers = self._headers(request)
        data = await self._seen(data, request)
        work = to_core(data)
        encoder = MessageEncoder(
            Asked(
                id=f"msg_{secrets.token_hex(12)}",
                model=data.model,
                stops=work.sampling.stop,
                thoughts=tells_thoughts(data),
                thinking_text=data.thinking is None or data.thinking.display != "omitted",
            )
        )
        if not data.stream:
            whole = await gathered(self._service, work, request, lambda stream: collect(stream, encoder))
            return Response(whole, status_code=200, media_type="application/json", headers=headers)
        stream, accepted = await opened(self._service, work, request, patience_s=self._settings.patience_s)
        frames = _frames(stream, encoder, b"" if accepted else _WAITING)
        return event_stream(frames, headers=headers, ping_s=self._settings.ping_s, on_close=stream.aclose)

    async def count(self, data: wire.Conversation, request: JsonBody) -> Response[wire.TokenCount]:
        """Count the tokens of a conversation's prompt."""
        headers = self._headers(request)
        data = await self._seen(data, request)
        counted = await gathered(self._service, count_to_core(data), request, collect_count)
        return Response(counted, status_code=200, headers=headers)

    async def _seen(self, data: Asking, request: JsonBody) -> Asking:
        """Return the request with pictures in the place of their addresses."""
        if not name_pictures(data.messages):
            return data
        messages = await unless_disconnected(request, with_pictures(data.messages, self._fetcher))
        return msgspec.structs.replace(data, messages=messages)

    def _headers(self, request: JsonBody) -> dict[str, str]:
        refuse_ignored(request.ignored, strict=self._settings.strict)
        return _request_id(request) | ignored_header(request.ignored)


def _request_id(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the header under which Anthropic's clients look for the id that the gate gave the request."""
    given = request.scope.get("state", {}).get("request_id")
    return {"request-id": given} if isinstance(given, str) else {}


async def _frames(stream: JobStream, encoder: MessageEncoder, preface: bytes) -> AsyncIterator[bytes]:
    """Yield the frames of a job. Once bytes have gone out, an error is an `error` event and the end."""
    encode = msgspec.json.Encoder().encode
    try:
        if preface:
            yield preface
        async for event in stream:
            if told := encoder.feed(event):
                yield b"".join(frame(encode(item), event=str(item.__struct_config__.tag)) for item in told)
        encoder.close()
    except Exception as error:
        yield frame(reply(error).body, event="error")


def router(service: Service, settings: AnthropicSettings) -> Router:
    """Return the routes of `/v1/messages`."""
    door = Door(service, settings)
    refused = {400: _spec(wire.ErrorBody, "What is wrong with the request")}

    @post(
        "/",
        status_code=200,
        request_class=reading(wire.MessagesRequest),
        responses={200: _spec(wire.Answer, "The answer, or a stream of events"), **refused},
        summary="Answer a conversation",
    )
    async def messages(data: JSONBody[wire.MessagesRequest], request: JsonBody) -> ASGIApp:
        return cast("ASGIApp", await door.answer(data, request))

    @post(
        "/count_tokens",
        status_code=200,
        request_class=reading(wire.Conversation),
        responses={200: _spec(wire.TokenCount, "The length of the prompt"), **refused},
        summary="Count the tokens of a conversation",
    )
    async def count_tokens(data: JSONBody[wire.Conversation], request: JsonBody) -> ASGIApp:
        return cast("ASGIApp", await door.count(data, request))

    return Router(
        PREFIX,
        route_handlers=[messages, count_tokens],
        exception_handlers={Exception: _refuse},
        request_max_body_size=settings.body_limit,
        tags=["Anthropic"],
    )


def _spec(body: type, description: str) -> ResponseSpec:
    return ResponseSpec(body, description=description, generate_examples=False)


def _refuse(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    answered = reply(error)
    return to_response(msgspec.structs.replace(answered, headers=_request_id(request) | answered.headers))


def dialect(service: Service, settings: AnthropicSettings) -> Dialect:
    """Return the door for the application to open, before any whose prefix is `/v1`."""
    return Dialect(name="anthropic", prefixes=(PREFIX,), router=router(service, settings), reply=reply)
