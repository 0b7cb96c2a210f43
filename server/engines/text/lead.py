"""How one reply is led: its parser and its guide, made from the plan for its request."""

from collections.abc import Callable
from typing import NamedTuple

from server.engines.text.constraints import Constraints
from server.engines.text.guide import Guide
from server.engines.text.landing import Landing, single_characters
from server.engines.text.reply_plan import ReplyPlan
from server.engines.text.tool_formats.pieces import Parser
from server.engines.text.vocabulary import Vocabulary


class Lead(NamedTuple):
    """What a reply needs: None for both when it is free and all of it is the answer."""

    parser: Parser | None = None
    guide: Guide | None = None
    many_calls: bool = True


FREE = Lead()


class Leads:
    """Makes the leads for the replies of one model."""

    def __init__(self, vocabulary: Vocabulary, constraints: Constraints) -> None:
        self._vocabulary = vocabulary
        self._constraints = constraints
        self._single: dict[bytes, int] | None = None

    def lead(self, plan: ReplyPlan, limit: int) -> Lead:
        """Return the lead of one reply that may have `limit` tokens."""
        parser = plan.parser()
        if parser is None and plan.mask is None:
            return FREE
        landing: Landing | None = None
        if plan.ends_as_json:
            closings = plan.form.closings if plan.form is not None else ()
            endings = [(closing, self._constraints.tokens(closing)) for closing in closings]
            landing = Landing(self._vocabulary.piece, self._characters(), endings)
        return Lead(parser, Guide(plan, parser, self._constraints, limit=limit, landing=landing), plan.many)

    def piece(self, plan: ReplyPlan) -> Callable[[int], bytes]:
        """Return what gives the bytes of a token, with the control tokens written out that a parser has to see."""
        plain = self._vocabulary.piece
        marks = plan.marks
        shown = {
            token: text.encode()
            for text, token in self._vocabulary.control_ids.items()
            if any(text in mark for mark in marks)
        }
        if not shown:
            return plain
        return lambda token: shown.get(token) or plain(token)

    def _characters(self) -> dict[bytes, int]:
        if self._single is None:
            self._single = single_characters(self._vocabulary.size, self._vocabulary.piece)
        return self._single
