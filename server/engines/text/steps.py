"""The two kinds of steps that compute: prompts, or the next tokens of all running replies. One `llama_decode` each.

What a step gives is used at once: tokens are chosen, events sent, and replies that end free their sequence. A step of
next tokens may bring several of a reply, where they were guessed right (see `speculator`).
"""

import logging
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server.core.errors import Broken, ServerError
from server.core.jobs import Outcome
from server.engines.text.adapters import Adapters
from server.engines.text.batch import Batch, Computable
from server.engines.text.caches import Caches
from server.engines.text.candidates import Row
from server.engines.text.foresight import Guess
from server.engines.text.native import Context
from server.engines.text.native_log import LogTap
from server.engines.text.open_jobs import OpenJobs
from server.engines.text.picture_batch import PictureBatch
from server.engines.text.pictures import PictureRun
from server.engines.text.prefix import Tokens
from server.engines.text.projector import Embedding
from server.engines.text.schedule import Pace, Pending
from server.engines.text.sequences import CachedSequence
from server.engines.text.sight import Sight
from server.engines.text.speculator import Speculator

logger = logging.getLogger(__name__)

_NO_ROOM = 1


class Steps:
    """Computes for one context, sequences under one set of adapters at a time.

    `served_at` is when running replies got their last token (`perf_counter`).
    """

    def __init__(
        self,
        context: Context,
        caches: Caches,
        jobs: OpenJobs,
        speculator: Speculator,
        adapters: Adapters,
        log: LogTap,
        sight: Sight | None = None,
    ) -> None:
        self.pace = Pace()
        self.after_decode = False
        self.served_at = 0.0
        self._context = context
        self._caches = caches
        self._jobs = jobs
        self._speculator = speculator
        self._adapters = adapters
        self._log = log
        self._sight = sight
        self._batch = Batch(context.batch_size)

    def prompts(self, parts: Sequence[Pending], out: list[Outcome], *, alone: bool) -> None:
        """Compute these parts of prompts; `alone` tells that no reply waits for its next token meanwhile."""
        self._batch.clear()
        outputs: list[tuple[CachedSequence, int]] = []
        for number, count in parts:
            sequence = self._caches.sequences[number]
            prompt = sequence.reply.prompt if sequence.reply is not None else np.empty(0, np.int32)
            wanted = count if sequence.scored else int(count == sequence.unfinished)
            chunk = prompt[sequence.length : sequence.length + count]
            self._batch.add_prompt(number, sequence.position, chunk, outputs=wanted)
            if wanted:
                outputs.append((sequence, wanted))
        began = time.perf_counter()
        if not self._decode(self._batch, [self._caches.sequences[number] for number, _ in parts], out):
            return
        self._context.synchronise()
        rows = self._context.logits(self._batch.outputs) if outputs else np.empty((0, 0), np.float32)
        self.pace.observe(self._batch.size, time.perf_counter() - began)
        for number, count in parts:
            sequence = self._caches.sequences[number]
            if sequence.reply is not None:
                sequence.extend(sequence.reply.prompt[sequence.length : sequence.length + count])
        for sequence, count in outputs:
            own, rows = rows[:count], rows[count:]
            self._take_prompt(sequence, own, out)
        self._jobs.unplaced = self._jobs.unplaced or bool(self._jobs.waiting)
        self.after_decode = False
        if alone:
            self.served_at = time.perf_counter()

    def picture(self, sequence: CachedSequence, count: int, out: list[Outcome], *, alone: bool) -> None:
        """Encode the piece of a picture that comes next in a prompt; or when that is done, compute `count` places."""
        run, reply = sequence.picture, sequence.reply
        if run is None or reply is None or self._sight is None:
            raise Broken("there is no picture to be computed")
        embedding = self._sight.embedding(run)
        if embedding is None:
            try:
                self._sight.encode(run)
            except ServerError as error:
                self._jobs.fail({reply.job}, error, out)
        else:
            self._places(sequence, run, embedding, count, out)
        self.after_decode = False
        if alone:
            self.served_at = time.perf_counter()

    def _places(
        self, sequence: CachedSequence, run: PictureRun, embedding: Embedding, count: int, out: list[Outcome]
    ) -> None:
        first = sequence.length - run.start
        last = run.size if run.whole else first + count
        output = run.start + last == sequence.length + sequence.unfinished
        batch = PictureBatch(sequence.id, embedding[first:last], run.places[:, first:last], output=output)
        if not self._decode(batch, [sequence], out, whole=run.whole):
            return
        self._context.synchronise()
        rows = self._context.logits(batch.outputs) if output else None
        if sequence.reply is not None:
            sequence.extend(sequence.reply.prompt[sequence.length : run.start + last])
        if rows is not None:
            self._take_prompt(sequence, rows, out)
        self._jobs.unplaced = self._jobs.unplaced or bool(self._jobs.waiting)

    def next_tokens(self, running: Sequence[CachedSequence], out: list[Outcome]) -> None:
        """Compute the next token of each of these running replies, and guessed ones behind it."""
        replies = [sequence.reply for sequence in running if sequence.reply is not None]
        last = [reply.next_token for reply in replies]
        ahead = self._speculator.ahead(running)
        tokens = [ahead.tokens(number, token) for number, token in enumerate(last)]
        if ahead.width == 1:
            self._batch.set_next([s.id for s in running], [s.position for s in running], last)
        else:
            self._batch.clear()
            for sequence, some in zip(running, tokens, strict=True):
                self._batch.add_prompt(sequence.id, sequence.position, some, outputs=ahead.width)
        began = time.perf_counter()
        if not self._decode(self._batch, running, out):
            return
        rows = self._context.logits(self._batch.outputs)
        trial = ahead.trial is not None
        self._speculator.observe(len(running), ahead.width, time.perf_counter() - began, trial=trial)
        if ahead.trial is not None:
            self._speculator.keep(ahead.trial, replies, tokens, rows)
            self._cut(running, out)
            return
        if ahead.width == 1:
            self._speculator.compare(replies, last, rows)
        for number, sequence in enumerate(running):
            own, rows = rows[: ahead.width], rows[ahead.width :]
            self._take_next(sequence, tokens[number], own, ahead.guesses[number], out)
        self.after_decode = True
        self.served_at = time.perf_counter()

    def _take_next(
        self,
        sequence: CachedSequence,
        tokens: Tokens,
        rows: npt.NDArray[np.float32],
        guess: Guess | None,
        out: list[Outcome],
    ) -> None:
        """Use the outputs [n, vocabulary] after the last token of a reply, and after guessed ones while right."""
        reply = sequence.reply
        computed = sequence.length + len(tokens)
        for place, row in enumerate(rows):
            sequence.append(int(tokens[place]))
            if reply is None:  # its job failed in this very step
                break
            footing = reply.foresight.footing
            if footing.again and not footing.computed():
                break
            self._take(sequence, row, out)
            if sequence.reply is not reply or footing.again:  # it has ended, or goes back
                break
            if guess is not None:
                guess.observe(place, reply.last_token)
            if place + 1 < len(tokens) and reply.last_token != tokens[place + 1]:
                break
        if sequence.length < computed:
            self._cut([sequence], out)

    def _cut(self, sequences: Sequence[CachedSequence], out: list[Outcome]) -> None:
        """Let the library's caches end where their mirrors do."""
        for sequence in sequences:
            if not self._context.trim(sequence.id, sequence.position):
                self._cannot_forget(sequence, out)

    def _cannot_forget(self, sequence: CachedSequence, out: list[Outcome]) -> None:
        """Give speculation up: the cache of this model keeps wrong guesses."""
        logger.error("this model's cache cannot be cut; speculation is off from now on")
        self._speculator.wanted = False
        if sequence.reply is not None:
            error = Broken("the model could not go back to before a wrong guess; set speculation = false for it")
            self._jobs.fail({sequence.reply.job}, error, out)
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
        self._caches.started.remove(sequence)
        self._jobs.send(reply, reply.opening(), out)
        if reply.limit == 0:
            self._jobs.close(reply, reply.finish("length"), out)
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
            token = reply.choose(row)
            if self._speculator.doubts(reply, row):
                sequence.go_back()
                return
            events = reply.accept(token)
        except ServerError as error:
            self._jobs.fail({reply.job}, error, out)
            return
        if reply.finished is None:
            self._jobs.send(reply, events, out)
        else:
            self._jobs.close(reply, events, out)

    def _decode(
        self, batch: Computable, sequences: Sequence[CachedSequence], out: list[Outcome], *, whole: bool = False
    ) -> bool:
        self._adapters.act(self._context, sequences[0].scope.adapters)
        decode = self._context.decode_whole if whole else self._context.decode
        code = decode(batch)
        if code == _NO_ROOM:
            # A stream cannot be full, but models with other kinds of memory may share it: drop what nobody runs in.
            self._caches.empty_idle()
            code = decode(batch)
        if code == 0:
            return True
        logger.error("llama_decode failed with %d for %d tokens: %s", code, batch.size, self._log.complaints())
        jobs = {sequence.reply.job for sequence in sequences if sequence.reply is not None}
        self._jobs.fail(jobs, Broken("the model could not compute the next tokens; the log has the details"), out)
        for sequence in sequences:
            self._caches.empty(sequence)
        return False
