"""Chunks to text conditioning: CLIP with weights, clip skip and embeddings (a1111-api.md 2.10, level 5)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from transformers.models.clip.modeling_clip import CLIPTextModel

from server.core.image import Emphasis, TextEncoding
from server.engines.image.checkpoint import bare_text_model
from server.engines.image.chunks import Chunk, empty
from server.engines.image.clip.tokenizer import ClipTokenizer


class TextEncoder:
    """Encodes chunks with one text model. Holds the vectors of embeddings, [vectors, width] by name."""

    def __init__(self, model: CLIPTextModel, tokenizer: ClipTokenizer, device: torch.device) -> None:
        self.tokenizer = tokenizer
        self.vectors: Mapping[str, torch.Tensor] = {}
        self._model = model
        self._inner = bare_text_model(model)
        self._device = device

    @property
    def width(self) -> int:
        """Return the channels of a token."""
        width: int = self._model.config.hidden_size
        return width

    @property
    def layers(self) -> int:
        """Return how many layers there are, so how far clip skip can go."""
        layers: int = self._model.config.num_hidden_layers
        return layers

    def encode(self, texts: Sequence[Sequence[Chunk]], settings: TextEncoding) -> list[torch.Tensor]:
        """Return the conditioning [77 * chunks, width] float32 of each text; all get the length of the longest.

        The texts are one call of the encoder per chunk number: they share the emphasis factor.
        """
        filler = empty(self.tokenizer)
        rows = []
        for number in range(max(len(text) for text in texts)):
            batch = [text[number] if number < len(text) else filler for text in texts]
            rows.append(self._encode_batch(batch, settings))
        return list(torch.cat(rows, dim=1))

    def _encode_batch(self, batch: Sequence[Chunk], settings: TextEncoding) -> torch.Tensor:
        """Return [batch, 77, width] float32."""
        tokens = torch.tensor([chunk.tokens for chunk in batch], device=self._device)
        with torch.no_grad(), self._embedded(batch):
            if settings.clip_skip > 1:
                out = self._model(input_ids=tokens, output_hidden_states=True)
                hidden = self._inner.get_submodule("final_layer_norm")(out.hidden_states[-settings.clip_skip])
            else:
                hidden = self._model(input_ids=tokens).last_hidden_state
            weights = torch.tensor([chunk.weights for chunk in batch], dtype=torch.float32, device=self._device)
            return emphasise(hidden.float(), weights, settings.emphasis)

    @contextmanager
    def _embedded(self, batch: Sequence[Chunk]) -> Iterator[None]:
        """While it lasts, token vectors are replaced by those of the embeddings placed in `batch`."""

        def replace(module: torch.nn.Module, args: object, found: torch.Tensor) -> torch.Tensor:
            for row, chunk in enumerate(batch):
                for placed in chunk.embeddings:
                    vectors = self.vectors[placed.name].to(found)
                    found[row, placed.offset : placed.offset + vectors.shape[0]] = vectors
            return found

        hook = self._inner.get_submodule("embeddings.token_embedding").register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()


def emphasise(hidden: torch.Tensor, weights: torch.Tensor, emphasis: Emphasis) -> torch.Tensor:
    """Multiply each token of `hidden` [batch, 77, width] with its weight [batch, 77].

    `original` then scales the whole tensor back to the mean it had, unless the mean is zero and nothing can; `no_norm`
    does not; the others change nothing.
    """
    if emphasis not in ("original", "no_norm"):
        return hidden
    weighted = hidden * weights[..., None]
    mean = weighted.mean()
    return weighted * (hidden.mean() / mean) if emphasis == "original" and mean != 0 else weighted
