"""Decides for one engine how far each decode of next tokens goes.

Guesses come from what a grammar or a guide leaves no choice about, from the text so far (`lookup`), or from a draft
model (`draft`). They are computed where that has measured faster (`speculation`), and where it cannot change what is
said: for greedy and seeded replies in regimes that are exact (`exactness`), for greedy ones elsewhere as long as they
can go back (`footing`). Draws without a seed promise nothing but their distribution, which guesses leave alone.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from server.core.adapters import NO_ADAPTERS
from server.core.errors import Broken
from server.engines.text.candidates import Row
from server.engines.text.draft import DraftModel
from server.engines.text.exactness import Exactness, Regime, Rows, Trial, regimes
from server.engines.text.footing import Balance, Doubt, TieRate
from server.engines.text.foresight import Guess, hope_of
from server.engines.text.prefix import Tokens
from server.engines.text.reply import Reply
from server.engines.text.sequences import CachedSequence
from server.engines.text.speculation import MOST_REPLIES, WIDTHS, Choice, Hope, StepTimes, best_width

logger = logging.getLogger(__name__)

_WORTH_A_TRIAL = 0.7
_FIRST_PAUSE, _LONGEST_PAUSE = 32, 2048
_WORTH_READING = 16
_LITTLE_HOPE = 1.5
_DRAFT_COST = 0.2
"""What a drafted token is taken to cost, in plain steps, before one was measured."""


class Ahead(NamedTuple):
    """What one decode computes of each running reply: its last token and `width` - 1 guessed ones.

    `guesses` [replies]: None for a reply without one. What a `trial` gives is not used, see `exactness`.
    """

    width: int
    guesses: Sequence[Guess | None]
    trial: Regime | None = None

    def tokens(self, number: int, last: int) -> Tokens:
        """Return the tokens [width] to be computed of a reply; its last one fills the places without a guess."""
        tokens = np.full(self.width, last, np.int32)
        found = self.guesses[number]
        if found is not None:
            some = found.tokens[: self.width - 1]
            tokens[1 : 1 + len(some)] = some
        return tokens


class Plan(NamedTuple):
    """The width of a decode, and by how much faster that is. With `leaves`, greedy replies leave the plain path."""

    width: int = 1
    gain: float = 1.0
    trial: Regime | None = None
    leaves: bool = False


class Speculator:
    """`rows` is for how many tokens one decode gives results; `wanted` may be taken back. Does not own the draft."""

    def __init__(self, *, rows: int, wanted: bool, draft: DraftModel | None = None) -> None:
        self.wanted = wanted
        self._rows = rows
        self._draft = draft
        self._times = StepTimes()
        self._exactness = Exactness()
        self._ties = TieRate()
        self._balance = Balance()
        self._trial: tuple[Trial, list[Reply]] | None = None
        self._draft_s: dict[int, float] = {}
        self._undrafted, self._pause = 0, _FIRST_PAUSE

    def ahead(self, running: Sequence[CachedSequence]) -> Ahead:
        """Return how far the next decode goes. Many replies fill a decode by themselves: nothing is guessed then."""
        replies = [sequence.reply for sequence in running if sequence.reply is not None]
        busy = self._trial is not None or any(reply.foresight.footing.again for reply in replies)
        if not self.wanted or len(running) > MOST_REPLIES or busy:
            return Ahead(1, [None] * len(running))
        for reply in replies:
            reply.sampler.tie_bound = self._exactness.bound
        guesses = [_guess(sequence, reply) for sequence, reply in zip(running, replies, strict=True)]
        plan = self._plan(running, replies, [hope_of(guess) for guess in guesses])
        if self._draft is not None:
            plan = self._drafted(self._draft, running, replies, guesses, plan)
        if plan.leaves:
            self._leave(running, plan)
        return Ahead(plan.width, guesses, plan.trial)

    def observe(self, replies: int, width: int, seconds: float, *, trial: bool = False) -> None:
        """Note how long a decode took."""
        if self.wanted and replies <= MOST_REPLIES:
            self._times.observe(replies, width, seconds)
            self._exactness.spend(seconds, trial=trial)

    def keep(self, regime: Regime, replies: Sequence[Reply], tokens: Sequence[Tokens], rows: Rows) -> None:
        """Take the results [replies * width, vocabulary] of a trial of these tokens [replies][width]."""
        shaped = rows.reshape(len(replies), regime.width, -1)
        self._trial = Trial(regime, tokens, shaped), list(replies)

    def compare(self, replies: Sequence[Reply], tokens: Sequence[int], rows: Rows) -> None:
        """Hold the results [replies, vocabulary] of a plain decode of these tokens against a trial, if there is one."""
        if self._trial is None:
            return
        trial, tried = self._trial
        if tried == list(replies) and trial.expects(tokens):
            trial.compare(rows)
            if not trial.is_over:
                return
        self._exactness.settle(trial)
        self._trial = None

    def doubts(self, reply: Reply, row: Row) -> bool:
        """Tell whether a greedy reply must go back rather than take what it has just chosen from a row [vocabulary].

        Its footing then has the doubt.
        """
        if not self.wanted or not reply.sampler.is_greedy or not self._exactness.bound:
            return False
        footing = reply.foresight.footing
        if footing.doubt is not None:
            doubt, footing.doubt = footing.doubt, None
            self._exactness.widen(abs(float(row[doubt.first] - row[doubt.second]) - doubt.ahead))
            return False
        footing.observe(tie=reply.tie)
        self._ties.observe(tie=reply.tie)
        if not reply.tie or footing.since is None:
            return False
        second, first = np.argpartition(row, -2)[-2:]
        footing.doubt = Doubt(int(first), int(second), float(row[first] - row[second]))
        self._balance.lose(footing, self._exactness.total)
        return True

    def _leave(self, running: Sequence[CachedSequence], plan: Plan) -> None:
        """Take the greedy replies off the plain path."""
        saved = (self._times.of(len(running), plan.width) or 0.0) * (plan.gain - 1) / len(running)
        for sequence in running:
            if sequence.reply is not None and sequence.reply.sampler.is_greedy:
                footing = sequence.reply.foresight.footing
                footing.leave(sequence.length, self._exactness.total)
                self._balance.win(footing, saved)

    def _plan(
        self, running: Sequence[CachedSequence], replies: Sequence[Reply], hopes: Sequence[Hope], guess_s: float = 0.0
    ) -> Plan:
        """Return the fastest that changes nothing of what is said."""
        room = min(reply.left for reply in replies)

        def best(widths: Sequence[int]) -> Choice:
            return best_width(hopes, self._times, widths, room=room, rows=self._rows, guess_s=guess_s)

        choice = best(WIDTHS)
        strict = [reply for reply in replies if reply.sampler.is_greedy or reply.seeded]
        if choice.width == 1 or not strict:
            return Plan(choice.width, choice.gain)
        known = {width: self._is_exact(running, width) for width in WIDTHS if width <= choice.width}
        if known[choice.width] is None:
            places = _regimes(running, choice.width)
            promising = all(hope.tokens(WIDTHS[0]) >= _WORTH_A_TRIAL * WIDTHS[0] for hope in hopes)
            if len(places) == 1 and promising and self._exactness.affords_trial:
                return Plan(choice.width, choice.gain, trial=places.pop())
            choice = best([width for width, exact in known.items() if exact is not None])
        if choice.width > 1 and not known[choice.width]:
            affordable = self._balance.affords(self._exactness.total)
            if affordable and all(self._dares(reply, choice.gain) for reply in strict):
                return Plan(choice.width, choice.gain, leaves=True)
            choice = best([width for width, exact in known.items() if exact])
        return Plan(choice.width, choice.gain)

    def _is_exact(self, running: Sequence[CachedSequence], width: int) -> bool | None:
        known = [self._exactness.of(regime) for regime in _regimes(running, width)]
        return None if None in known and False not in known else all(known)

    def _dares(self, reply: Reply, gain: float) -> bool:
        """Tell whether a reply may leave the plain path: what it gains must outweigh that it may have to go back."""
        if reply.seeded:
            return False
        return 1 / gain + reply.foresight.footing.risk(reply.left, self._ties.share) < 1

    def _drafted(
        self,
        draft: DraftModel,
        running: Sequence[CachedSequence],
        replies: Sequence[Reply],
        guesses: list[Guess | None],
        plan: Plan,
    ) -> Plan:
        """Replace guesses by those of the draft model where that is better, all its time counted."""
        texts = {
            number: sequence.text(reply.last_token)
            for number, (sequence, reply) in enumerate(zip(running, replies, strict=True))
            if _is_better_drafted(reply, guesses[number])
        }
        texts = {n: text for n, text in texts.items() if draft.unread(text) <= _WORTH_READING * replies[n].left}
        plain = self._times.of(len(running), 1)
        if not texts or plain is None:
            return plan
        drafted = self._draft_plan(draft, running, replies, guesses, texts, plain)
        if drafted.width == 1 or drafted.gain <= plan.gain:
            return plan
        began = time.perf_counter()
        try:
            if not draft.catch_up(list(texts.values())):
                return plan
            found = draft.guess(list(texts.values()), drafted.width - 1)
        except Broken:
            logger.exception("the draft model fails and is not asked any more")
            self._draft = None
            return plan
        self._undrafted = 0
        self._learn_draft(len(texts), (time.perf_counter() - began) / (drafted.width - 1))
        for number, tokens in zip(texts, found, strict=True):
            guesses[number] = replies[number].foresight.drafted(tokens.tolist())
        return drafted

    def _draft_plan(
        self,
        draft: DraftModel,
        running: Sequence[CachedSequence],
        replies: Sequence[Reply],
        guesses: Sequence[Guess | None],
        drafting: Collection[int],
        plain_s: float,
    ) -> Plan:
        """Return what is best with drafts for some of the replies; drafts that were bad for long get another chance."""
        guess_s = self._draft_s.get(len(drafting), _DRAFT_COST * plain_s)

        def planned(hope: Callable[[Reply], Hope]) -> Plan:
            hopes = [
                hope(reply) if number in drafting else hope_of(guesses[number]) for number, reply in enumerate(replies)
            ]
            return self._plan(running, replies, [h._replace(length=draft.most) for h in hopes], guess_s)

        plan = planned(lambda reply: reply.foresight.draft_hope)
        self._undrafted += 1
        if plan.width > 1:
            self._pause = _FIRST_PAUSE
        elif self._undrafted >= self._pause:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._undrafted = 0
            return planned(lambda _: Hope(rate=1.0))
        return plan

    def _learn_draft(self, replies: int, seconds: float) -> None:
        before = self._draft_s.get(replies, seconds)
        self._draft_s[replies] = 0.7 * before + 0.3 * seconds


def _guess(sequence: CachedSequence, reply: Reply) -> Guess | None:
    coming = reply.coming()
    if coming:
        return reply.foresight.certain(coming)
    return reply.foresight.guess(sequence.text(reply.last_token))


def _is_better_drafted(reply: Reply, guess: Guess | None) -> bool:
    """Tell whether a draft is to be preferred to a guess that is there; a draft model sees no pictures."""
    known, drafted = hope_of(guess).tokens(WIDTHS[0]), reply.foresight.draft_hope.tokens(WIDTHS[0])
    return not reply.pictures and (known < drafted or known < _LITTLE_HOPE)


def _regimes(running: Sequence[CachedSequence], width: int) -> set[Regime]:
    length = max(sequence.length for sequence in running)
    return regimes(len(running), width, length, adapted=running[0].scope.adapters != NO_ADAPTERS)
