"""The batching loop: many replies in one context, one `llama_decode` a step.

The engine decides by `schedule.next_step` (prompts or next tokens) and asks `caches` where a prompt runs; `steps`
computes. Everything happens in the caller's thread, between two decodes; so does cancelling, which frees a sequence at
once.
"""

import time
from typing import TypeGuard

from server.core.errors import Broken, InvalidValue, Unsupported
from server.core.jobs import CancelMode, JobDone, JobEvent, JobId, Outcome, Work
from server.core.models import LoadedFacts
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    RerankRequest,
    TextStarted,
    TokenizeRequest,
)
from server.engines.text.batch import SCORED_ROWS
from server.engines.text.caches import Caches
from server.engines.text.native import Context, Model
from server.engines.text.native_log import LogTap
from server.engines.text.open_jobs import OpenJobs
from server.engines.text.prompts import Prompts
from server.engines.text.replies import Replies
from server.engines.text.schedule import Decode, Pending, Prefill, next_step, patience
from server.engines.text.sequences import CachedSequence
from server.engines.text.speculator import Speculator
from server.engines.text.steps import Steps
from server.engines.text.tokenising import tokenised
from server.engines.text.vocabulary import Vocabulary


class LlamaEngine:
    """A loaded text model that runs jobs. Owns the model, its context and the library's log callback."""

    def __init__(
        self,
        model: Model,
        context: Context,
        vocabulary: Vocabulary,
        prompts: Prompts,
        facts: LoadedFacts,
        log: LogTap,
        *,
        speculation: bool = True,
    ) -> None:
        self.facts = facts
        self._model = model
        self._context = context
        self._vocabulary = vocabulary
        self._prompts = prompts
        self._log = log
        self._replies = Replies(vocabulary, prompts, facts.context)
        movable = not model.is_recurrent
        self._caches = Caches(context, slots=facts.slots, length=facts.context, movable=movable)
        self._jobs = OpenJobs(self._caches)
        speculator = Speculator(rows=context.rows, wanted=speculation and movable)
        self._steps = Steps(context, self._caches, self._jobs, speculator, log)

    def submit(self, job: JobId, work: Work) -> None:
        """Check and queue a job; see `Prompts.of` and `sampling_values.resolve` for the errors."""
        if isinstance(work, TokenizeRequest):
            self._jobs.ready += [JobEvent(job, tokenised(work, self._vocabulary, self._prompts)), JobDone(job)]
            return
        if not _continues(work):
            raise Unsupported.of("model", "this is a text model")
        if job in self._jobs:
            raise Broken(f"job {job} is already here")
        prompts = self._prompts.of(work)
        replies = self._replies.of(job, work, prompts)
        started = TextStarted(prompt_tokens=sum(len(prompt.tokens) for prompt in prompts))
        self._jobs.ready.append(JobEvent(job, started))
        self._jobs.open(job, replies)

    def step(self) -> list[Outcome]:
        """Do at most one `llama_decode`; blocks for as long as it takes."""
        if self._jobs.ready:
            ready, self._jobs.ready = self._jobs.ready, []
            return ready
        self._place_waiting()
        prompts = self._pending()
        if not self._jobs.waiting:
            self._caches.close_gaps()
        running = self._caches.running
        plan = next_step(
            prompts,
            running=len(running),
            stalled_s=time.perf_counter() - self._steps.served_at,
            patience_s=_patience(running, self._caches.started),
            after_decode=self._steps.after_decode,
            pace=self._steps.pace,
            batch=self._context.batch_size,
        )
        out: list[Outcome] = []
        match plan:
            case Prefill(parts=parts):
                self._steps.prompts(parts, out, alone=not running)
            case Decode():
                self._steps.next_tokens(running, out)
        return out

    def cancel(self, job: JobId, mode: CancelMode) -> None:
        """End a job; STOP and SKIP send what is held back and the finish of every choice first."""
        if job not in self._jobs:
            return
        if mode is CancelMode.ABANDON:
            self._jobs.forget(job)
            self._jobs.ready.append(JobDone(job))
            return
        for reply in self._jobs.replies(job):
            self._jobs.close(reply, reply.finish("cancelled"), self._jobs.ready)

    def is_idle(self) -> bool:
        """Tell whether nothing waits, runs or is to be reported."""
        return not self._jobs.ready and not self._jobs.all

    def close(self) -> None:
        """Free everything; may be called twice."""
        for job in self._jobs.all:
            self._jobs.forget(job)
        self._context.close()
        self._model.close()
        self._log.close()

    def _place_waiting(self) -> None:
        """Give waiting replies a sequence, in order; one that waits for a shared prefix keeps its claim to a place."""
        if not self._jobs.unplaced:
            return
        self._jobs.unplaced = False
        for reply in self._jobs.waiting[: self._caches.idle]:
            if reply.scoring and reply.scores is not None and reply.scores.claimed:
                continue
            if self._caches.claim(reply):
                self._jobs.waiting.remove(reply)

    def _pending(self) -> list[Pending]:
        """Return the unfinished prompts; those that are scored share the rows that a step has for them."""
        pending, rows = [], SCORED_ROWS
        for sequence in self._caches.started:
            count = sequence.unfinished
            if sequence.scored:
                count = min(count, rows)
                rows -= count
            if count:
                pending.append(Pending(sequence.id, count))
        return pending


def _patience(running: list[CachedSequence], started: list[CachedSequence]) -> float:
    """Return how long running replies wait for prompts, see `schedule.patience`."""
    return patience(
        answering_since=[s.reply.answering_since for s in running if s.reply is not None],
        prompts_since=[s.reply.started_at for s in started if s.reply is not None],
    )


def _continues(work: Work) -> TypeGuard[ChatRequest | CompletionRequest]:
    """Tell whether work asks for text; raise what says why models that write text cannot do what others can."""
    match work:
        case EmbeddingRequest():
            raise InvalidValue.of("model", "this model writes text and makes no embeddings; name an embedding model")
        case RerankRequest():
            raise InvalidValue.of("model", "this model writes text and ranks nothing; name a reranking model")
    return isinstance(work, ChatRequest | CompletionRequest)
