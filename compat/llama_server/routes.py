"""The handlers of llama-server's door: decode, convert, ask, encode."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromQuery, JSONBody
from litestar.types import ASGIApp

from compat.dialect import Dialect
from compat.llama_server import wire
from compat.llama_server.convert import (
    asked_by,
    chosen_fields,
    collect,
    collect_tokens,
    completion_to_core,
    infill_to_core,
    tokens_from_core,
)
from compat.llama_server.embedding import embedding_routes
from compat.llama_server.errors import reply
from compat.llama_server.facts import Facts
from compat.llama_server.messages import template_to_core
from compat.llama_server.model_routes import model_routes
from compat.llama_server.sampling import unknown_samplers
from compat.llama_server.settings import LlamaServerSettings
from compat.llama_server.slots import slot_routes
from compat.llama_server.stream import CompletionEncoder
from server.core.text import CompletionRequest, Tokenized, TokenizeRequest
from server.http.asking import gathered, opened
from server.http.auth import owner_of
from server.http.json_body import JsonBody, ignored_header, reading, refuse_ignored
from server.http.reply import to_response
from server.http.sse import EventStream, event_stream, frame
from server.service.service import JobStream, Service

PREFIXES = (
    "/completion",
    "/completions",
    "/infill",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/embedding",
    "/lora-adapters",
    "/models/load",
    "/models/unload",
    "/props",
    "/slots",
    "/metrics",
)

ALIASES: Mapping[str, str] = {
    "/chat/completions": "/v1/chat/completions",
    "/embeddings": "/v1/embeddings",
    "/models": "/v1/models",
    "/rerank": "/v1/rerank",
    "/reranking": "/v1/rerank",
    "/v1/reranking": "/v1/rerank",
    "/responses": "/v1/responses",
}
"""llama-server's further names of routes that the OpenAI door answers."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_WAITING = b": waiting for the model\n\n"


class Door:
    """What the handlers do."""

    def __init__(self, service: Service, settings: LlamaServerSettings) -> None:
        self._service = service
        self._settings = settings
        self.facts = Facts(service, settings)

    async def complete(self, data: wire.CompletionRequest, request: JsonBody) -> Response[Any] | EventStream:
        """Continue raw prompts."""
        return await self._write(data, completion_to_core(data, self.facts.model(data.model)), request)

    async def infill(self, data: wire.InfillRequest, request: JsonBody) -> Response[Any] | EventStream:
        """Fill the gap between a prefix and a suffix."""
        return await self._write(data, infill_to_core(data, self.facts.model(data.model)), request)

    async def _write(
        self, data: wire.GenerationFields, work: CompletionRequest, request: JsonBody
    ) -> Response[Any] | EventStream:
        headers = self._headers(request, unknown_samplers(data))
        encoder = CompletionEncoder(asked_by(data, work))
        if not data.stream:
            whole = await gathered(self._service, work, request, lambda stream: collect(stream, encoder))
            told = [chosen_fields(completion, data.response_fields) for completion in whole]
            return Response(told[0] if len(told) == 1 else told, status_code=200, headers=headers)
        stream, accepted = await opened(self._service, work, request, patience_s=self._settings.patience_s)
        frames = _frames(stream, encoder, data.response_fields, b"" if accepted else _WAITING)
        return event_stream(frames, headers=headers, ping_s=self._settings.ping_s, on_close=stream.aclose)

    async def tokenize(self, data: wire.TokenizeRequest, request: JsonBody) -> Response[wire.Tokens]:
        """Split a text into tokens."""
        work = TokenizeRequest(
            model=self.facts.model(data.model),
            text=data.content,
            add_special=bool(data.add_special),
            parse_special=data.parse_special is not False,
        )
        told = await self._ask(work, request)
        return Response(tokens_from_core(told, with_pieces=bool(data.with_pieces)), headers=self._headers(request))

    async def detokenize(self, data: wire.DetokenizeRequest, request: JsonBody) -> Response[wire.Content]:
        """Join tokens to a text."""
        told = await self._ask(TokenizeRequest(model=self.facts.model(data.model), tokens=tuple(data.tokens)), request)
        return Response(wire.Content(told.text), headers=self._headers(request))

    async def apply_template(self, data: wire.TemplateRequest, request: JsonBody) -> Response[wire.Prompt]:
        """Render a conversation by the model's chat template."""
        model = self.facts.model(data.model)
        told = await self._ask(TokenizeRequest(model=model, chat=template_to_core(data, model)), request)
        return Response(wire.Prompt(told.text), headers=self._headers(request))

    async def _ask(self, work: TokenizeRequest, request: JsonBody) -> Tokenized:
        self._headers(request)
        return await gathered(self._service, work, request, collect_tokens)

    def _headers(self, request: JsonBody, more: tuple[str, ...] = ()) -> dict[str, str]:
        ignored = (*request.ignored, *more)
        refuse_ignored(ignored, strict=self._settings.strict)
        return ignored_header(ignored)


