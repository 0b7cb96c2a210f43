"""A prompt tree to what the UNet is conditioned on, model call by model call.

All texts of a part's schedule are encoded together, for they share one emphasis factor. Parts and texts of different
length are brought to one length when they meet: texts of a schedule by empty chunks, parts of a composition by
repeating their last vector. Prompt and negative prompt may stay of different length.

SDXL models get a vector besides: the pooled text, then the size of the picture and more numbers. Their negative prompt
is all zeros when it is empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from server.core.image import Size, TextEncoding
from server.core.prompt import Break, PromptPart, PromptTree
from server.engines.image.chunks import FindEmbedding, empty, pack
from server.engines.image.text_encoding import Encoded
from server.engines.image.text_stack import TextStack


@dataclass(frozen=True)
class Scheduled:
    """One encoded text [tokens, width], its vector [n] if the model takes one, and the last model call it is for."""

    until: int
    encoded: torch.Tensor
    vector: torch.Tensor | None = None


@dataclass(frozen=True)
class Part:
    """One encoded member of a composition."""

    texts: tuple[Scheduled, ...]
    weight: float

    def at(self, call: int) -> Scheduled:
        """Return the text for model call `call` (from 0).

        That is the first that reaches to the call; beyond the end of the schedule it is the first text again.
        """
        return next((text for text in self.texts if call <= text.until), self.texts[0])


@dataclass(frozen=True, kw_only=True)
class CallConditioning:
    """What one model call uses: parts [parts, tokens, width], their weights, the negative prompt [tokens, width].

    `vectors` [parts, n] and `negative_vector` [n] are there for models that take them.
    """

    parts: torch.Tensor
    weights: tuple[float, ...]
    negative: torch.Tensor
    vectors: torch.Tensor | None = None
    negative_vector: torch.Tensor | None = None


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
        longest = max(text.encoded.shape[0] for text in texts)
        parts = torch.stack([_repeat_last(text.encoded, longest) for text in texts])
        negative = self.negative.at(call)
        vectors = [text.vector for text in texts if text.vector is not None]
        return CallConditioning(
            parts=parts,
            weights=tuple(part.weight for part in self.parts),
            negative=negative.encoded,
            vectors=torch.stack(vectors) if vectors else None,
            negative_vector=negative.vector,
        )


@dataclass(frozen=True, kw_only=True)
class TextPass:
    """How texts of one pass are encoded: by what, with which settings and embeddings, for pictures of which size."""

    stack: TextStack
    settings: TextEncoding
    find: FindEmbedding
    size: Size


def encode(prompt: PromptTree, negative: PromptTree, asked: TextPass) -> Conditioning:
    """Encode a prompt and its negative prompt; of the negative one only the first part counts."""
    filler = None
    if asked.settings.pad_uncond:
        filler = asked.stack.encode([(empty(asked.stack.tokenizer),)], asked.settings)[0].tokens
    return Conditioning(
        parts=tuple(_encode_part(each, asked, is_negative=False) for each in prompt.parts),
        negative=_encode_part(negative.parts[0], asked, is_negative=True),
        filler=filler,
    )


def _encode_part(part: PromptPart, asked: TextPass, *, is_negative: bool) -> Part:
    stack, settings = asked.stack, asked.settings
    packed = [
        pack(text.pieces, stack.tokenizer, comma_backtrack=settings.comma_backtrack, find=asked.find)
        for text in part.texts
    ]
    encoded = stack.encode(packed, settings)
    if is_negative and stack.family.zero_negative and _is_empty(part):
        encoded = [_zeros(each) for each in encoded]
    numbers = _sizes(asked, is_negative=is_negative)
    texts: Sequence[tuple[int, Encoded]] = list(zip([text.until for text in part.texts], encoded, strict=True))
    return Part(
        texts=tuple(Scheduled(until, each.tokens, _vector(each, numbers)) for until, each in texts), weight=part.weight
    )


def _is_empty(part: PromptPart) -> bool:
    """Tell whether no text of a schedule has a single character."""
    return not any(isinstance(piece, Break) or piece.text for text in part.texts for piece in text.pieces)


def _zeros(encoded: Encoded) -> Encoded:
    return Encoded(
        torch.zeros_like(encoded.tokens), None if encoded.pooled is None else torch.zeros_like(encoded.pooled)
    )


def _sizes(asked: TextPass, *, is_negative: bool) -> tuple[float, ...]:
    """Return the numbers that follow the pooled text: original size, crop, then the target size or the score."""
    size, settings = asked.size, asked.settings
    first = (size.height, size.width, settings.crop_top, settings.crop_left)
    match asked.stack.family.sizes:
        case "none":
            return ()
        case "target":
            return (*first, size.height, size.width)
        case "aesthetic":
            return (*first, settings.negative_aesthetic if is_negative else settings.aesthetic)


def _vector(encoded: Encoded, numbers: tuple[float, ...]) -> torch.Tensor | None:
    if encoded.pooled is None or not numbers:
        return None
    return torch.cat([encoded.pooled, torch.tensor(numbers, dtype=torch.float32, device=encoded.pooled.device)])


def _repeat_last(text: torch.Tensor, length: int) -> torch.Tensor:
    missing = length - text.shape[0]
    return text if missing == 0 else torch.cat([text, text[-1:].expand(missing, -1)])
