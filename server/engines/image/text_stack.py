"""All text encoders of a model as one: their tokens side by side, their pooled vectors joined, embeddings for each."""

from collections.abc import Iterable, Sequence

import torch

from server.core.image import TextEncoding
from server.engines.image.chunks import Chunk
from server.engines.image.clip.tokenizer import ClipTokenizer
from server.engines.image.embeddings import Embedding
from server.engines.image.layouts.family import Family
from server.engines.image.offload import Seats
from server.engines.image.text_encoding import Encoded, TextEncoder
from server.engines.image.text_tower import TextTower


class TextStack:
    """The encoders of one checkpoint, in the order in which the UNet wants their tokens."""

    def __init__(
        self, towers: Sequence[TextTower], tokenizer: ClipTokenizer, family: Family, seats: Seats, device: torch.device
    ) -> None:
        self.tokenizer = tokenizer
        self.family = family
        self._encoders = [TextEncoder(tower, tokenizer, device) for tower in towers]
        self._seats = seats

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the channels of a token in each encoder."""
        return tuple(encoder.width for encoder in self._encoders)

    @property
    def width(self) -> int:
        """Return the channels of a token in all of them together."""
        return sum(self.widths)

    @property
    def towers(self) -> tuple[TextTower, ...]:
        """Return the modules of the encoders."""
        return tuple(encoder.tower for encoder in self._encoders)

    @property
    def layers(self) -> int:
        """Return how many layers the first encoder has, so how far clip skip can go."""
        return self._encoders[0].tower.layers

    def use(self, embeddings: Iterable[Embedding]) -> None:
        """Let prompts name exactly these embeddings."""
        found = list(embeddings)
        for number, encoder in enumerate(self._encoders):
            encoder.vectors = {each.name: each.parts[number] for each in found}

    def encode(self, texts: Sequence[Sequence[Chunk]], settings: TextEncoding) -> list[Encoded]:
        """Return each text as the UNet wants it, all of the length of the longest."""
        columns = []
        for encoder in self._encoders:
            self._seats.take(encoder.tower)
            columns.append(encoder.encode(texts, settings))
        return [_joined(row) for row in zip(*columns, strict=True)]


def _joined(row: Sequence[Encoded]) -> Encoded:
    if len(row) == 1:
        return row[0]
    pooled = [each.pooled for each in row if each.pooled is not None]
    return Encoded(torch.cat([each.tokens for each in row], dim=-1), torch.cat(pooled) if pooled else None)
