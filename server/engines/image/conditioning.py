"""A prompt tree to what the UNet is conditioned on, model call by model call (a1111-api.md 2.10, levels 1, 2 and 5).

All texts of a part's schedule are encoded together, for they share one emphasis factor. Parts and texts of different
length are brought to one length when they meet: texts of a schedule by empty chunks, parts of a composition by
repeating their last vector. Prompt and negative prompt may stay of different length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from server.core.image import TextEncoding
from server.core.prompt import PromptPart, PromptTree
from server.engines.image.chunks import FindEmbedding, empty, pack
from server.engines.image.text_encoding import TextEncoder


@dataclass(frozen=True)
class Scheduled:
    """One encoded text [tokens, width] and the last model call it is for."""

    until: int
    encoded: torch.Tensor


@dataclass(frozen=True)
class Part:
    """One encoded member of a composition."""

    texts: tuple[Scheduled, ...]
    weight: float

    def at(self, call: int) -> torch.Tensor:
        """Return the text [tokens, width] for model call `call` (from 0).

        That is the first that reaches to the call; beyond the end of the schedule it is the first text again.
        """
        return next((text.encoded for text in self.texts if call <= text.until), self.texts[0].encoded)


@dataclass(frozen=True, kw_only=True)
class CallConditioning:
    """What one model call uses: parts [parts, tokens, width], their weights, the negative prompt [tokens, width]."""

    parts: torch.Tensor
    weights: tuple[float, ...]
    negative: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """An encoded prompt with its negative prompt, the same for all pictures of a job.

    `filler` [77, width] is the empty prompt, for guidance to append to the shorter of the two; None = leave them so.
    """

    parts: tuple[Part, ...]
    negative: Part
    filler: torch.Tensor | None = None

    def at(self, call: int) -> CallConditioning:
        """Return the conditioning of model call `call`, counted from 0."""
        texts = [part.at(call) for part in self.parts]
        longest = max(text.shape[0] for text in texts)
        parts = torch.stack([_repeat_last(text, longest) for text in texts])
        negative = self.negative.at(call)
        return CallConditioning(parts=parts, weights=tuple(part.weight for part in self.parts), negative=negative)


def encode(
    prompt: PromptTree, negative: PromptTree, encoder: TextEncoder, settings: TextEncoding, find: FindEmbedding
) -> Conditioning:
    """Encode a prompt and its negative prompt; of the negative one only the first part counts."""

    def part(each: PromptPart) -> Part:
        return _encode_part(each, encoder, settings, find)

    filler = None
    if settings.pad_uncond:
        filler = encoder.encode([(empty(encoder.tokenizer),)], settings)[0]
    return Conditioning(
        parts=tuple(part(each) for each in prompt.parts), negative=part(negative.parts[0]), filler=filler
    )


def _encode_part(part: PromptPart, encoder: TextEncoder, settings: TextEncoding, find: FindEmbedding) -> Part:
    packed = [
        pack(text.pieces, encoder.tokenizer, comma_backtrack=settings.comma_backtrack, find=find) for text in part.texts
    ]
    encoded = encoder.encode(packed, settings)
    texts: Sequence[tuple[int, torch.Tensor]] = list(zip([text.until for text in part.texts], encoded, strict=True))
    return Part(texts=tuple(Scheduled(until, tensor) for until, tensor in texts), weight=part.weight)


def _repeat_last(text: torch.Tensor, length: int) -> torch.Tensor:
    missing = length - text.shape[0]
    return text if missing == 0 else torch.cat([text, text[-1:].expand(missing, -1)])
