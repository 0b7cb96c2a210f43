"""The batching loop: many replies in one context, one `llama_decode` a step.

The engine owns which reply runs in which sequence; the decisions are `prefix.place` (where a prompt goes and what it
inherits) and `schedule.next_step` (prompts or next tokens). Everything happens in the caller's thread, between two
decodes; so does cancelling, which frees a sequence at once.
"""

import logging
import os
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
    SamplingParams,
    TextStarted,
    TokenizeRequest,
)
from server.engines.text.batch import SCORED_ROWS, Batch
from server.engines.text.candidates import Row
from server.engines.text.contest import Contest
from server.engines.text.detokenise import Detokeniser
from server.engines.text.dry import BreakerTable
from server.engines.text.lead import Leads
from server.engines.text.logprobs import LogprobReader
from server.engines.text.native import Context, Model
from server.engines.text.native_log import LogTap
from server.engines.text.prefix import Placement, place
from server.engines.text.prompt_scores import PromptScores
from server.engines.text.prompts import Prompt, Prompts
from server.engines.text.reply import Reply
from server.engines.text.sampling_values import SEED_LIMIT, resolve
from server.engines.text.schedule import Decode, Pace, Pending, Prefill, next_step
from server.engines.text.sequences import CachedSequence
from server.engines.text.stop_strings import StopStrings
from server.engines.text.token_sampling import Candidates, TokenSampler
from server.engines.text.tokenising import tokenised
from server.engines.text.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

_NO_ROOM = 1


