"""Embeddings: from the wire to the core, and vectors back. Pure but for waiting for events."""

import base64
import struct
from collections.abc import AsyncIterable

import msgspec

from compat.openai import vectors_wire as wire
from compat.openai.prompts import Prompts, prompts_to_core
from server.core.errors import Cancelled, InvalidValue, ProtocolError
from server.core.jobs import Event, Loading, Waiting
from server.core.text import EmbeddingRequest, EmbeddingsReady, TextStarted

FLOAT32 = 4


def embeddings_to_core(request: wire.EmbeddingRequest, model: str) -> EmbeddingRequest:
    """Return the inputs as core work for a model; raise InvalidValue for an empty one, with its path."""
    inputs = prompts_to_core(request.input, "input")
    _check_full(inputs, is_one=isinstance(request.input, str))
    return EmbeddingRequest(model=model, inputs=inputs, dimensions=request.dimensions)


def _check_full(inputs: Prompts, *, is_one: bool) -> None:
    for index, one in enumerate(inputs):
        if not one:
            where = "input" if is_one else f"input[{index}]"
            raise InvalidValue.of(where, f"'{where}' is empty; there is nothing to embed")


class Vectors(msgspec.Struct, frozen=True):
    """Little-endian float32 vectors in the order of the inputs, and the tokens of all inputs."""

    rows: tuple[bytes, ...]
    tokens: int


async def collect_vectors(events: AsyncIterable[Event], count: int) -> Vectors:
    """Read a job's events to the end; raise Cancelled when it ended before all vectors were there."""
    rows: dict[int, bytes] = {}
    tokens = 0
    async for event in events:
        match event:
            case EmbeddingsReady():
                rows |= _rows(event)
            case TextStarted():
                tokens = event.prompt_tokens
            case Waiting() | Loading():
                pass
            case _:
                raise ProtocolError("a job for embeddings gave something else")
    if rows.keys() != set(range(count)):
        raise Cancelled("the request was cancelled before all embeddings were made", mode="stop")
    return Vectors(tuple(rows[index] for index in range(count)), tokens)


def _rows(event: EmbeddingsReady) -> dict[int, bytes]:
    width = event.dimensions * FLOAT32
    if width <= 0 or len(event.vectors) % width:
        raise ProtocolError("the bytes of embeddings are no whole number of vectors")
    starts = range(0, len(event.vectors), width)
    return {event.first + k: event.vectors[start : start + width] for k, start in enumerate(starts)}


def embeddings_from_core(vectors: Vectors, model: str, *, as_base64: bool) -> bytes:
    """Return the JSON of the answer; may take a while for many vectors."""
    told = _base64 if as_base64 else _floats
    body = wire.EmbeddingList(
        data=tuple(wire.Embedding(index=index, embedding=told(row)) for index, row in enumerate(vectors.rows)),
        model=model,
        usage=wire.VectorUsage(prompt_tokens=vectors.tokens, total_tokens=vectors.tokens),
    )
    return msgspec.json.encode(body)


def _base64(row: bytes) -> str:
    return base64.b64encode(row).decode()


def _floats(row: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(row) // FLOAT32}f", row)
