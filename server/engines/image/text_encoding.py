"""Chunks to text conditioning with one encoder: weights, clip skip, embeddings."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from server.core.image import Emphasis, TextEncoding
from server.engines.image.chunks import Chunk, empty
from server.engines.image.clip.tokenizer import ClipTokenizer
from server.engines.image.layouts.family import TextRule
from server.engines.image.text_tower import TextTower


@dataclass(frozen=True)
class Encoded:
    """A text as one encoder or all of them give it: tokens [77 * chunks, width] float32, pooled [n] float32 or None."""

    tokens: torch.Tensor
    pooled: torch.Tensor | None = None


class TextEncoder:
    """Encodes chunks with one text model. Holds the vectors of embeddings, [vectors, width] by name."""

    def __init__(self, tower: TextTower, tokenizer: ClipTokenizer, device: torch.device) -> None:
        self.tokenizer = tokenizer
        self.vectors: Mapping[str, torch.Tensor] = {}
        self.tower = tower
        self._device = device

    @property
    def width(self) -> int:
        """Return the channels of a token."""
        return self.tower.width

    def encode(self, texts: Sequence[Sequence[Chunk]], settings: TextEncoding) -> list[Encoded]:
        """Return the conditioning of each text; all get the length of the longest.

        The texts are one call of the encoder per chunk number: they share the emphasis factor. The pooled vector is
        that of the first chunk and has no weights.
        """
        filler = empty(self.tokenizer)
        rows, pooled = [], None
        for number in range(max(len(text) for text in texts)):
            batch = [text[number] if number < len(text) else filler for text in texts]
            hidden, first = self._encode_batch(batch, settings)
            rows.append(hidden)
            pooled = first if number == 0 else pooled
        tokens = torch.cat(rows, dim=1)
        return [Encoded(row, None if pooled is None else pooled[place]) for place, row in enumerate(tokens)]

    def _encode_batch(self, batch: Sequence[Chunk], settings: TextEncoding) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return [batch, 77, width] and the pooled [batch, n] or None, float32."""
        rule = self.tower.rule
        tokens = torch.tensor([self._ids(chunk) for chunk in batch], device=self._device)
        with torch.no_grad(), self._embedded(batch):
            states = self.tower(tokens, layer_from_end(rule, settings), rule.normed)
            weights = torch.tensor([chunk.weights for chunk in batch], dtype=torch.float32, device=self._device)
            # A1111's old mean is a float16 number where no float32 norm came before.
            keeps = states.hidden.dtype == torch.float16 and not rule.normed
            hidden = states.hidden if keeps else states.hidden.float()
            hidden = emphasise(hidden, weights, settings.emphasis)
        return hidden.float(), None if states.pooled is None else states.pooled.float()

    def _ids(self, chunk: Chunk) -> tuple[int, ...]:
        """Return the tokens of a chunk as this encoder is given them."""
        if not self.tower.rule.zero_padding:
            return chunk.tokens
        end = chunk.tokens.index(self.tokenizer.end) + 1
        return (*chunk.tokens[:end], *[0] * (len(chunk.tokens) - end))

    @contextmanager
    def _embedded(self, batch: Sequence[Chunk]) -> Iterator[None]:
        """While it lasts, token vectors are replaced by those of the embeddings placed in `batch`."""

        def replace(module: torch.nn.Module, args: object, found: torch.Tensor) -> torch.Tensor:
            for row, chunk in enumerate(batch):
                for placed in chunk.embeddings:
                    vectors = self.vectors[placed.name].to(found)
                    found[row, placed.offset : placed.offset + vectors.shape[0]] = vectors
            return found

        hook = self.tower.bare.get_submodule("embeddings.token_embedding").register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()


def layer_from_end(rule: TextRule, settings: TextEncoding) -> int:
    """Return which hidden state counts, from the end (1 = last)."""
    if rule.clip_skip == "always":
        return max(settings.clip_skip, rule.from_end)
    if rule.clip_skip == "asked" and settings.clip_skip_first:
        return settings.clip_skip
    return rule.from_end


def emphasise(hidden: torch.Tensor, weights: torch.Tensor, emphasis: Emphasis) -> torch.Tensor:
    """Multiply each token of `hidden` [batch, 77, width] with its weight [batch, 77].

    `original` then scales the whole tensor back to the mean it had, unless the mean is zero and nothing can; `no_norm`
    does not; the others change nothing. The old mean has the precision of `hidden`, the new one is float32.
    """
    if emphasis not in ("original", "no_norm"):
        return hidden
    weighted = hidden * weights[..., None]
    mean = weighted.mean()
    return weighted * (hidden.mean() / mean) if emphasis == "original" and mean != 0 else weighted
