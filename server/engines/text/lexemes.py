"""Which parts of a grammar can be lexemes, and the grammar written with them in llguidance's Lark. Pure.

llguidance reads on as long as any lexeme that may stand at a place goes on, and then takes those that end there; it
never goes back. The language stays the same when, wherever lexeme A ends, no lexeme B that may stand in its place goes
on with a character that may follow A. Whether it can come to that is asked of all pairs that may begin at one place:

    A         B          may follow A    "..." is A, B goes on
    [a-z]+    [a-z]+     "("             never: B takes no "("                     A and B are lexemes
    "a"       "ab" "c"   "b"             "a", B goes on with "b"                   B must be taken apart

A grammar that is regular as a whole is one lexeme, whatever is in it: nothing follows it. Others begin with lexemes as
wide as they come; one that goes on where another ends is taken apart, in the end into single characters, which cannot.
The answers err on the safe side: where a rule is named several times, what follows one place counts for all;
repetitions count as endless; of a character only the first byte is looked at, for llguidance reads bytes.
"""

from collections.abc import Callable

from server.engines.text.gbnf_tree import (
    Chars,
    Choice,
    Lexeme,
    Named,
    Node,
    Repeat,
    Series,
    flattened,
    is_regular,
    may_be_empty,
    pattern,
    quantifier,
    walk,
)
from server.engines.text.lexeme_net import Meeting, Net, Pairs, Positions, meet, positions_of

_MOST_WORK = 100_000


def narrow_lark(rules: dict[str, Node], root: str) -> str:
    """Return a grammar in which every character is a lexeme."""
    return _lark(rules, root, lambda node: f"/{pattern(node)}/")


def wide_lark(rules: dict[str, Node], root: str) -> str | None:
    """Return a grammar with lexemes as wide as they can be, None when it is too large to be looked through."""
    flat = flattened(rules, root)
    if flat is None:
        return None
    if is_regular(flat[root]):
        return f"start: /{pattern(flat[root])}/\n"
    cuts = Cuts(_reached(flat, root))
    return _lark(cuts.rules, root, cuts.written) if cuts.settle(root) else None


