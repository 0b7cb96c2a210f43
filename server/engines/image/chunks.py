"""Pieces of a prompt to chunks of 77 tokens with weights, as A1111 packs them. Pure.

| prompt | chunks |
|---|---|
| empty | one, of padding |
| `a BREAK b` | two, of one token each |
| 75 tokens, a comma among the last 20, then one more | cut after that comma, the rest moves on |
| name of an embedding with 3 vectors | 3 placeholders in one chunk, never cut |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from server.core.prompt import Break, Piece
from server.engines.image.clip.tokenizer import ClipTokenizer

ROOM = 75
"""Tokens of the prompt in a chunk; the start and end tokens make it 77."""

PLACEHOLDER = 0
"""Token that stands where an embedding's vector will be."""


@dataclass(frozen=True)
class Placed:
    """The embedding `name` with its first vector at `offset` (0 = the start token) of a chunk."""

    offset: int
    name: str


@dataclass(frozen=True)
class Chunk:
    """What one call of the text encoder sees: 77 token ids, as many weights, embeddings in place of tokens."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    embeddings: tuple[Placed, ...] = ()


@dataclass(frozen=True)
class Found:
    """An embedding that begins at a token: its name, the tokens its name takes, the vectors it has."""

    name: str
    tokens: int
    vectors: int


FindEmbedding = Callable[[Sequence[int], int], Found | None]
"""Given tokens and a position, the longest embedding whose name begins there."""


def no_embeddings(tokens: Sequence[int], position: int) -> Found | None:
    """Find nothing; for prompts without embeddings."""
    return None


def pack(
    pieces: Sequence[Piece],
    tokenizer: ClipTokenizer,
    *,
    comma_backtrack: int = 20,
    find: FindEmbedding = no_embeddings,
) -> tuple[Chunk, ...]:
    """Return the chunks of one text, at least one.

    `comma_backtrack` is how many tokens back a comma is looked for when a chunk is full; 0 = never.
    """
    packer = _Packer(tokenizer, comma_backtrack)
    for piece in pieces:
        if isinstance(piece, Break):
            packer.close()
        else:
            _pack_text(packer, tokenizer.ids(piece.text), piece.weight, find)
    if packer.tokens or not packer.chunks:
        packer.close()
    return tuple(packer.chunks)


def empty(tokenizer: ClipTokenizer) -> Chunk:
    """Return the chunk of the empty prompt."""
    return pack((), tokenizer)[0]


def _pack_text(packer: "_Packer", tokens: list[int], weight: float, find: FindEmbedding) -> None:
    position = 0
    while position < len(tokens):
        found = find(tokens, position)
        packer.make_room(tokens[position])
        if found is None:
            packer.add(tokens[position], weight)
            position += 1
        else:
            packer.add_embedding(found, weight)
            position += found.tokens


@dataclass
class _Packer:
    """The chunk being filled, and those that are closed."""

    tokenizer: ClipTokenizer
    comma_backtrack: int
    chunks: list[Chunk] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)
    after_comma: int = 0
    """Where the tokens after the last comma begin; 0 = no comma in this chunk."""

    def make_room(self, token: int) -> None:
        """Close the chunk if `token` would be its 76th, after the last comma if that is near enough."""
        if token == self.tokenizer.comma:
            self.after_comma = len(self.tokens) + 1
        elif self._comma_is_near():
            self._close_after_comma()
        if len(self.tokens) == ROOM:
            self.close()

    def add(self, token: int, weight: float) -> None:
        """Append one token; there is room."""
        self.tokens.append(token)
        self.weights.append(weight)

    def add_embedding(self, found: Found, weight: float) -> None:
        """Append the placeholders of an embedding, in a new chunk if they do not fit here."""
        if len(self.tokens) + found.vectors > ROOM:
            self.close()
        self.placed.append(Placed(len(self.tokens) + 1, found.name))
        self.tokens += [PLACEHOLDER] * found.vectors
        self.weights += [weight] * found.vectors

    def close(self) -> None:
        """Fill the chunk up and begin a new one."""
        padding = ROOM - len(self.tokens)
        tokens = (self.tokenizer.start, *self.tokens, *[self.tokenizer.end] * (padding + 1))
        self.chunks.append(Chunk(tokens, (1.0, *self.weights, *[1.0] * (padding + 1)), tuple(self.placed)))
        self.tokens, self.weights, self.placed, self.after_comma = [], [], [], 0

    def _comma_is_near(self) -> bool:
        full = self.comma_backtrack != 0 and len(self.tokens) == ROOM and self.after_comma != 0
        return full and ROOM - (self.after_comma - 1) <= self.comma_backtrack

    def _close_after_comma(self) -> None:
        cut = self.after_comma
        tokens, weights = self.tokens[cut:], self.weights[cut:]
        moved = [Placed(each.offset - cut, each.name) for each in self.placed if each.offset > cut]
        self.placed = [each for each in self.placed if each.offset <= cut]
        self.tokens, self.weights = self.tokens[:cut], self.weights[:cut]
        self.close()
        self.tokens, self.weights, self.placed = tokens, weights, moved
