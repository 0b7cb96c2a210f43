"""The sequences of one context: which reply runs where, and what is done to their caches.

The decisions are `prefix.place` (where a prompt goes and what it inherits) and `neighbours.closing_moves`; here they
are carried out, natively and in the mirror at once.
"""

from server.engines.text.native import Context
from server.engines.text.neighbours import closing_moves
from server.engines.text.pictures import clipped, position_after
from server.engines.text.prefix import WORTH_COPYING, Placement, Scope, Tokens, place
from server.engines.text.reply import Reply
from server.engines.text.sequences import CachedSequence


class Caches:
    """All sequences of a context, by their numbers.

    `started` are those whose prompt is still to be computed, the oldest request first. `length` is how many tokens each
    has room for.
    """

    def __init__(self, context: Context, *, slots: int, length: int) -> None:
        """Begin with `slots` empty sequences of `length` tokens."""
        self.sequences = [CachedSequence(number, length) for number in range(slots)]
        self.started: list[CachedSequence] = []
        self.length = length
        self._context = context
        self._uses = 0

    @property
    def idle(self) -> int:
        """Return how many sequences no reply is in."""
        return sum(sequence.reply is None for sequence in self.sequences)

    @property
    def running(self) -> list[CachedSequence]:
        """Return the sequences whose reply waits for its next token, in ascending order."""
        return [sequence for sequence in self.sequences if sequence.reply is not None and sequence.reply.running]

    def claim(self, reply: Reply) -> bool:
        """Start a reply in a sequence; False when it had better wait, see `prefix.place`."""
        views = [sequence.view(reply.scope) for sequence in self.sequences]
        placement = place(reply.prompt, views, reuse=not reply.scoring, whole=not self._context.can_cut)
        if placement is None:
            return False
        self._start(reply, placement)
        return True

    def release(self, reply: Reply) -> bool:
        """Make the sequence of a reply idle; its content stays for prompts that begin alike. False: it has none."""
        for sequence in self.sequences:
            if sequence.reply is reply:
                sequence.reply = None
                self._drop_half_picture(sequence)
                sequence.last_used = self._next_use()
                if sequence in self.started:
                    self.started.remove(sequence)
                return True
        return False

    def empty(self, sequence: CachedSequence) -> None:
        """Forget what a sequence holds."""
        self._context.trim(sequence.id, 0)
        sequence.inherit(sequence, 0)
        sequence.slot = None

    def empty_idle(self) -> None:
        """Forget what all sequences hold in which nothing runs."""
        for sequence in self.sequences:
            if sequence.reply is None:
                self.empty(sequence)

    def of_slot(self, slot: int, scope: str) -> CachedSequence | None:
        """Return the sequence of the newest request of that number; where none is, the one that has it itself.

        None when it holds what belongs to another scope than the one of that name.
        """
        own = [sequence for sequence in self.sequences if sequence.scope.name == scope]
        asked = [sequence for sequence in own if sequence.slot == slot]
        if asked:
            return max(asked, key=lambda sequence: sequence.last_used)
        return next((sequence for sequence in own if sequence.id == slot and sequence.slot is None), None)

    def least_wanted(self) -> CachedSequence | None:
        """Return the sequence that may be overwritten first: an empty one, else the one longest unused."""
        idle = [sequence for sequence in self.sequences if sequence.reply is None]
        return min(idle, key=lambda s: (s.length > 0, s.last_used, s.id), default=None)

    def fill(self, sequence: CachedSequence, tokens: Tokens, scope: Scope, slot: int) -> None:
        """Note that a sequence holds these tokens [n] of a scope now, which may be asked for as a slot."""
        sequence.inherit(sequence, 0)
        sequence.runs = ()  # where pictures stand is told by the prompts that inherit them
        sequence.extend(tokens)
        sequence.scope, sequence.slot = scope, slot
        sequence.last_used = self._next_use()

    def close_gaps(self) -> None:
        """Move running replies, where it is worth it, so that all of them are in neighbouring sequences."""
        running = {s.id: s.reply.left for s in self.sequences if s.reply is not None and s.reply.running}
        fixed = {s.id for s in self.sequences if s.reply is not None and not s.reply.running}
        idle = {s.id: s.last_used if s.length >= WORTH_COPYING else 0 for s in self.sequences if s.reply is None}
        for move in closing_moves(running, fixed, idle):
            source, target = self.sequences[move.source], self.sequences[move.target]
            if move.spare is not None:
                self._copy(target, self.sequences[move.spare])
            self._copy(source, target)
            target.reply, source.reply = source.reply, None
            self.empty(source)

    def _copy(self, source: CachedSequence, target: CachedSequence) -> None:
        self._context.copy(source.id, target.id)
        target.inherit(source, source.length)
        target.last_used = source.last_used
        target.slot = source.slot

    def _drop_half_picture(self, sequence: CachedSequence) -> None:
        """Forget a piece of a picture of which only a part was computed: nobody could go on with it."""
        kept = clipped(sequence.runs, sequence.length)
        if kept == sequence.length:
            return
        if self._context.trim(sequence.id, position_after(sequence.runs, kept)):
            sequence.inherit(sequence, kept)
        else:
            self.empty(sequence)

    def _start(self, reply: Reply, placement: Placement) -> None:
        target, source = self.sequences[placement.slot], self.sequences[placement.source]
        shared = clipped(reply.pictures, placement.shared)
        if source is not target and shared:
            self._context.copy(source.id, target.id)
            if source.reply is None and source.length == shared:
                source.last_used = 0  # its whole content lives on in the target: the first to be overwritten
        if not self._context.trim(target.id, position_after(reply.pictures, shared)):
            self._context.trim(target.id, 0)
            shared = 0
        target.inherit(source, shared)
        target.runs = reply.pictures
        target.reply = reply
        target.scope = reply.scope
        target.slot = reply.slot
        target.last_used = self._next_use()
        reply.start(shared)
        self.started.append(target)

    def _next_use(self) -> int:
        self._uses += 1
        return self._uses
