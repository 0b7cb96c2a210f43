"""Leads one reply: which tokens may come next, which must, and when it is over.

A guide sees every token and its text. It holds a reply to its grammar from the first token on, or to the grammar of a
call from the mark of the call on; it ends thoughts that have used up their budget; and when a reply that must be whole
JSON is about to hit its limit, it closes what is open (`landing`).
"""

from collections import deque

from server.engines.text.candidates import Ids, Row
from server.engines.text.constraints import Constraints
from server.engines.text.landing import Landing
from server.engines.text.reply_plan import ReplyPlan
from server.engines.text.tool_formats.pieces import Parser

_TAIL = 96
_CUT = "\0"


class Guide:
    """The state of one reply.

    `is_over` tells that nothing may follow, `landed` that the end was brought about because the limit was near.
    """

    def __init__(
        self, plan: ReplyPlan, parser: Parser | None, constraints: Constraints, *, limit: int, landing: Landing | None
    ) -> None:
        self._plan = plan
        self._parser = parser
        self._constraints = constraints
        self._mask = plan.mask.copy() if plan.mask is not None else None
        self._landing = landing if plan.mask is not None else None
        self._left = limit
        self._budget = plan.budget
        if plan.mask is not None and plan.thoughts is not None:
            # Thoughts must leave room for what was promised.
            self._budget = min(limit // 2, limit if plan.budget is None else plan.budget)
        self._forced: deque[int] = deque()
        self._tail = ""
        self._in_call = False
        self.thought_tokens = 0
        self.is_over = False
        self.landed = False
        if plan.opened and self._budget == 0:
            self._end_thoughts()

    def forced(self) -> int | None:
        """Return the token that must come next, None when the model chooses."""
        return self._forced.popleft() if self._forced else None

    def coming(self) -> list[int]:
        """Return the tokens [n] that must come next, as far as that is known now."""
        if self._forced:
            return list(self._forced)
        return self._mask.coming() if self._mask is not None else []

    def restrict(self, row: Row) -> Ids | None:
        """Tell the tokens that may come next, see `TokenMask.restrict`; without a grammar all of them."""
        return self._mask.restrict(row) if self._mask is not None else None

    def allows(self, token: int) -> bool:
        """Tell whether a token may come next; raises as `TokenMask.restrict`."""
        return self._mask is None or self._mask.allows(token)

    def accept(self, token: int) -> None:
        """Note a token before its text is parsed; raises as `TokenMask.restrict`."""
        self._left -= 1
        if self._mask is not None:
            self._mask.accept(token)
        if self._parser is not None and self._parser.thinking:
            self.thought_tokens += 1

    def observe(self, text: str, *, was_thinking: bool) -> None:
        """Note the text of the token that was accepted last, after it was parsed."""
        thinking = self._parser is not None and self._parser.thinking
        if thinking:
            self._end_thoughts()
            return
        if self._mask is None:
            self._watch(text, was_thinking=was_thinking)
        elif self._mask.is_complete:
            self._complete()
        if self._mask is not None and self._landing is not None and not self._forced and not self.is_over:
            if self.landed:
                self.is_over = self._mask.may_end
                return
            self._forced.extend(self._landing.tokens(self._mask, text, self._left))
            self.landed = bool(self._forced)

    def _complete(self) -> None:
        """The grammar allows nothing more: the reply is over, or only its call."""
        if not self._in_call or not self._plan.many:
            self.is_over = True
            return
        self._mask = None
        self._in_call = False
        if self._parser is not None:
            self._parser.streams = False

    def _watch(self, text: str, *, was_thinking: bool) -> None:
        """Look for the beginning of a call."""
        plan = self._plan
        if plan.call_mask is None or plan.form is None or self._parser is None:
            return
        if was_thinking and plan.thoughts is not None:
            text = text.rpartition(plan.thoughts.closing)[2]
        self._tail += text
        found = plan.form.trigger.search(self._tail)
        if found is None:
            if len(self._tail) > _TAIL and not self._tail.isspace():
                self._tail = _CUT + self._tail[-_TAIL:]
            return
        begun = self._tail[found.start("call") if "call" in found.re.groupindex else found.start() :]
        self._tail = _CUT
        mask = plan.call_mask.copy()
        if mask.follow(begun):
            self._mask = mask
            self._in_call = True
            self._parser.streams = True

    def _end_thoughts(self) -> None:
        """Force the mark that ends thoughts when their budget is used up."""
        form = self._plan.thoughts
        if self._budget is None or self._forced or form is None or self.thought_tokens < self._budget:
            return
        ending = self._constraints.tokens(form.ending)
        if self._mask is None or self._mask.admits(ending):
            self._forced.extend(ending)