class LlamaEngine:
    """A loaded text model that runs jobs. Owns the model, its context and the library's log callback."""

    def __init__(
        self, model: Model, context: Context, vocabulary: Vocabulary, prompts: Prompts, facts: LoadedFacts, log: LogTap
    ) -> None:
        self.facts = facts
        self._model = model
        self._context = context
        self._vocabulary = vocabulary
        self._prompts = prompts
        self._log = log
        self._batch = Batch(context.batch_size)
        self._candidates = Candidates(vocabulary.size)
        self._breakers = BreakerTable(vocabulary)
        self._leads = Leads(vocabulary, prompts.constraints)
        self._sequences = [CachedSequence(number, facts.context) for number in range(facts.slots)]
        self._waiting: list[Reply] = []
        self._started: list[CachedSequence] = []
        self._replies_left: dict[JobId, int] = {}
        self._pace = Pace()
        self._ready: list[Outcome] = []
        self._uses = 0
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
        replies = self._replies(job, work, prompts)
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
        running = [sequence for sequence in self._sequences if sequence.reply is not None and sequence.reply.running]
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

    def _replies(self, job: JobId, work: ChatRequest | CompletionRequest, prompts: Sequence[Prompt]) -> list[Reply]:
        params = work.sampling
        chain = resolve(
            params, vocabulary=self._vocabulary.size, context=self.facts.context, tokens_of=self._biased_tokens
        )
        # As llama.cpp does for ignore_eos: end tokens are not chosen at all.
        forbidden = (*self._vocabulary.suppressed, *(self._vocabulary.ends if params.ignore_eos else ()))
        drawn = self._prompts.drawn(work)
        replies = []
        for index, prompt in enumerate(prompts):
            plan = self._prompts.plan(work, opened=prompt.opened)
            limit = _limit(params, self.facts.context - len(prompt.tokens))
            scores = self._scores(work, prompt)
            contest = Contest(drawn, work.choices, index * work.choices) if drawn > work.choices else None
            replies += [
                Reply(
                    job,
                    index * drawn + k,
                    prompt.tokens,
                    limit=limit,
                    ends=self._vocabulary.ends,
                    sampler=TokenSampler(chain, _seed(params, k), self._candidates, forbidden, self._breakers),
                    text=Detokeniser(self._leads.piece(plan)),
                    stops=StopStrings(params.stop, self._prompts.own_stops(work)),
                    echo=prompt.echo,
                    tell=work.logprobs is not None,
                    logprobs=None if work.logprobs is None and contest is None else self._reader(work),
                    scores=scores,
                    contest=contest,
                    lead=self._leads.lead(plan, limit),
                )
                for k in range(drawn)
            ]
        return replies

    def _biased_tokens(self, text: str) -> list[int]:
        return self._vocabulary.tokenise(text, special=False, room=self.facts.context).tolist()

    def _reader(self, work: ChatRequest | CompletionRequest) -> LogprobReader:
        return LogprobReader(self._vocabulary.written, work.logprobs or 0)

    def _scores(self, work: ChatRequest | CompletionRequest, prompt: Prompt) -> PromptScores | None:
        """Return where the scores of a prompt are gathered, None when nobody wants them."""
        if not prompt.echo or work.logprobs is None:
            return None
        return PromptScores(prompt.tokens, self._reader(work))

    def _place_waiting(self) -> None:
        """Give waiting replies a sequence, in order; one that waits for a shared prefix keeps its claim to a place."""
        if not self._placement_stale:
            return
        self._placement_stale = False
        free = sum(sequence.reply is None for sequence in self._sequences)
        for reply in self._waiting[:free]:
            if reply.scoring and reply.scores is not None and reply.scores.claimed:
                continue
            views = [sequence.view() for sequence in self._sequences]
            placement = place(reply.prompt, views, reuse=not self._model.is_recurrent and not reply.scoring)
            if placement is not None:
                self._waiting.remove(reply)
                self._start(reply, placement)

    def _start(self, reply: Reply, placement: Placement) -> None:
        target, source = self._sequences[placement.slot], self._sequences[placement.source]
        shared = placement.shared
        if source is not target and shared:
            self._context.copy(source.id, target.id)
            if source.reply is None and source.length == shared:
                source.last_used = 0  # its whole content lives on in the target: the first to be overwritten
        if not self._context.trim(target.id, shared):
            self._context.trim(target.id, 0)
            shared = 0
        target.inherit(source, shared)
        target.reply = reply
        self._uses += 1
        target.last_used = self._uses
        self._started.append(target)
        reply.start(shared)

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
        tokens = [sequence.reply.last_token for sequence in running if sequence.reply is not None]
        self._batch.set_next([s.id for s in running], [s.length for s in running], tokens)
        if not self._decode(running, out):
            return
        for sequence, token, row in zip(running, tokens, self._context.logits(len(running)), strict=True):
            sequence.append(token)
            self._take(sequence, row, out)
        self._after_decode = True
        self._served_at = time.perf_counter()

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
            for sequence in self._sequences:
                if sequence.reply is None:
                    self._empty(sequence)
            code = self._context.decode(self._batch)
        if code == 0:
            return True
        logger.error("llama_decode failed with %d for %d tokens: %s", code, self._batch.size, self._log.complaints())
        jobs = {sequence.reply.job for sequence in sequences if sequence.reply is not None}
        self._fail(jobs, Broken("the model could not compute the next tokens; the log has the details"), out)
        for sequence in sequences:
            self._empty(sequence)
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
        """Make the sequence of a reply idle; its content stays for prompts that begin alike."""
        for sequence in self._sequences:
            if sequence.reply is reply:
                sequence.reply = None
                if sequence in self._started:
                    self._started.remove(sequence)
                self._uses += 1
                sequence.last_used = self._uses
                self._placement_stale = True

    def _empty(self, sequence: CachedSequence) -> None:
        self._context.trim(sequence.id, 0)
        sequence.inherit(sequence, 0)


def _continues(work: Work) -> TypeGuard[ChatRequest | CompletionRequest]:
    """Tell whether work asks for text; raise what says why models that write text cannot do what others can."""
    match work:
        case EmbeddingRequest():
            raise InvalidValue.of("model", "this model writes text and makes no embeddings; name an embedding model")
        case RerankRequest():
            raise InvalidValue.of("model", "this model writes text and ranks nothing; name a reranking model")
    return isinstance(work, ChatRequest | CompletionRequest)


def _limit(params: SamplingParams, room: int) -> int:
    return room if params.max_tokens is None else min(params.max_tokens, room)


def _seed(params: SamplingParams, choice: int) -> int:
    """Return the seed of one choice: the choices of a prompt differ, and the first has the seed that was asked for."""
    if params.seed is None:
        return int.from_bytes(os.urandom(4), "little") % (SEED_LIMIT - 1)
    return (params.seed + choice) % SEED_LIMIT
