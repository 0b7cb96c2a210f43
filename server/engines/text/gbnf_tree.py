"""The rules of a grammar as trees, and what can be said of them without reading any text. Pure.

A tree without `Named` in it is regular: it can be written as one regular expression. Rules that only repeat themselves
at their own end are made so (`x ::= "a" x | "b"` is `"a"* "b"`), and rules that are regular are put in where they are
named, unless that would make a tree too large.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

_LARGEST = 20_000
_MOST_PARTS = 40_000
_DEEPEST = 120


class Chars(msgspec.Struct, frozen=True):
    """One character. `pattern` is a regular expression for it, bit n of `leads` tells that byte n may begin it."""

    pattern: str
    leads: int


class Named(msgspec.Struct, frozen=True):
    """A rule by its name."""

    name: str


class Series(msgspec.Struct, frozen=True):
    """One after the other; without items it is the empty text."""

    items: "tuple[Node, ...]"


class Choice(msgspec.Struct, frozen=True):
    """One of several."""

    options: "tuple[Node, ...]"


class Repeat(msgspec.Struct, frozen=True):
    """The same `least` ... `most` times, None = without end."""

    item: "Node"
    least: int
    most: int | None


class Lexeme(msgspec.Struct, frozen=True):
    """A regular tree that was taken out, by its number; see `lexemes`."""

    number: int


Node = Chars | Named | Series | Choice | Repeat | Lexeme
EMPTY = Series(())
_LEADS = (1 << 0xF5) - (1 << 0xC2) | (1 << 0x80) - 1


def children(node: Node) -> "tuple[Node, ...]":
    """Return the trees directly below."""
    match node:
        case Series(items=items) | Choice(options=items):
            return items
        case Repeat(item=item):
            return (item,)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """Yield a tree and all below it."""
    pending = [node]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(children(node))


def is_regular(node: Node) -> bool:
    """Tell whether no rule is named in a tree."""
    return not any(isinstance(part, Named) for part in walk(node))


def may_be_empty(node: Node) -> bool:
    """Tell whether a regular tree stands for the empty text among others."""
    match node:
        case Series(items=items):
            return all(may_be_empty(item) for item in items)
        case Choice(options=options):
            return any(may_be_empty(option) for option in options)
        case Repeat(item=item, least=least, most=most):
            return least == 0 or most == 0 or may_be_empty(item)
    return False


def pattern(node: Node) -> str:
    """Return a regular tree as a regular expression."""
    match node:
        case Chars(pattern=text):
            return text
        case Series(items=items):
            return "".join(_grouped(item) if isinstance(item, Choice) else pattern(item) for item in items) or "(?:)"
        case Choice(options=options):
            return "|".join(pattern(option) for option in options)
        case Repeat(item=item, least=least, most=most):
            return _grouped(item) + quantifier(least, most)
    raise ValueError("a rule is named in what should be a regular expression")


def quantifier(least: int, most: int | None) -> str:
    """Return how a repetition is written."""
    short = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    if written := short.get((least, most)):
        return written
    return f"{{{least},}}" if most is None else f"{{{least}}}" if least == most else f"{{{least},{most}}}"


def _grouped(node: Node) -> str:
    return pattern(node) if isinstance(node, Chars) else f"(?:{pattern(node)})"


def flattened(rules: dict[str, Node], root: str) -> dict[str, Node] | None:
    """Return the rules with all that are regular put in where they are named; those stay in the result too.

    None when that comes to more parts than can be looked through: the root's, and those of what is not regular.
    """
    flat = dict(rules)
    names = {name: Counter(part.name for part in walk(tree) if isinstance(part, Named)) for name, tree in rules.items()}
    users: dict[str, list[str]] = {name: [] for name in rules}
    for name, found in names.items():
        for other in found.keys() - {name}:
            users[other].append(name)
    missing = {name: len(found.keys() - {name}) for name, found in names.items()}
    sizes: dict[str, tuple[int, int]] = {}
    ready = [name for name, count in missing.items() if not count]
    while ready:
        name = ready.pop()
        tree, size = rules[name], _measured(rules[name], sizes)
        if name in names[name] and (loop := without_recursion(tree, name)) is not None:
            tree, size = loop, _measured(loop, sizes)
        elif name in names[name]:
            continue
        if size[0] > _LARGEST or size[1] > _DEEPEST:
            continue
        flat[name], sizes[name] = _inserted(tree, flat, sizes), size
        for user in users[name]:
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    others = {name: tree for name, tree in rules.items() if name not in sizes}
    parts = sum(_measured(tree, sizes)[0] for tree in others.values())
    if parts + sizes.get(root, (0, 0))[0] > _MOST_PARTS:
        return None
    return flat | {name: _inserted(tree, flat, sizes) for name, tree in others.items()}


def _measured(node: Node, sizes: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Return how many parts and levels a tree has once named rules are put in."""
    if isinstance(node, Named):
        return sizes.get(node.name, (1, 1))
    below = [_measured(child, sizes) for child in children(node)]
    return 1 + sum(parts for parts, _ in below), 1 + max((levels for _, levels in below), default=0)


