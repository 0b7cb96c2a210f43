"""`POST /embedding`: llama-server's own way to vectors. The OpenAI door has the other one, also as `/embeddings`."""

import asyncio
import struct
from typing import Any

from litestar import Response, post
from litestar.params import JSONBody

from compat.llama_server import wire
from compat.llama_server.facts import Facts
from compat.llama_server.prompts import prompts_to_core
from compat.llama_server.settings import LlamaServerSettings
from server.core.errors import Cancelled, InvalidValue
from server.core.text import EmbeddingRequest, EmbeddingsReady
from server.http.asking import gathered
from server.http.json_body import JsonBody, ignored_header, reading, refuse_ignored
from server.service.service import JobStream, Service

_FLOAT32 = 4


def embedding_to_core(request: wire.EmbeddingRequest, model: str) -> EmbeddingRequest:
    """Return the inputs as core work for a model; raise InvalidValue when there are none, or an empty one."""
    given = request.content if request.input is None else request.input
    at = "content" if request.input is None else "input"
    if given is None:
        raise InvalidValue.of("content", "'input' or 'content' must be provided")
    inputs = prompts_to_core(given, at)
    for index, one in enumerate(inputs):
        if not one:
            where = f"{at}[{index}]" if isinstance(given, list) else at
            raise InvalidValue.of(where, f"'{where}' is empty; there is nothing to embed")
    return EmbeddingRequest(
        model=model, inputs=inputs, norm=2 if request.embd_normalize is None else request.embd_normalize
    )


async def collect_rows(stream: JobStream, count: int) -> list[tuple[int, bytes]]:
    """Return each input's number with its vector's bytes; raise Cancelled when not all were made."""
    rows: dict[int, bytes] = {}
    async for event in stream:
        if isinstance(event, EmbeddingsReady):
            width = event.dimensions * _FLOAT32
            starts = range(0, len(event.vectors), width)
            rows |= {event.first + k: event.vectors[start : start + width] for k, start in enumerate(starts)}
    if len(rows) != count:
        raise Cancelled("the request was cancelled before all embeddings were made", mode="stop")
    return sorted(rows.items())


def rows_to_wire(rows: list[tuple[int, bytes]]) -> list[wire.Embedding]:
    """Return the answer: one vector for each input, in the list that would hold one for each token."""
    return [
        wire.Embedding(index=index, embedding=(struct.unpack(f"<{len(row) // _FLOAT32}f", row),)) for index, row in rows
    ]


def embedding_routes(service: Service, facts: Facts, settings: LlamaServerSettings) -> list[Any]:
    """Return the handler."""

    @post(
        "/embedding", status_code=200, request_class=reading(wire.EmbeddingRequest), summary="Turn texts into vectors"
    )
    async def embedding(data: JSONBody[wire.EmbeddingRequest], request: JsonBody) -> Response[list[wire.Embedding]]:
        refuse_ignored(request.ignored, strict=settings.strict)
        work = embedding_to_core(data, facts.embedder(data.model))
        count = len(work.inputs)
        rows = await gathered(service, work, request, lambda stream: collect_rows(stream, count))
        told = await asyncio.to_thread(rows_to_wire, rows)
        return Response(told, headers=ignored_header(request.ignored))

    return [embedding]
