"""The state of one sequence of the context: which tokens its cache holds and which reply runs in it."""

import numpy as np

from server.engines.text.prefix import SlotView, Tokens
from server.engines.text.reply import Reply


class CachedSequence:
    """A mirror of one native sequence. The engine keeps it in step with what it asks the context to do."""

    def __init__(self, number: int, context: int) -> None:
        self.id = number
        self.reply: Reply | None = None
        self.last_used = 0
        self.scope = ""
        self.length = 0
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
    def scored(self) -> bool:
        """Tell whether the tokens of its prompt are scored, so that each needs an output."""
        return self.reply is not None and self.reply.scoring

    def text(self, token: int) -> Tokens:
        """Return the cached tokens and the next one [length + 1], a view; there must be room for it."""
        self._buffer[self.length] = token
        return self._buffer[: self.length + 1]

    def view(self, scope: str = "") -> SlotView:
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
            self._buffer[:length] = other._buffer[:length]
            self.scope = other.scope
        self.length = length

    def extend(self, tokens: Tokens) -> None:
        """Note that these tokens [n] are in the cache now."""
        self._buffer[self.length : self.length + len(tokens)] = tokens
        self.length += len(tokens)

    def append(self, token: int) -> None:
        """Note that one more token is in the cache."""
        self._buffer[self.length] = token
        self.length += 1
