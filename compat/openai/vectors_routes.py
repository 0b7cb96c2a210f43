"""The handlers of `/v1/embeddings` and of reranking, which llama-server offers at a second path."""

import asyncio
from typing import Any, cast

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from litestar.types import ASGIApp

from compat.openai import serve, vectors_wire
from compat.openai.cards import Role
from compat.openai.desk import Desk
from compat.openai.embeddings import collect_vectors, embeddings_from_core, embeddings_to_core
from compat.openai.rerank import collect_scores, rerank_from_core, rerank_to_core
from compat.openai.specs import answers
from server.http.json_body import JsonBody, reading


class VectorsDoor:
    """What the handlers do."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def embed(self, data: vectors_wire.EmbeddingRequest, request: JsonBody) -> Response[Any]:
        """Turn texts into vectors."""
        work = embeddings_to_core(data, self._desk.model(data.model, Role.EMBEDDER))
        order = serve.Order(param="input", ignored=self._desk.noted(request.ignored))
        count = len(work.inputs)
        stream = serve.submitted(self._desk.service, work, request)
        vectors = await serve.gathered(stream, order, lambda events: collect_vectors(events, count), request)
        # Thousands of vectors are a second's work, during which streams of others must go on.
        body = await asyncio.to_thread(
            embeddings_from_core, vectors, work.model, as_base64=data.encoding_format == "base64"
        )
        return serve.whole(body, order)

    async def rerank(self, data: vectors_wire.RerankRequest, request: JsonBody) -> Response[Any]:
        """Score documents against a query."""
        work = rerank_to_core(data, self._desk.model(data.model, Role.RERANKER))
        param = "documents" if data.texts is None else "texts"
        order = serve.Order(param=param, ignored=self._desk.noted(request.ignored))
        count = len(work.documents)
        stream = serve.submitted(self._desk.service, work, request)
        scores = await serve.gathered(stream, order, lambda events: collect_scores(events, count), request)
        return serve.whole(rerank_from_core(data, work, scores), order)


def vector_routes(door: VectorsDoor) -> list[HTTPRouteHandler]:
    """Return the handlers below `/v1`."""

    @post(
        "/embeddings",
        status_code=200,
        request_class=reading(vectors_wire.EmbeddingRequest),
        responses=answers(vectors_wire.EmbeddingList, "The vectors, in the order of the inputs"),
        summary="Turn texts into vectors",
    )
    async def embeddings(data: JSONBody[vectors_wire.EmbeddingRequest], request: JsonBody) -> ASGIApp:
        return cast("ASGIApp", await door.embed(data, request))

    @post(
        ["/rerank", "/reranking"],
        status_code=200,
        request_class=reading(vectors_wire.RerankRequest),
        responses=answers(vectors_wire.Ranking, "The documents' scores, best first"),
        summary="Score documents against a query",
    )
    async def rerank(data: JSONBody[vectors_wire.RerankRequest], request: JsonBody) -> ASGIApp:
        return cast("ASGIApp", await door.rerank(data, request))

    return [embeddings, rerank]
