"""The state of one sequence of the context: which tokens its cache holds and which reply runs in it."""

import numpy as np

from server.engines.text.pictures import PictureRun, Runs, position_after
from server.engines.text.prefix import Scope, SlotView, Tokens
from server.engines.text.reply import Reply


class CachedSequence:
    """A mirror of one native sequence. The engine keeps it in step with what it asks the context to do.

    `runs` are the pictures of the prompt that it holds, or that is computed in it. `slot` is the number by which its
    content may be asked for, None = its own.
    """

    def __init__(self, number: int, context: int) -> None:
        self.id = number
        self.reply: Reply | None = None
        self.last_used = 0
        self.slot: int | None = None
        self.scope = Scope()
        self.length = 0
        self.runs: Runs = ()
        self._buffer = np.zeros(context, np.int32)

    @property
    def tokens(self) -> Tokens:
        """Return what the cache holds [length]; a view that the next change overwrites."""
        return self._buffer[: self.length]

    @property
    def unfinished(self) -> int:
        """Return how many prompt tokens are still to be computed, 0 when the reply runs or there is none."""
        return 0 if self.reply is None or self.reply.running else len(self.reply.prompt) - self.length

    @property
    def position(self) -> int:
        """Return the position of the next token; with pictures it may be less than `length`."""
        return position_after(self.runs, self.length) if self.runs else self.length

    @property
    def picture(self) -> PictureRun | None:
        """Return the piece of a picture that is to be computed next, None when it is text."""
        if not self.runs or not self.unfinished:
            return None
        return next((run for run in self.runs if run.start <= self.length < run.end), None)

    @property
    def ahead(self) -> int:
        """Return how many of the unfinished prompt tokens are of one kind: text, or one piece of a picture."""
        if not self.runs:
            return self.unfinished
        borders = (border for run in self.runs for border in (run.start, run.end) if border > self.length)
        return min(self.unfinished, min(borders, default=len(self._buffer)) - self.length)

    @property
    def scored(self) -> bool:
        """Tell whether the tokens of its prompt are scored, so that each needs an output."""
        return self.reply is not None and self.reply.scoring

    def text(self, token: int) -> Tokens:
        """Return the cached tokens and the next one [length + 1], a view; there must be room for it."""
        self._buffer[self.length] = token
        return self._buffer[: self.length + 1]

    def view(self, scope: Scope) -> SlotView:
        """Return what the placement of prompts of a scope needs to know."""
        reply = self.reply
        return SlotView(
            id=self.id,
            tokens=self.tokens,
            promised=reply.prompt if reply is not None and not reply.running else None,
            live=reply is not None,
            last_used=self.last_used,
            foreign=self.scope != scope,
        )

    def inherit(self, other: "CachedSequence", length: int) -> None:
        """Take over the first `length` tokens of another sequence, or of itself."""
        if other is not self:
            self.runs = other.runs
            self._buffer[:length] = other._buffer[:length]
            self.scope = other.scope
        self.length = length

    def extend(self, tokens: Tokens) -> None:
        """Note that these tokens [n] are in the cache now."""
        self._buffer[self.length : self.length + len(tokens)] = tokens
        self.length += len(tokens)

    def go_back(self) -> None:
        """Take back what its reply has left the plain path with; the reply has to compute it again, see `Footing`."""
        footing = self.reply.foresight.footing if self.reply is not None else None
        if footing is not None and footing.since is not None:
            footing.go_back(self._buffer[footing.since : self.length].tolist())
            self.length = footing.since

    def append(self, token: int) -> None:
        """Note that one more token is in the cache."""
        self._buffer[self.length] = token
        self.length += 1
