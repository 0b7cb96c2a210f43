"""The batching loop: many replies in one context, one `llama_decode` a step.

The engine decides by `schedule.next_step` (prompts or next tokens) and asks `caches` where a prompt runs; `steps`
computes. Everything happens in the caller's thread, between two decodes; so does cancelling, which frees a sequence at
once.
"""

import time
from pathlib import Path
from typing import TypeGuard

from server.core.errors import Broken, InvalidValue, ServerError, Unsupported
from server.core.jobs import CancelMode, JobDone, JobEvent, JobFailed, JobId, Outcome, Work
from server.core.models import LoadedFacts
from server.core.slots import SlotRequest
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    RerankRequest,
    TextStarted,
    TokenizeRequest,
)
from server.engines.text.adapters import Adapters
from server.engines.text.arrivals import Arrival, Arrivals
from server.engines.text.batch import SCORED_ROWS
from server.engines.text.caches import Caches
from server.engines.text.draft import DraftModel
from server.engines.text.identity import Identity
from server.engines.text.native import Context, Model
from server.engines.text.native_log import LogTap
from server.engines.text.open_jobs import OpenJobs
from server.engines.text.placed_pictures import pictures_in
from server.engines.text.prompts import Prompts
from server.engines.text.replies import Replies
from server.engines.text.schedule import Decode, Pending, Prefill, came_together, next_step
from server.engines.text.sequences import CachedSequence
from server.engines.text.sight import Sight
from server.engines.text.slots import Slots
from server.engines.text.speculator import Speculator
from server.engines.text.steps import Steps
from server.engines.text.tokenising import tokenised
from server.engines.text.turns import Turns
from server.engines.text.vocabulary import Vocabulary

TURN = 4
"""Steps that replies under one set of adapters have before those under another."""


class LlamaEngine:
    """A loaded text model that runs jobs. Owns all its native parts and the library's log callback."""

    def __init__(
        self,
        model: Model,
        context: Context,
        vocabulary: Vocabulary,
        prompts: Prompts,
        facts: LoadedFacts,
        adapters: Adapters,
        log: LogTap,
        speculator: Speculator,
        *,
        identity: Identity,
        slots_folder: Path | None = None,
        sight: Sight | None = None,
        draft: DraftModel | None = None,
    ) -> None:
        self.facts = facts
        self._model = model
        self._context = context
        self._vocabulary = vocabulary
        self._prompts = prompts
        self._log = log
        self._replies = Replies(vocabulary, prompts, facts.context, adapters.facts)
        self._caches = Caches(context, slots=facts.slots, length=facts.context)
        self._jobs = OpenJobs(self._caches)
        self._steps = Steps(context, self._caches, self._jobs, speculator, adapters, log, sight)
        self._sight = sight
        self._draft = draft
        self._arrivals = Arrivals(sight)
        self._slots = Slots(context, self._caches, identity, folder=slots_folder, adapters=adapters.facts)
        self._prompt_turns, self._answer_turns = Turns(1), Turns(TURN)

    def submit(self, job: JobId, work: Work) -> None:
        """Check and queue a job; see `Prompts.of` and `Replies.of` for the errors."""
        if isinstance(work, TokenizeRequest):
            self._jobs.ready += [JobEvent(job, tokenised(work, self._vocabulary, self._prompts)), JobDone(job)]
            return
        if isinstance(work, SlotRequest):
            self._slots.submit(job, work)
            return
        if not _continues(work):
            raise Unsupported.of("model", "this is a text model")
        if job in self._jobs or job in self._arrivals:
            raise Broken(f"job {job} is already here")
        if pictures_in(work):
            self._prompts.check(work)
            self._arrivals.add(job, work)
        else:
            self._open(job, work)

    def _open(self, job: JobId, work: ChatRequest | CompletionRequest) -> None:
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
        if self._slots and (done := self._slots.step()):
            self._jobs.unplaced = True
            return done
        self._place_waiting()
        prompts = self._pending()
        if not self._jobs.waiting:
            self._caches.close_gaps()
        running = self._caches.running
        if self._arrivals and (self._steps.after_decode or not running):
            return self._look()
        plan = next_step(
            prompts,
            running=len(running),
            stalled_s=time.perf_counter() - self._steps.served_at,
            burst=_came_together(running, self._caches.started),
            after_decode=self._steps.after_decode,
            pace=self._steps.pace,
            batch=self._context.batch_size,
        )
        out: list[Outcome] = []
        match plan:
            case Prefill(parts=parts):
                first = self._caches.sequences[parts[0].slot]
                self._prompt_turns.served(first.scope.adapters)
                if first.picture is None:
                    self._steps.prompts(parts, out, alone=not running)
                else:
                    self._steps.picture(first, parts[0].tokens, out, alone=not running)
            case Decode():
                group = self._answer_turns.of(running)
                self._answer_turns.served(group[0].scope.adapters)
                self._steps.next_tokens(group, out)
        return out

    def cancel(self, job: JobId, mode: CancelMode) -> None:
        """End a job; STOP and SKIP send what is held back and the finish of every choice first."""
        if job in self._slots:
            self._slots.cancel(job)
            self._jobs.ready.append(JobDone(job))
        if job in self._arrivals:
            self._jobs.ready += self._arrived(
                Arrival(job, self._arrivals.take(job)), wanted=mode is not CancelMode.ABANDON
            )
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
        return not (self._jobs.ready or self._jobs.all or self._arrivals or self._slots)

    def close(self) -> None:
        """Free everything; may be called twice."""
        self._arrivals.clear()
        for job in self._jobs.all:
            self._jobs.forget(job)
        self._context.close()
        for part in (self._sight, self._draft):
            if part is not None:
                part.close()
        self._model.close()
        self._log.close()

    def _look(self) -> list[Outcome]:
        """Read one picture of a request that has just come; its job begins when that was the last."""
        arrival = self._arrivals.step()
        self._steps.after_decode = False
        return [] if arrival is None else self._arrived(arrival)

    def _arrived(self, arrival: Arrival, *, wanted: bool = True) -> list[Outcome]:
        """Begin a job whose pictures are read, or tell what is wrong with it; without `wanted` it ends."""
        if not wanted:
            return [JobDone(arrival.job)]
        error = arrival.error
        try:
            if error is None:
                self._open(arrival.job, arrival.work)
        except ServerError as refused:
            error = refused
        return [] if error is None else [JobFailed(arrival.job, error.to_data())]

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
        """Return the unfinished prompts whose turn it is; those that are scored share the rows of a step.

        Pictures are computed one by one: the one of the oldest prompt is alone, later ones are left out.
        """
        pending: list[Pending] = []
        rows = SCORED_ROWS
        for sequence in self._prompt_turns.of(self._caches.started):
            count = sequence.ahead
            if count and sequence.picture is not None:
                if pending:
                    continue
                return [Pending(sequence.id, count)]
            if sequence.scored:
                count = min(count, rows)
                rows -= count
            if count:
                pending.append(Pending(sequence.id, count))
        return pending


def _came_together(running: list[CachedSequence], started: list[CachedSequence]) -> bool:
    """Tell whether replies and unfinished prompts came together, see `schedule.came_together`."""
    return came_together(
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
