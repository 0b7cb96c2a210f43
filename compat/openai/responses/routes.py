"""The handlers of `/v1/responses`."""

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.types import ASGIApp

from compat.openai import serve
from compat.openai.desk import Desk
from compat.openai.errors import reply
from compat.openai.picture_tool.events import Told
from compat.openai.picture_tool.found import is_offered, picture_tool
from compat.openai.picture_tool.tool import PictureTool
from compat.openai.responses import output, wire
from compat.openai.responses.convert import blank, response_to_core, response_without_effect
from compat.openai.responses.items import Placed, last_picture, own_items, remembered
from compat.openai.responses.memory import Memory
from compat.openai.responses.pages import page_of
from compat.openai.responses.writer import Writer
from compat.openai.specs import answers
from compat.openai.wire import ErrorBody, JsonObject
from server.core.errors import ContextTooLong, Unsupported
from server.http.auth import owner_of
from server.http.json_body import JsonBody, reading
from server.http.sse import event_stream, frame

_PARAM = "input"


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One answer on its way: what writes it, and what is remembered of it in the end."""

    writer: Writer
    items: list[wire.Item]
    owner: str
    store: bool


class ResponsesDoor:
    """What the handlers do."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._memory = Memory(desk.settings)

    async def create(self, data: wire.ResponsesRequest, request: JsonBody) -> serve.Answer:
        """Answer an input."""
        owner = owner_of(request)
        model = self._desk.model(data.model)
        own = own_items(data.input)
        earlier = await self._memory.before(data.previous_response_id, owner)
        resolved = await self._seen(await self._memory.resolved(own, owner), request)
        items = [*earlier, *resolved]
        work = response_to_core(data, items, model)
        tool = await self._picture_tool(data, items, model)
        work = work if tool is None else tool.offered(work)
        ignored = self._desk.noted(request.ignored + response_without_effect(data))
        order = serve.Order(param=_PARAM, ignored=ignored)
        store = self._memory.is_there and data.store is not False
        response = blank(data, id=new_id("resp_"), model=model, created=int(time.time()), store=store)
        writer = Writer(response, new_id, time.time, logprobs=work.logprobs is not None)
        turn = Turn(writer=writer, items=remembered(resolved, new_id), owner=owner, store=store)
        stream = serve.conversation(self._desk.service, work, tool, request)
        if data.stream:
            return await self._streamed(stream, order, turn, request)
        await serve.gathered(stream, order, lambda events: self._written(events, turn), request)
        return serve.whole(turn.writer.response, order)

    async def _seen(self, items: list[Placed], request: JsonBody) -> list[Placed]:
        places = [where for _, where in items]
        return list(zip(await self._desk.seen([item for item, _ in items], places, request), places, strict=True))

    async def _picture_tool(self, data: wire.ResponsesRequest, items: list[Placed], model: str) -> PictureTool | None:
        base = last_picture(items) if is_offered(data.tools) else None
        default, most = self._desk.settings.images.default_model, data.max_tool_calls
        return await picture_tool(data.tools, self._desk.service, default, model=model, base=base, most=most)

    async def _streamed(
        self, stream: serve.Stream[Told], order: serve.Order, turn: Turn, request: JsonBody
    ) -> serve.Answer:
        settings = self._desk.settings
        await serve.opened(stream, order, request, settings.patience_s)
        frames = self._frames(stream, turn)
        return event_stream(frames, headers=order.headers, ping_s=settings.ping_s, on_close=stream.aclose)

    async def _written(self, stream: serve.Stream[Told], turn: Turn) -> None:
        turn.writer.start()
        async for event in stream:
            turn.writer.feed(event)
        turn.writer.close()
        await self._keep(turn)

    async def _frames(self, stream: serve.Stream[Told], turn: Turn) -> AsyncIterator[bytes]:
        """Yield the frames of a response; an error is told in its last two events."""
        writer = turn.writer
        try:
            yield _framed(writer.start())
            async for event in stream:
                if events := writer.feed(event):
                    yield _framed(events)
            last = writer.close()
            await self._keep(turn)  # before its end is told: the client may go on from it at once
            yield _framed([last])
        except ContextTooLong as error:
            yield _failed(writer, serve.placed(error, _PARAM))
        except Exception as error:
            yield _failed(writer, error)

    async def _keep(self, turn: Turn) -> None:
        if turn.store:
            await self._memory.keep(turn.writer.response, turn.items, turn.owner)

    async def get(self, response: str, request: Request[Any, Any, Any]) -> bytes:
        """Return a stored response."""
        if request.query_params.get("stream", "false") not in ("false", "0", ""):
            raise Unsupported.of("stream", "a stored response cannot be streamed again by this server")
        return (await self._memory.get(response, owner_of(request))).response

    async def delete(self, response: str, request: Request[Any, Any, Any]) -> output.Deleted:
        """Forget a stored response."""
        await self._memory.delete(response, owner_of(request))
        return output.Deleted(id=response)

    async def input_items(self, response: str, request: Request[Any, Any, Any]) -> output.ItemList:
        """Return a page of the items that a stored response was made from."""
        stored = await self._memory.get(response, owner_of(request))
        return page_of(msgspec.json.decode(stored.input, type=list[JsonObject]), request.query_params)


def new_id(prefix: str) -> str:
    """Return a new id with that prefix."""
    return prefix + secrets.token_hex(16)


_encode = msgspec.json.encode


def _framed(events: list[output.StreamEvent]) -> bytes:
    return b"".join(frame(_encode(event), event=str(event.__struct_config__.tag)) for event in events)


def _failed(writer: Writer, error: Exception) -> bytes:
    return _framed(writer.fail(msgspec.json.decode(reply(error).body, type=ErrorBody).error))


def response_routes(desk: Desk) -> list[HTTPRouteHandler]:
    """Return the handlers below `/v1`."""
    door = ResponsesDoor(desk)

    @post(
        "/responses",
        status_code=200,
        request_class=reading(wire.ResponsesRequest),
        responses=answers(output.Response, "The response, or a stream of events"),
        summary="Answer an input of items",
    )
    async def responses(data: JSONBody[wire.ResponsesRequest], request: JsonBody) -> ASGIApp:
        return cast("ASGIApp", await door.create(data, request))

    @get(
        "/responses/{response_id:str}",
        responses=answers(output.Response, "The stored response"),
        summary="Tell a stored response again",
    )
    async def stored(response_id: FromPath[str], request: Request[Any, Any, Any]) -> Response[bytes]:
        return Response(await door.get(response_id, request), media_type="application/json")

    @delete("/responses/{response_id:str}", status_code=200, summary="Forget a stored response")
    async def forget(response_id: FromPath[str], request: Request[Any, Any, Any]) -> output.Deleted:
        return await door.delete(response_id, request)

    @get("/responses/{response_id:str}/input_items", summary="List what a stored response was made from")
    async def input_items(response_id: FromPath[str], request: Request[Any, Any, Any]) -> output.ItemList:
        return await door.input_items(response_id, request)

    return [responses, stored, forget, input_items]
