"""The engine for models that turn text into vectors, or score documents against a query.

Inputs of all jobs wait in one line, in the order of their arrival. A step packs as many of them as fit into one
`llama_decode`, one sequence each, and sends what came out: one event for each job that had a part in it.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from server.core.errors import Broken, InvalidValue, ServerError, Unsupported
from server.core.jobs import CancelMode, Event, JobDone, JobEvent, JobFailed, JobId, Outcome, Work
from server.core.models import LoadedFacts
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    EmbeddingsReady,
    RerankRequest,
    ScoresReady,
    TextStarted,
    TokenizeRequest,
)
from server.engines.text.embedding_context import EmbeddingContext, Vectors
from server.engines.text.embedding_inputs import EmbeddingInputs
from server.engines.text.native import Model
from server.engines.text.native_log import LogTap
from server.engines.text.prefix import Tokens
from server.engines.text.tokenising import tokenised
from server.engines.text.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

EUCLIDEAN = 2
_LARGEST = 32760


class _Job:
    """The inputs of a job that are still to be computed: `texts` from number `next` on."""

    def __init__(self, texts: Sequence[Tokens], dimensions: int | None, norm: int) -> None:
        self.texts = texts
        self.dimensions = dimensions
        self.norm = norm
        self.next = 0


class _Part(NamedTuple):
    job: JobId
    first: int
    texts: int


class EmbeddingEngine:
    """A loaded embedding or reranking model. Owns the model, its context and the library's log callback."""

    def __init__(
        self, model: Model, context: EmbeddingContext, vocabulary: Vocabulary, facts: LoadedFacts, log: LogTap
    ) -> None:
        self.facts = facts
        self._model = model
        self._context = context
        self._vocabulary = vocabulary
        self._log = log
        self._ranks = model.pooling == "rank"
        self._inputs = EmbeddingInputs(model, vocabulary, length=context.length, width=context.width)
        self._jobs: dict[JobId, _Job] = {}
        self._ready: list[Outcome] = []

    def submit(self, job: JobId, work: Work) -> None:
        """Check and queue a job.

        Raises:
            InvalidValue: the model does not do such work, or see `EmbeddingInputs`.
            ContextTooLong: an input is too long.
        """
        if isinstance(work, TokenizeRequest):
            self._ready += [JobEvent(job, tokenised(work, self._vocabulary, None)), JobDone(job)]
            return
        if job in self._jobs:
            raise Broken(f"job {job} is already here")
        texts = self._texts(work)
        if isinstance(work, EmbeddingRequest):
            self._jobs[job] = _Job(texts, work.dimensions, work.norm)
        else:
            self._jobs[job] = _Job(texts, None, EUCLIDEAN)
        self._ready.append(JobEvent(job, TextStarted(prompt_tokens=sum(len(text) for text in texts))))

    def step(self) -> list[Outcome]:
        """Do at most one `llama_decode`; blocks for as long as it takes."""
        if self._ready:
            ready, self._ready = self._ready, []
            return ready
        parts = self._pack()
        if not parts:
            return []
        texts = [text for part in parts for text in self._jobs[part.job].texts[part.first : part.first + part.texts]]
        try:
            vectors = self._context.compute(texts)
        except ServerError as error:
            logger.error("%d texts could not be computed: %s", len(texts), error)
            return [self._fail(part.job, error) for part in parts]
        return self._results(parts, vectors)

    def cancel(self, job: JobId, mode: CancelMode) -> None:
        """End a job; there is nothing unfinished that could still be sent."""
        if self._jobs.pop(job, None) is None:
            return
        if mode is CancelMode.ABANDON:
            self._ready = [outcome for outcome in self._ready if outcome.job != job]
        self._ready.append(JobDone(job))

    def is_idle(self) -> bool:
        """Tell whether nothing waits or is to be reported."""
        return not self._jobs and not self._ready

    def close(self) -> None:
        """Free everything; may be called twice."""
        self._jobs.clear()
        self._ready.clear()
        self._context.close()
        self._model.close()
        self._log.close()

    def _texts(self, work: Work) -> list[Tokens]:
        match work:
            case EmbeddingRequest() if not self._ranks:
                return self._inputs.texts(work)
            case RerankRequest() if self._ranks:
                return self._inputs.pairs(work)
            case EmbeddingRequest():
                raise InvalidValue.of("model", "this model scores documents and makes no embeddings")
            case RerankRequest():
                raise InvalidValue.of("model", "this model makes embeddings and ranks nothing; name a reranking model")
            case ChatRequest() | CompletionRequest():
                kind = "scores documents" if self._ranks else "makes embeddings"
                raise InvalidValue.of("model", f"this model {kind} and writes no text; name a model that does")
            case _:
                raise Unsupported.of("model", "this is a text model")

    def _pack(self) -> list[_Part]:
        """Take the next inputs that fit into one call; the first always does."""
        parts: list[_Part] = []
        tokens = texts = 0
        for job, waiting in self._jobs.items():
            first = waiting.next
            while waiting.next < len(waiting.texts) and texts < self._context.texts:
                length = len(waiting.texts[waiting.next])
                if texts and tokens + length > self._context.packed:
                    break
                tokens, texts, waiting.next = tokens + length, texts + 1, waiting.next + 1
            if waiting.next > first:
                parts.append(_Part(job, first, waiting.next - first))
            if waiting.next < len(waiting.texts):
                break
        return parts

    def _results(self, parts: Sequence[_Part], vectors: Vectors) -> list[Outcome]:
        out: list[Outcome] = []
        done = 0
        for part in parts:
            rows = vectors[done : done + part.texts]
            done += part.texts
            out.append(JobEvent(part.job, self._event(self._jobs[part.job], part.first, rows)))
            if self._jobs[part.job].next == len(self._jobs[part.job].texts):
                del self._jobs[part.job]
                out.append(JobDone(part.job))
        return out

    def _event(self, job: _Job, first: int, rows: Vectors) -> Event:
        if self._ranks:
            return ScoresReady(first=first, scores=tuple(float(row[0]) for row in rows))
        made = normalised(rows[:, : job.dimensions], job.norm)
        return EmbeddingsReady(first=first, dimensions=made.shape[1], vectors=made.astype("<f4").tobytes())

    def _fail(self, job: JobId, error: ServerError) -> Outcome:
        del self._jobs[job]
        return JobFailed(job, error.to_data())


def normalised(rows: Vectors, norm: int = EUCLIDEAN) -> Vectors:
    """Return vectors [n, width] of length 1 by a norm (see `EmbeddingRequest.norm`); one of length 0 stays as it is.

    Source of the norms other than the usual one: llama.cpp's `--embd-normalize`.
    """
    if norm < 0:
        return rows
    sizes = np.abs(rows.astype(np.float64))
    if norm == 0:
        lengths = sizes.max(axis=1, keepdims=True) / _LARGEST
    elif norm == EUCLIDEAN:
        lengths = np.sqrt((sizes**2).sum(axis=1, keepdims=True))
    else:
        lengths = (sizes**norm).sum(axis=1, keepdims=True) ** (1 / norm)
    return (rows / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