class Cuts:
    """A grammar's rules cut into lexemes. `rules` name them by number until `settle` has been called."""

    def __init__(self, rules: dict[str, Node]) -> None:
        self._trees: list[Node] = []
        self._apart: dict[int, Node] = {}
        self._read_trees: dict[int, Positions] = {}
        self._meetings: dict[tuple[int, int], Meeting] = {}
        self._work = 0
        self.rules = {name: self._cut(tree) for name, tree in rules.items()}

    def settle(self, root: str) -> bool:
        """Take lexemes apart until none goes on where another ends; False when that is too much work."""
        while self._work < _MOST_WORK:
            greedy = self._greedy(root)
            if not greedy and self._work < _MOST_WORK:
                self.rules = {name: self._expanded(tree) for name, tree in self.rules.items()}
                return True
            for number in greedy:
                self._apart[number] = self._opened(self._trees[number])
        return False

    def written(self, lexeme: Node) -> str:
        """Return a lexeme as a terminal."""
        if not isinstance(lexeme, Lexeme):
            raise ValueError("every character must be in a lexeme")
        return f"/{pattern(self._trees[lexeme.number])}/"

    def _cut(self, node: Node) -> Node:
        if is_regular(node):
            return self._lexeme(node)
        match node:
            case Series(items=items):
                return Series(
                    tuple(self._cut(Series(run)) if len(run) > 1 else self._cut(run[0]) for run in _runs(items))
                )
            case Choice(options=options):
                regular, others = _parted(options)
                found = tuple(self._cut(option) for option in others)
                return Choice((self._lexeme(Choice(regular)), *found) if regular else found)
            case Repeat(item=Choice(options=options), least=least, most=None) if least < 2:
                return self._interspersed(*_parted(options), least)
            case Repeat(item=item, least=least, most=most):
                return Repeat(self._cut(item), least, most)
        return node

    def _interspersed(self, regular: tuple[Node, ...], others: tuple[Node, ...], least: int) -> Node:
        """Cut an endless choice, `(R | X)*`, as `R* (X R*)*`: what is regular in it is then read in one go."""
        runs = [self._lexeme(Repeat(Choice(regular), number, None)) for number in (0, least)]
        other = Series((Choice(tuple(self._cut(option) for option in others)), runs[0]))
        begin = Choice((runs[1], other)) if least else runs[0]
        return Series((begin, Repeat(other, 0, None)))

    def _lexeme(self, tree: Node) -> Node:
        if not any(isinstance(part, Chars) for part in walk(tree)):
            return Series(())
        self._trees.append(tree)
        return Lexeme(len(self._trees) - 1)

    def _opened(self, tree: Node) -> Node:
        match tree:
            case Series(items=items):
                return Series(tuple(self._lexeme(item) for item in items))
            case Choice(options=options):
                return Choice(tuple(self._lexeme(option) for option in options))
            case Repeat(item=item, least=least, most=most):
                return Repeat(self._lexeme(item), least, most)
        raise ValueError("a single character cannot be taken apart")

    def _expanded(self, node: Node) -> Node:
        match node:
            case Lexeme(number=number) if number in self._apart:
                return self._expanded(self._apart[number])
            case Series(items=items):
                return Series(tuple(self._expanded(item) for item in items))
            case Choice(options=options):
                return Choice(tuple(self._expanded(option) for option in options))
            case Repeat(item=item, least=least, most=most):
                return Repeat(self._expanded(item), least, most)
        return node

    def _greedy(self, root: str) -> set[int]:
        """Return the lexemes that may go on where another ends, with what may follow the other."""
        net = Net()
        names = {name: (net.state(), net.state()) for name in self.rules}
        for name, tree in self.rules.items():
            entry, end = names[name]
            net.join(self._spread(net, tree, entry, names), end)
        pairs = Pairs()
        pairs.add(*[self._next(net, names[root][0])[0]] * 2)
        greedy: set[int] = set()
        while (pair := pairs.take()) and self._work < _MOST_WORK:
            self._work += 1
            (one, first), (two, second) = (net.edges[edge] for edge in pair)
            meeting = self._meeting(first, second)
            (after_one, leads_one), (after_two, leads_two) = self._next(net, one), self._next(net, two)
            goes_on = {second} if meeting.second_goes_on & leads_one else set()
            if meeting.first_goes_on & leads_two:
                goes_on.add(first)
            greedy |= goes_on
            if meeting.end_together and not goes_on:
                self._work += pairs.add(after_one, after_two)
        return greedy

    def _next(self, net: Net, state: int) -> tuple[list[int], int]:
        """Return the edges that can be taken from a state on, and the bytes that their lexemes begin with."""
        edges, states = net.following(state)
        if state not in net.leads:
            self._work += len(states)
            leads = 0
            for edge in edges:
                positions = self._read(net.edges[edge][1])
                for place in positions.first:
                    leads |= positions.leads[place]
            net.leads[state] = leads
        return edges, net.leads[state]

    def _spread(self, net: Net, node: Node, at: int, names: dict[str, tuple[int, int]]) -> int:
        """Lay a tree into the net from a state on and return where it ends."""
        match node:
            case Lexeme(number=number) if number in self._apart:
                return self._spread(net, self._apart[number], at, names)
            case Lexeme(number=number):
                end = net.edge(at, number)
                if may_be_empty(self._trees[number]):
                    net.join(at, end)
                return end
            case Named(name=name):
                net.join(at, names[name][0])
                end = net.state()
                net.join(names[name][1], end)
                return end
        return net.spread(node, at, lambda child, start: self._spread(net, child, start, names))

    def _read(self, number: int) -> Positions:
        found = self._read_trees.get(number)
        if found is None:
            found = self._read_trees[number] = positions_of(self._trees[number])
            self._work += len(found.leads)
        return found

    def _meeting(self, first: int, second: int) -> Meeting:
        found = self._meetings.get((first, second))
        if found is None:
            found, work = meet(self._read(first), self._read(second))
            self._meetings[first, second] = found
            self._work += work
        return found


def _runs(items: tuple[Node, ...]) -> list[tuple[Node, ...]]:
    """Return the items with those that are regular and stand side by side taken together."""
    runs: list[list[Node]] = []
    before = False
    for item in items:
        regular = is_regular(item)
        if regular and before:
            runs[-1].append(item)
        else:
            runs.append([item])
        before = regular
    return [tuple(run) for run in runs]


def _parted(options: tuple[Node, ...]) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """Return the options that are regular, and the others."""
    regular = tuple(option for option in options if is_regular(option))
    return regular, tuple(option for option in options if not is_regular(option))


def _reached(rules: dict[str, Node], root: str) -> dict[str, Node]:
    """Return the rules that the root needs."""
    found: dict[str, Node] = {}
    pending = [root]
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = rules[name]
            pending += [part.name for part in walk(rules[name]) if isinstance(part, Named)]
    return found


def _lark(rules: dict[str, Node], root: str, leaf: Callable[[Node], str]) -> str:
    names = {name: f"r{number}" for number, name in enumerate(rules)}
    lines = [f"start: {names[root]}"]
    lines += [f"{names[name]}: {_written(tree, names, leaf)}" for name, tree in rules.items()]
    return "\n".join(lines) + "\n"


def _written(node: Node, names: dict[str, str], leaf: Callable[[Node], str]) -> str:
    match node:
        case Named(name=name):
            return names[name]
        case Series(items=items):
            return " ".join(_written(item, names, leaf) for item in items) or '""'
        case Choice(options=options):
            return f"({' | '.join(_written(option, names, leaf) for option in options)})"
        case Repeat(item=item, least=least, most=most):
            return f"({_written(item, names, leaf)}){quantifier(least, most)}"
    return leaf(node)
