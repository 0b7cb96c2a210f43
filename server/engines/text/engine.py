"""The batching loop: many replies in one context, one `llama_decode` a step.

The engine decides by `schedule.next_step` (prompts or next tokens) and asks `caches` where a prompt runs and
`speculator` how far a step goes: it may bring several tokens of a reply where they were guessed right. Everything
happens in the caller's thread, between two decodes; so does cancelling, which frees a sequence at once.
"""

import logging
import time
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from server.core.errors import Broken, InvalidValue, ServerError, Unsupported
from server.core.jobs import CancelMode, JobDone, JobEvent, JobFailed, JobId, Outcome, Work
from server.core.models import LoadedFacts
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    RerankRequest,
    TextStarted,
    TokenizeRequest,
)
from server.engines.text.batch import SCORED_ROWS, Batch
from server.engines.text.caches import Caches
from server.engines.text.candidates import Row
from server.engines.text.native import Context, Model
from server.engines.text.native_log import LogTap
from server.engines.text.prefix import Tokens
from server.engines.text.prompts import Prompts
from server.engines.text.replies import Replies
from server.engines.text.reply import Reply
from server.engines.text.schedule import Decode, Pace, Pending, Prefill, next_step
from server.engines.text.sequences import CachedSequence
from server.engines.text.speculator import Speculator
from server.engines.text.tokenising import tokenised
from server.engines.text.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