def _inserted(node: Node, flat: dict[str, Node], known: dict[str, tuple[int, int]]) -> Node:
    match node:
        case Named(name=name) if name in known:
            return flat[name]
        case Series(items=items):
            return Series(tuple(_inserted(item, flat, known) for item in items))
        case Choice(options=options):
            return Choice(tuple(_inserted(option, flat, known) for option in options))
        case Repeat(item=item, least=least, most=most):
            return Repeat(_inserted(item, flat, known), least, most)
    return node


def without_recursion(node: Node, name: str) -> Node | None:
    """Return the tree of a rule that names itself only where it ends, written as a repetition; None when it cannot be.

    By Arden's rule, what is `loops x | bases` is `loops* bases`.
    """
    found = _tails(node, name)
    if found is None:
        return None
    loops, bases = found
    if not bases:
        return None  # it never ends
    ahead = [loop for loop in loops if loop != EMPTY]
    base = bases[0] if len(bases) == 1 else Choice(tuple(bases))
    return Series((Repeat(Choice(tuple(ahead)), 0, None), base)) if ahead else base


def _tails(node: Node, name: str) -> tuple[list[Node], list[Node]] | None:
    """Return what can stand before the rule's own name at the end of the tree, and what the tree is without it."""
    if not _names(node, name):
        return [], [node]
    match node:
        case Named():
            return [EMPTY], []
        case Choice(options=options):
            found = [_tails(option, name) for option in options]
            if any(one is None for one in found):
                return None
            both = [one for one in found if one is not None]
            return [loop for loops, _ in both for loop in loops], [base for _, bases in both for base in bases]
        case Series(items=items) if not any(_names(item, name) for item in items[:-1]):
            last = _tails(items[-1], name)
            return None if last is None else (_after(items[:-1], last[0]), _after(items[:-1], last[1]))
        case Repeat(item=item, least=0, most=1):
            once = _tails(item, name)
            return None if once is None else (once[0], [*once[1], EMPTY])
    return None


def _after(items: tuple[Node, ...], ends: list[Node]) -> list[Node]:
    alone = items[0] if len(items) == 1 else Series(items)
    return [alone if end == EMPTY else Series((*items, end)) for end in ends]


def _names(node: Node, name: str) -> bool:
    return any(isinstance(part, Named) and part.name == name for part in walk(node))


def lead_bytes(ranges: Sequence[tuple[int, int]], *, negated: bool = False) -> int:
    """Return the first UTF-8 bytes of the characters in ranges of code points, or of all others, as a set of bits."""
    if negated:
        others, start = [], 0
        for low, high in sorted(ranges):
            if start < low:
                others.append((start, low - 1))
            start = max(start, high + 1)
        ranges = [*others, (start, 0x10FFFF)] if start <= 0x10FFFF else others
    leads = 0
    for low, high in ranges:
        first, last = _lead(low), _lead(high)
        leads |= (1 << last + 1) - (1 << first)
    return leads & _LEADS


def _lead(code: int) -> int:
    if code < 0x80:
        return code
    if code < 0x800:
        return 0xC0 | code >> 6
    return 0xE0 | code >> 12 if code < 0x10000 else 0xF0 | code >> 18