async def _frames(
    stream: JobStream, encoder: CompletionEncoder, wanted: list[str] | None, preface: bytes
) -> AsyncIterator[bytes]:
    """Yield the frames of a job. Once bytes have gone out, an error is a frame and the end. There is no `[DONE]`."""
    encode = msgspec.json.Encoder().encode
    try:
        if preface:
            yield preface
        async for event in stream:
            for told in encoder.feed(event):
                body = told if isinstance(told, wire.Chunk) else chosen_fields(told, wanted)
                yield frame(encode(body))
        encoder.close()
    except Exception as error:
        yield frame(reply(error).body)


def router(service: Service, settings: LlamaServerSettings) -> Router:
    """Return the routes of this door."""
    door = Door(service, settings)
    return Router(
        "/",
        route_handlers=[
            *_writing(door),
            *_tokens(door),
            *_telling(door),
            *embedding_routes(service, door.facts, settings),
            *model_routes(service, door.facts, settings),
            *slot_routes(service, door.facts, settings),
        ],
        exception_handlers={Exception: _refuse},
        request_max_body_size=settings.body_limit,
        tags=["llama-server"],
    )


def _writing(door: Door) -> list[Any]:
    @post(
        ["/completion", "/completions"],
        status_code=200,
        request_class=reading(wire.CompletionRequest),
        responses=_answers(wire.Completion, "The completion (or several), or a stream of chunks"),
        summary="Continue raw prompts",
    )
    async def completion(data: JSONBody[wire.CompletionRequest], request: JsonBody) -> ASGIApp:
        return cast("ASGIApp", await door.complete(data, request))

    @post(
        "/infill",
        status_code=200,
        request_class=reading(wire.InfillRequest),
        responses=_answers(wire.Completion, "The completion, or a stream of chunks"),
        summary="Fill the gap between a prefix and a suffix",
    )
    async def infill(data: JSONBody[wire.InfillRequest], request: JsonBody) -> ASGIApp:
        return cast("ASGIApp", await door.infill(data, request))

    return [completion, infill]


def _tokens(door: Door) -> list[Any]:
    @post("/tokenize", status_code=200, request_class=reading(wire.TokenizeRequest), summary="Split a text")
    async def tokenize(data: JSONBody[wire.TokenizeRequest], request: JsonBody) -> Response[wire.Tokens]:
        return await door.tokenize(data, request)

    @post("/detokenize", status_code=200, request_class=reading(wire.DetokenizeRequest), summary="Join tokens")
    async def detokenize(data: JSONBody[wire.DetokenizeRequest], request: JsonBody) -> Response[wire.Content]:
        return await door.detokenize(data, request)

    @post(
        "/apply-template",
        status_code=200,
        request_class=reading(wire.TemplateRequest),
        summary="Render a conversation by the model's chat template",
    )
    async def apply_template(data: JSONBody[wire.TemplateRequest], request: JsonBody) -> Response[wire.Prompt]:
        return await door.apply_template(data, request)

    return [tokenize, detokenize, apply_template]


def _telling(door: Door) -> list[Any]:
    @get("/props", summary="Tell about a model")
    async def props(model: FromQuery[str | None] = None) -> wire.Props:
        return door.facts.props(model)

    @get("/slots", summary="Tell of the caller's own running jobs")
    async def slots(
        request: Request[Any, Any, Any],
        model: FromQuery[str | None] = None,
        fail_on_no_slot: FromQuery[str | None] = None,
    ) -> list[wire.Slot]:
        return door.facts.slots(owner_of(request), model, fail_when_full=fail_on_no_slot is not None)

    @get("/metrics", summary="Figures for Prometheus")
    async def metrics() -> Response[str]:
        return Response(door.facts.metrics(), media_type=METRICS_TYPE)

    return [props, slots, metrics]


def _answers(body: type, description: str) -> dict[int, ResponseSpec]:
    refused = ResponseSpec(wire.ErrorBody, description="What is wrong with the request", generate_examples=False)
    return {200: ResponseSpec(body, description=description, generate_examples=False), 400: refused}


def _refuse(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    return to_response(reply(error))


def dialect(service: Service, settings: LlamaServerSettings) -> Dialect:
    """Return the door for the application to open."""
    return Dialect(name="llama_server", prefixes=PREFIXES, router=router(service, settings), reply=reply)