_NO_ROOM = 1


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
        self._batch = Batch(context.batch_size)
        self._replies = Replies(vocabulary, prompts, facts.context)
        movable = not model.is_recurrent
        self._caches = Caches(context, slots=facts.slots, length=facts.context, movable=movable)
        self._sequences = self._caches.sequences
        self._speculator = Speculator(rows=context.rows, wanted=speculation and movable)
        self._waiting: list[Reply] = []
        self._started: list[CachedSequence] = []
        self._replies_left: dict[JobId, int] = {}
        self._pace = Pace()
        self._ready: list[Outcome] = []
        self._placement_stale = False
        self._after_decode = False
        self._served_at = 0.0

    def submit(self, job: JobId, work: Work) -> None:
        """Check and queue a job; see `Prompts.of` and `sampling_values.resolve` for the errors."""
        if isinstance(work, TokenizeRequest):
            self._ready += [JobEvent(job, tokenised(work, self._vocabulary, self._prompts)), JobDone(job)]
            return
        if not _continues(work):
            raise Unsupported.of("model", "this is a text model")
        if job in self._replies_left:
            raise Broken(f"job {job} is already here")
        prompts = self._prompts.of(work)
        replies = self._replies.of(job, work, prompts)
        self._ready.append(JobEvent(job, TextStarted(prompt_tokens=sum(len(prompt.tokens) for prompt in prompts))))
        self._replies_left[job] = len(replies)
        for reply in replies:
            if reply.scores is None:
                self._send(reply, reply.opening(), self._ready)
            if reply.limit == 0 and reply.scores is None:
                self._close(reply, reply.finish("length"), self._ready)
            else:
                self._waiting.append(reply)
        self._placement_stale = True

    def step(self) -> list[Outcome]:
        """Do at most one `llama_decode`; blocks for as long as it takes."""
        if self._ready:
            ready, self._ready = self._ready, []
            return ready
        self._place_waiting()
        prompts = self._pending()
        if not self._waiting:
            self._caches.close_gaps()
        running = self._caches.running
        plan = next_step(
            prompts,
            running=len(running),
            stalled_s=time.perf_counter() - self._served_at,
            after_decode=self._after_decode,
            pace=self._pace,
            batch=self._context.batch_size,
        )
        out: list[Outcome] = []
        match plan:
            case Prefill(parts=parts):
                self._compute_prompts(parts, out, first=not running)
            case Decode():
                self._compute_next(running, out)
        return out

    def cancel(self, job: JobId, mode: CancelMode) -> None:
        """End a job; STOP and SKIP send what is held back and the finish of every choice first."""
        if job not in self._replies_left:
            return
        replies = [reply for reply in self._waiting if reply.job == job]
        replies += [s.reply for s in self._sequences if s.reply is not None and s.reply.job == job]
        if mode is CancelMode.ABANDON:
            self._forget(job)
            self._ready.append(JobDone(job))
            return
        self._waiting = [reply for reply in self._waiting if reply.job != job]
        for reply in replies:
            self._close(reply, reply.finish("cancelled"), self._ready)

    def is_idle(self) -> bool:
        """Tell whether nothing waits, runs or is to be reported."""
        return not self._ready and not self._replies_left

    def close(self) -> None:
        """Free everything; may be called twice."""
        for job in list(self._replies_left):
            self._forget(job)
        self._context.close()
        self._model.close()
        self._log.close()

    def _place_waiting(self) -> None:
        """Give waiting replies a sequence, in order; one that waits for a shared prefix keeps its claim to a place."""
        if not self._placement_stale:
            return
        self._placement_stale = False
        for reply in self._waiting[: self._caches.idle]:
            if reply.scoring and reply.scores is not None and reply.scores.claimed:
                continue
            sequence = self._caches.claim(reply)
            if sequence is not None:
                self._waiting.remove(reply)
                self._started.append(sequence)

    def _pending(self) -> list[Pending]:
        """Return the unfinished prompts; those that are scored share the rows that a step has for them."""
        pending, rows = [], SCORED_ROWS
        for sequence in self._started:
            count = sequence.unfinished
            if sequence.scored:
                count = min(count, rows)
                rows -= count
            if count:
                pending.append(Pending(sequence.id, count))
        return pending

    def _compute_prompts(self, parts: Sequence[Pending], out: list[Outcome], *, first: bool) -> None:
        self._batch.clear()
        outputs: list[tuple[CachedSequence, int]] = []
        for number, count in parts:
            sequence = self._sequences[number]
            prompt = sequence.reply.prompt if sequence.reply is not None else np.empty(0, np.int32)
            wanted = count if sequence.scored else int(count == sequence.unfinished)
            chunk = prompt[sequence.length : sequence.length + count]
            self._batch.add_prompt(number, sequence.length, chunk, outputs=wanted)
            if wanted:
                outputs.append((sequence, wanted))
        began = time.perf_counter()
        if not self._decode([self._sequences[number] for number, _ in parts], out):
            return
        self._context.synchronise()
        rows = self._context.logits(self._batch.outputs) if outputs else np.empty((0, 0), np.float32)
        self._pace.observe(self._batch.size, time.perf_counter() - began)
        for number, count in parts:
            sequence = self._sequences[number]
            if sequence.reply is not None:
                sequence.extend(sequence.reply.prompt[sequence.length : sequence.length + count])
        for sequence, count in outputs:
            own, rows = rows[:count], rows[count:]
            self._take_prompt(sequence, own, out)
        self._placement_stale = self._placement_stale or bool(self._waiting)
        self._after_decode = False
        if first:
            self._served_at = time.perf_counter()

    def _compute_next(self, running: list[CachedSequence], out: list[Outcome]) -> None:
        last = [sequence.reply.last_token for sequence in running if sequence.reply is not None]
        ahead = self._speculator.ahead(running)
        tokens = [ahead.tokens(number, token) for number, token in enumerate(last)]
        if ahead.width == 1:
            self._batch.set_next([s.id for s in running], [s.length for s in running], last)
        else:
            self._batch.clear()
            for sequence, some in zip(running, tokens, strict=True):
                self._batch.add_prompt(sequence.id, sequence.length, some, outputs=ahead.width)
        began = time.perf_counter()
        if not self._decode(running, out):
            return
        rows = self._context.logits(self._batch.outputs)
        self._speculator.observe(len(running), ahead.width, time.perf_counter() - began)
        for number, sequence in enumerate(running):
            own, rows = rows[: ahead.width], rows[ahead.width :]
            self._take_next(sequence, tokens[number], own, ahead.guesses[number], out)
        self._after_decode = True
        self._served_at = time.perf_counter()

    def _take_next(
        self,
        sequence: CachedSequence,
        tokens: Tokens,
        rows: npt.NDArray[np.float32],
        guess: Tokens | None,
        out: list[Outcome],
    ) -> None:
        """Use the outputs [n, vocabulary] after the last token of a reply, and after guessed ones while right."""
        reply = sequence.reply
        computed = sequence.length + len(tokens)
        for place, row in enumerate(rows):
            sequence.append(int(tokens[place]))
            self._take(sequence, row, out)
            if reply is None or sequence.reply is not reply:  # it has ended
                break
            if guess is not None:
                reply.acceptance.observe(right=reply.last_token == guess[place])
            if place + 1 < len(tokens) and reply.last_token != tokens[place + 1]:
                break
        if sequence.length < computed and not self._context.trim(sequence.id, sequence.length):
            self._cannot_forget(sequence, out)

    def _cannot_forget(self, sequence: CachedSequence, out: list[Outcome]) -> None:
        """Give speculation up: the cache of this model keeps wrong guesses."""
        logger.error("this model's cache cannot be cut; speculation is off from now on")
        self._speculator.wanted = False
        if sequence.reply is not None:
            error = Broken("the model could not go back to before a wrong guess; set speculation = false for it")
            self._fail({sequence.reply.job}, error, out)
        self._caches.empty(sequence)

    def _take_prompt(self, sequence: CachedSequence, rows: npt.NDArray[np.float32], out: list[Outcome]) -> None:
        """Use the outputs [n, vocabulary] of the last n prompt tokens of a sequence that were computed."""
        reply = sequence.reply
        if reply is None:  # its job failed in this very step
            return
        if reply.scores is not None and reply.scoring:
            reply.scores.feed(rows)
        if sequence.unfinished:
            return
        self._started.remove(sequence)
        self._send(reply, reply.opening(), out)
        if reply.limit == 0:
            self._close(reply, reply.finish("length"), out)
        else:
            self._take(sequence, rows[-1], out)

    def _take(self, sequence: CachedSequence, row: Row, out: list[Outcome]) -> None:
        """Choose the next token of the reply in a sequence."""
        reply = sequence.reply
        if reply is None:  # its job failed in this very step
            return
        if reply.logprobs is not None:
            reply.logprobs.hold(row)
        try:
            events = reply.accept(reply.choose(row))
        except ServerError as error:
            self._fail({reply.job}, error, out)
            return
        if reply.finished is None:
            self._send(reply, events, out)
        else:
            self._close(reply, events, out)

    def _decode(self, sequences: Sequence[CachedSequence], out: list[Outcome]) -> bool:
        code = self._context.decode(self._batch)
        if code == _NO_ROOM:
            # A stream cannot be full, but models with other kinds of memory may share it: drop what nobody runs in.
            self._caches.empty_idle()
            code = self._context.decode(self._batch)
        if code == 0:
            return True
        logger.error("llama_decode failed with %d for %d tokens: %s", code, self._batch.size, self._log.complaints())
        jobs = {sequence.reply.job for sequence in sequences if sequence.reply is not None}
        self._fail(jobs, Broken("the model could not compute the next tokens; the log has the details"), out)
        for sequence in sequences:
            self._caches.empty(sequence)
        return False

    def _send(self, reply: Reply, events: list[Outcome], out: list[Outcome]) -> None:
        if reply.contest is None:
            out += events
        else:
            reply.contest.feed(reply.choice, events)

    def _close(self, reply: Reply, events: list[Outcome], out: list[Outcome]) -> None:
        """Send the last events of a reply and free its sequence; the job ends with its last reply."""
        self._send(reply, events, out)
        if reply.contest is not None:
            out += reply.contest.end(reply.choice, reply.logprobs.mean if reply.logprobs is not None else 0.0)
        self._release(reply)
        left = self._replies_left[reply.job] - 1
        if left:
            self._replies_left[reply.job] = left
        else:
            del self._replies_left[reply.job]
            out.append(JobDone(reply.job))

    def _fail(self, jobs: set[JobId], error: ServerError, out: list[Outcome]) -> None:
        for job in jobs:
            self._forget(job)
            out.append(JobFailed(job, error.to_data()))

    def _forget(self, job: JobId) -> None:
        """Drop a job with all that it holds, without a word."""
        for reply in [reply for reply in self._waiting if reply.job == job]:
            self._waiting.remove(reply)
            reply.sampler.close()
        for sequence in self._sequences:
            if sequence.reply is not None and sequence.reply.job == job:
                sequence.reply.sampler.close()
                self._release(sequence.reply)
        self._ready = [outcome for outcome in self._ready if outcome.job != job]
        self._replies_left.pop(job, None)

    def _release(self, reply: Reply) -> None:
        """Make the sequence of a reply idle."""
        sequence = self._caches.release(reply)
        if sequence is None:
            return
        if sequence in self._started:
            self._started.remove(sequence)
        self._placement_stale = True


def _continues(work: Work) -> TypeGuard[ChatRequest | CompletionRequest]:
    """Tell whether work asks for text; raise what says why models that write text cannot do what others can."""
    match work:
        case EmbeddingRequest():
            raise InvalidValue.of("model", "this model writes text and makes no embeddings; name an embedding model")
        case RerankRequest():
            raise InvalidValue.of("model", "this model writes text and ranks nothing; name a reranking model")
    return isinstance(work, ChatRequest | CompletionRequest)
