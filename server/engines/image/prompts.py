"""Prompts of jobs to conditioning, kept from job to job: the next one mostly has the same words."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from server.core.image import EmbeddingRef, Size, TextEncoding
from server.core.prompt import PromptTree, Span
from server.engines.image.conditioning import Conditioning, TextPass, encode
from server.engines.image.embeddings import Embedding, EmbeddingIndex, EmbeddingShelf
from server.engines.image.text_stack import TextStack

MOST_KEPT = 8
"""Pairs of prompts; one is half a megabyte for SD1, 1.3 for SDXL, and more when it is long or has a schedule."""

MOST_VALUES = 16_777_216
"""Numbers in all that is kept: 64 MiB."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Two prompts to encode. `weights` stands for the LoRAs that the text encoders carry, `size` for the pictures."""

    prompt: PromptTree
    negative: PromptTree
    settings: TextEncoding
    size: Size
    weights: Hashable = ()


class Prompter:
    """Encodes with the text encoders of one checkpoint. Owns what it has encoded."""

    def __init__(self, stack: TextStack, shelf: EmbeddingShelf) -> None:
        self._stack = stack
        self._shelf = shelf
        self._kept: OrderedDict[Hashable, Conditioning] = OrderedDict()

    def embeddings(
        self, refs: Sequence[EmbeddingRef], trees: Sequence[PromptTree]
    ) -> tuple[list[Embedding], list[str]]:
        """Return the textual inversions that the prompts name, and notes on those that cannot be used."""
        return self._shelf.take(refs, " ".join(map(_words, trees)))

    def encoded(self, asked: Asked, embeddings: Sequence[Embedding]) -> Conditioning:
        """Return the conditioning of two prompts in which these embeddings may be named."""
        size = asked.size if self._stack.family.sizes != "none" else None
        # An embedding is read once for each change of its file, so it is itself while the file is the same.
        key = (asked.prompt, asked.negative, asked.settings, size, asked.weights, tuple(map(_Same, embeddings)))
        found = self._kept.pop(key, None)
        if found is None:
            self._stack.use(embeddings)
            pass_ = TextPass(
                stack=self._stack, settings=asked.settings, find=EmbeddingIndex(embeddings).find, size=asked.size
            )
            found = encode(asked.prompt, asked.negative, pass_)
        self._kept[key] = found
        while len(self._kept) > 1 and (len(self._kept) > MOST_KEPT or self._values() > MOST_VALUES):
            self._kept.popitem(last=False)
        return found

    def _values(self) -> int:
        return sum(
            text.encoded.numel()
            for found in self._kept.values()
            for part in (*found.parts, found.negative)
            for text in part.texts
        )


@dataclass(frozen=True, eq=False)
class _Same:
    """An embedding as a key: equal to itself alone."""

    embedding: Embedding

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.embedding is other.embedding

    def __hash__(self) -> int:
        return id(self.embedding)


def _words(tree: PromptTree) -> str:
    return " ".join(
        piece.text for part in tree.parts for text in part.texts for piece in text.pieces if isinstance(piece, Span)
    )
