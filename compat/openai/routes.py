"""The handlers of the OpenAI door: decode, convert, ask, encode."""

import logging
from typing import cast

from litestar import Request, Response, Router, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody
from litestar.types import ASGIApp

from compat.dialect import Dialect
from compat.openai import cards, serve, wire
from compat.openai.body import BodyRequest, reading, tellable
from compat.openai.convert import (
    chat_from_core,
    chat_to_core,
    completion_from_core,
    completion_to_core,
    ignored_options,
)
from compat.openai.errors import reply
from compat.openai.settings import OpenAiSettings
from compat.openai.stream import ChatEncoder, CompletionEncoder, Tally
from server.core.errors import UnknownModel
from server.core.models import ModelKind
from server.http.reply import to_response
from server.service.service import Service

logger = logging.getLogger(__name__)

PREFIX = "/v1"
_MOST_TOLD = 256


class Door:
    """What the handlers do; owns only the memory of which ignored fields the log has been told of."""

    def __init__(self, service: Service, settings: OpenAiSettings) -> None:
        self._service = service
        self._settings = settings
        self._told: set[str] = set()

    async def chat(self, data: wire.ChatCompletionRequest, request: BodyRequest) -> serve.Answer:
        """Answer a conversation."""
        model = self._model(data.model)
        work = chat_to_core(data, model)
        order = serve.Order(
            work=work,
            head=serve.new_head("chatcmpl", model, self._settings),
            tally=Tally(work.choices, per_prompt=work.choices),
            param="messages",
            ignored=self._noted(request.ignored + ignored_options(data)),
        )
        if data.stream:
            encoder = ChatEncoder(order.head, order.tally, include_usage=wants_usage(data))
            return await serve.streamed(self._service, order, encoder, request, self._settings)
        return await serve.collected(self._service, order, chat_from_core, request)

    async def complete(self, data: wire.CompletionRequest, request: BodyRequest) -> serve.Answer:
        """Continue raw prompts."""
        model = self._model(data.model)
        work = completion_to_core(data, model, self._settings.completion_tokens)
        order = serve.Order(
            work=work,
            head=serve.new_head("cmpl", model, self._settings),
            tally=Tally(work.choices * len(work.prompts), per_prompt=work.choices),
            param="prompt",
            ignored=self._noted(request.ignored),
        )
        if data.stream:
            encoder = CompletionEncoder(order.head, order.tally, include_usage=wants_usage(data))
            return await serve.streamed(self._service, order, encoder, request, self._settings)
        return await serve.collected(self._service, order, completion_from_core, request)

    def models(self) -> wire.ModelList:
        """List every model that could be loaded."""
        status = cards.states(self._service.memory().residents)
        listed = [cards.entry(card, status) for card in self._service.models(*cards.LISTED) if card.broken is None]
        return wire.ModelList(data=tuple(listed))

    def model(self, name: str) -> wire.Model:
        """Tell about one model, by its id, name or alias; raise UnknownModel."""
        card = self._service.find(name, *cards.LISTED)
        if card.broken is not None:
            raise UnknownModel(f"model {name!r} cannot be used: its file is broken", model=name, close=[])
        return cards.entry(card, cards.states(self._service.memory().residents))

    def _model(self, name: str | None) -> str:
        if name:
            return name
        residents = self._service.memory().residents
        return cards.default_model(self._settings.default_model, self._service.models(ModelKind.TEXT), residents)

    def _noted(self, ignored: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names that can be told, and say in the log, once for each, that they have no effect."""
        names = tellable(ignored)
        for name in names:
            if name not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add(name)
                logger.info("requests have the field %s, which is accepted without effect", name)
        return names


def wants_usage(data: wire.SamplingFields) -> bool:
    """Tell whether a stream is to end with a usage chunk."""
    return bool(data.stream_options and data.stream_options.include_usage)


def router(service: Service, settings: OpenAiSettings) -> Router:
    """Return the routes of `/v1`."""
    door = Door(service, settings)
    refused = {400: ResponseSpec(wire.ErrorBody, description="What is wrong with the request", generate_examples=False)}

    @post(
        "/chat/completions",
        status_code=200,
        request_class=reading(wire.ChatCompletionRequest),
        responses={200: _spec(wire.ChatCompletion, "The answer, or a stream of chunks"), **refused},
        summary="Continue a conversation",
    )
    async def chat_completions(data: JSONBody[wire.ChatCompletionRequest], request: BodyRequest) -> ASGIApp:
        return cast("ASGIApp", await door.chat(data, request))

    @post(
        "/completions",
        status_code=200,
        request_class=reading(wire.CompletionRequest),
        responses={200: _spec(wire.Completion, "The answer, or a stream of chunks"), **refused},
        summary="Continue raw prompts",
    )
    async def completions(data: JSONBody[wire.CompletionRequest], request: BodyRequest) -> ASGIApp:
        return cast("ASGIApp", await door.complete(data, request))

    @get("/models", summary="List the models")
    async def models() -> wire.ModelList:
        return door.models()

    @get("/models/{model_id:path}", summary="Tell about one model")
    async def model(model_id: FromPath[str]) -> wire.Model:
        return door.model(model_id.removeprefix("/"))

    return Router(
        PREFIX,
        route_handlers=[chat_completions, completions, models, model],
        exception_handlers={Exception: _refuse},
        request_max_body_size=settings.body_limit,
        tags=["OpenAI"],
    )


def _spec(body: type, description: str) -> ResponseSpec:
    return ResponseSpec(body, description=description, generate_examples=False)


def _refuse(_: Request, error: Exception) -> Response[bytes]:  # type: ignore[type-arg]
    return to_response(reply(error))


def dialect(service: Service, settings: OpenAiSettings) -> Dialect:
    """Return the door for the application to open."""
    return Dialect(name="openai", prefixes=(PREFIX,), router=router(service, settings), reply=reply)
