"""The handlers of the OpenAI door: decode, convert, ask, encode."""

from typing import cast

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.types import ASGIApp

from compat.dialect import Dialect
from compat.openai import cards, models_wire, serve, wire
from compat.openai.answer import chat_from_core, collect, completion_from_core
from compat.openai.convert import chat_to_core, completion_to_core, without_effect
from compat.openai.desk import Desk
from compat.openai.errors import reply
from compat.openai.images.routes import image_routes
from compat.openai.messages import last_picture
from compat.openai.picture_tool.found import is_offered, picture_tool
from compat.openai.picture_tool.tool import PictureTool
from compat.openai.reasoning import shows_reasoning
from compat.openai.responses.routes import response_routes
from compat.openai.settings import OpenAiSettings
from compat.openai.specs import answers
from compat.openai.stream import ChatEncoder, CompletionEncoder, Manner, Tally
from compat.openai.tools import is_old_form
from compat.openai.vectors_routes import VectorsDoor, vector_routes
from server.core.errors import UnknownModel
from server.core.text import ChatRequest
from server.http.json_body import JsonBody, reading
from server.http.reply import to_response
from server.service.service import Service

PREFIX = "/v1"
GAP = "\n\n"
"""Between what a model says before and after a picture, where both are one text."""


class Door:
    """What the handlers for text and models do."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._service = desk.service

    async def chat(self, data: wire.ChatCompletionRequest, request: JsonBody) -> serve.Answer:
        """Answer a conversation."""
        model = self._desk.model(data.model)
        places = [f"messages[{index}]" for index in range(len(data.messages))]
        data = msgspec.structs.replace(data, messages=await self._desk.seen(data.messages, places, request))
        work = chat_to_core(data, model)
        tool = await self._picture_tool(data, work)
        work = work if tool is None else tool.offered(work)
        order = serve.Order(param="messages", ignored=self._ignored(data, request))
        head = serve.new_head("chatcmpl-", model, self._desk.settings)
        tally = Tally(work.choices, per_prompt=work.choices)
        manner = Manner(
            usage=wants_usage(data),
            logprobs=work.logprobs is not None,
            reasoning=shows_reasoning(data),
            old_calls=is_old_form(data),
        )
        stream = serve.conversation(self._service, work, tool, request, gap=GAP)
        if data.stream:
            encoder = ChatEncoder(head, tally, manner)
            return await serve.streamed(stream, order, encoder, request, self._desk.settings)
        answer = await serve.gathered(stream, order, lambda events: collect(events, tally), request)
        return serve.whole(chat_from_core(head, answer, manner), order)

    async def _picture_tool(self, data: wire.ChatCompletionRequest, work: ChatRequest) -> PictureTool | None:
        base = last_picture(data.messages, work.messages) if is_offered(data.tools) else None
        default = self._desk.settings.images.default_model
        return await picture_tool(data.tools, self._service, default, model=work.model, base=base)

    async def complete(self, data: wire.CompletionRequest, request: JsonBody) -> serve.Answer:
        """Continue raw prompts."""
        model = self._desk.model(data.model)
        work = completion_to_core(data, model, self._desk.settings.completion_tokens)
        order = serve.Order(param="prompt", ignored=self._ignored(data, request))
        head = serve.new_head("cmpl-", model, self._desk.settings)
        tally = Tally(work.choices * len(work.prompts), per_prompt=work.choices)
        manner = Manner(usage=wants_usage(data), logprobs=work.logprobs is not None)
        stream = serve.submitted(self._service, work, request)
        if data.stream:
            encoder = CompletionEncoder(head, tally, manner)
            return await serve.streamed(stream, order, encoder, request, self._desk.settings)
        answer = await serve.gathered(stream, order, lambda events: collect(events, tally), request)
        return serve.whole(completion_from_core(head, answer, manner), order)

    def models(self) -> models_wire.ModelList:
        """List every model that could be loaded."""
        status = cards.states(self._service.memory().residents)
        listed = [cards.entry(card, status) for card in self._service.models(*cards.LISTED) if card.broken is None]
        return models_wire.ModelList(data=tuple(listed))

    def model(self, name: str) -> models_wire.Model:
        """Tell about one model, by its id, name or alias; raise UnknownModel."""
        card = self._service.find(name, *cards.LISTED)
        if card.broken is not None:
            raise UnknownModel(f"model {name!r} cannot be used: its file is broken", model=name, close=[])
        return cards.entry(card, cards.states(self._service.memory().residents))

    def _ignored(self, data: wire.SamplerFields, request: JsonBody) -> tuple[str, ...]:
        return self._desk.noted(request.ignored + without_effect(data))


def wants_usage(data: wire.SamplingFields) -> bool:
    """Tell whether a stream is to end with a usage chunk."""
    return bool(data.stream_options and data.stream_options.include_usage)


def router(service: Service, settings: OpenAiSettings) -> Router:
    """Return the routes of `/v1`."""
    desk = Desk(service, settings)
    return Router(
        PREFIX,
        route_handlers=[
            *text_routes(Door(desk)),
            *vector_routes(VectorsDoor(desk)),
            *response_routes(desk),
            *image_routes(desk, settings.images),
        ],
        exception_handlers={Exception: _refuse},
        request_max_body_size=settings.body_limit,
        tags=["OpenAI"],
    )


def text_routes(door: Door) -> list[HTTPRouteHandler]:
    """Return the handlers for text and for the list of models."""

    @post(
        "/chat/completions",
        status_code=200,
        request_class=reading(wire.ChatCompletionRequest),
        responses=answers(wire.ChatCompletion, "The answer, or a stream of chunks"),
        summary="Continue a conversation",
    )
    async def chat_completions(data: JSONBody[wire.ChatCompletionRequest], request: JsonBody) -> ASGIApp:
        return cast("ASGIApp", await door.chat(data, request))

    @post(
        "/completions",
        status_code=200,
        request_class=reading(wire.CompletionRequest),
        responses=answers(wire.Completion, "The answer, or a stream of chunks"),
        summary="Continue raw prompts",
    )
    async def completions(data: JSONBody[wire.CompletionRequest], request: JsonBody) -> ASGIApp:
        return cast("ASGIApp", await door.complete(data, request))

    @get("/models", summary="List the models")
    async def models() -> models_wire.ModelList:
        return door.models()

    @get("/models/{model_id:path}", summary="Tell about one model")
    async def model(model_id: FromPath[str]) -> models_wire.Model:
        return door.model(model_id.removeprefix("/"))

    return [chat_completions, completions, models, model]


def _refuse(_: Request, error: Exception) -> Response[bytes]:  # type: ignore[type-arg]
    return to_response(reply(error))


def dialect(service: Service, settings: OpenAiSettings) -> Dialect:
    """Return the door for the application to open."""
    return Dialect(name="openai", prefixes=(PREFIX,), router=router(service, settings), reply=reply)
