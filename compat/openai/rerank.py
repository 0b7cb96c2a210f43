"""Reranking in the shapes of Jina and of text-embeddings-inference (TEI): to the core, and scores back. Pure."""

from collections.abc import AsyncIterable
from math import exp

import msgspec
from msgspec import UNSET

from compat.openai import vectors_wire as wire
from compat.openai.logprobs import finite
from server.core.errors import Cancelled, InvalidValue, ProtocolError
from server.core.jobs import Event, Loading, Waiting
from server.core.text import RerankRequest, ScoresReady, TextStarted


def rerank_to_core(request: wire.RerankRequest, model: str) -> RerankRequest:
    """Return the documents as core work for a model; raise InvalidValue when there are none, or two lists of them."""
    if request.documents is not None and request.texts is not None:
        raise InvalidValue.of("texts", "only one of 'documents' and 'texts' can be given")
    documents = _documents(request)
    if not documents:
        param = "documents" if request.texts is None else "texts"
        raise InvalidValue.of(param, f"'{param}' is missing or empty; there is nothing to rank")
    return RerankRequest(model=model, query=request.query, documents=documents)


def _documents(request: wire.RerankRequest) -> tuple[str, ...]:
    given = request.texts if request.texts is not None else request.documents or []
    return tuple(item if isinstance(item, str) else item.text for item in given)


class Scores(msgspec.Struct, frozen=True):
    """A raw score for each document, and the tokens of all of them."""

    scores: tuple[float, ...]
    tokens: int


async def collect_scores(events: AsyncIterable[Event], count: int) -> Scores:
    """Read a job's events to the end; raise Cancelled when it ended before all scores were there."""
    scores: dict[int, float] = {}
    tokens = 0
    async for event in events:
        match event:
            case ScoresReady():
                scores |= {event.first + k: score for k, score in enumerate(event.scores)}
            case TextStarted():
                tokens = event.prompt_tokens
            case Waiting() | Loading():
                pass
            case _:
                raise ProtocolError("a job for scores gave something else")
    if scores.keys() != set(range(count)):
        raise Cancelled("the request was cancelled before all documents were ranked", mode="stop")
    return Scores(tuple(scores[index] for index in range(count)), tokens)


def rerank_from_core(
    request: wire.RerankRequest, work: RerankRequest, scores: Scores
) -> wire.Ranking | tuple[wire.Rank, ...]:
    """Return the answer in the shape that was asked in, best first."""
    order = sorted(range(len(scores.scores)), key=lambda index: -scores.scores[index])[: request.top_n]
    if request.texts is not None:
        return tuple(
            wire.Rank(
                index=index,
                score=finite(scores.scores[index]) if request.raw_scores else _sigmoid(scores.scores[index]),
                text=work.documents[index] if request.return_text else UNSET,
            )
            for index in order
        )
    results = [
        wire.Ranked(
            index=index,
            relevance_score=finite(scores.scores[index]),
            document=wire.Document(work.documents[index]) if request.return_documents else UNSET,
        )
        for index in order
    ]
    usage = wire.VectorUsage(prompt_tokens=scores.tokens, total_tokens=scores.tokens)
    return wire.Ranking(model=work.model, results=tuple(results), usage=usage)


def _sigmoid(score: float) -> float:
    """Return 1 / (1 + e^-score) without overflow."""
    if score >= 0:
        return 1 / (1 + exp(-score))
    grown = exp(score)
    return grown / (1 + grown)
