"""Textual inversions: vectors that stand for a name in prompts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from server.core.errors import LoadFailed
from server.core.image import EmbeddingRef
from server.engines.image.chunks import ROOM, Found
from server.engines.image.clip.tokenizer import ClipTokenizer
from server.engines.image.picture_embeddings import is_picture, read_picture
from server.engines.image.tensor_files import flat, is_pickle, load_pickle, open_tensors

BOTH_ENCODERS = ("clip_l", "clip_g")
"""Names of the vectors for SDXL's two text encoders, in their order."""


@dataclass(frozen=True)
class Embedding:
    """The token ids of a name, and the vectors it stands for: [count, width] for each text encoder of the model."""

    name: str
    ids: tuple[int, ...]
    parts: tuple[torch.Tensor, ...]

    @property
    def count(self) -> int:
        """Return how many tokens the vectors take the place of."""
        return self.parts[0].shape[0]


class EmbeddingIndex:
    """Finds embeddings by the tokens of their names, longest name first."""

    def __init__(self, embeddings: Iterable[Embedding]) -> None:
        self._by_first: dict[int, list[Embedding]] = {}
        for each in sorted(embeddings, key=lambda each: len(each.ids), reverse=True):
            self._by_first.setdefault(each.ids[0], []).append(each)

    def find(self, tokens: Sequence[int], position: int) -> Found | None:
        """Return the embedding whose name's tokens stand at `position`."""
        for each in self._by_first.get(tokens[position], ()):
            if tuple(tokens[position : position + len(each.ids)]) == each.ids:
                return Found(each.name, len(each.ids), each.count)
        return None


class EmbeddingShelf:
    """Keeps the embeddings that jobs named, so that a file is read once as long as it does not change.

    `widths` are the channels of a token in each text encoder of the model.
    """

    def __init__(self, tokenizer: ClipTokenizer, widths: tuple[int, ...], *, allow_pickle: bool) -> None:
        self._tokenizer = tokenizer
        self._widths = widths
        self._allow_pickle = allow_pickle
        self._kept: dict[str, tuple[float, Embedding | str]] = {}

    def take(self, refs: Iterable[EmbeddingRef], mentioned: str) -> tuple[list[Embedding], list[str]]:
        """Return the embeddings whose names occur in the text `mentioned`, and notes on those that cannot be used."""
        found, notes = [], []
        text = mentioned.lower()
        for ref in refs:
            if ref.name.lower() not in text:
                continue
            embedding = self._get(ref)
            if isinstance(embedding, str):
                notes.append(f"embedding {ref.name!r} was left out: {embedding}")
            else:
                found.append(embedding)
        return found, notes

    def _get(self, ref: EmbeddingRef) -> Embedding | str:
        path = Path(ref.path)
        try:
            changed = path.stat().st_mtime
        except OSError:
            return "its file is gone"
        kept = self._kept.get(ref.path)
        if kept is None or kept[0] != changed:
            kept = (changed, self._read(ref, path))
            self._kept[ref.path] = kept
        return kept[1]

    def _read(self, ref: EmbeddingRef, path: Path) -> Embedding | str:
        ids = tuple(self._tokenizer.ids(ref.name))
        if not ids:
            return "its name has no tokens"
        try:
            parts = read_vectors(path, allow_pickle=self._allow_pickle)
        except LoadFailed as error:
            return error.message
        widths = tuple(part.shape[1] for part in parts)
        if widths != self._widths:
            return f"its vectors have {_sum(widths)} values, the model's have {_sum(self._widths)}"
        if parts[0].shape[0] > ROOM:
            return f"it has {parts[0].shape[0]} vectors, a chunk holds {ROOM}"
        return Embedding(ref.name, ids, parts)


def read_vectors(path: Path, *, allow_pickle: bool) -> tuple[torch.Tensor, ...]:
    """Return the vectors [count, width] float32 of an embedding file: one tensor, or for SDXL one an encoder.

    Raises:
        LoadFailed: the file holds something else, cannot be read, or is a pickle while those are not allowed.
    """
    if is_picture(path):
        tensors = read_picture(path)
    elif is_pickle(path):
        tensors = _pickled(load_pickle(path, allow_pickle=allow_pickle))
    else:
        with open_tensors(path, allow_pickle=allow_pickle) as opened:
            tensors = {name: opened.get(name) for name in opened.shapes}
    both = all(name in tensors for name in BOTH_ENCODERS)
    found = [tensors[name] for name in BOTH_ENCODERS] if both else list(tensors.values())
    if len(found) != (2 if both else 1) or any(each.ndim not in (1, 2) or not each.numel() for each in found):
        raise LoadFailed(f"{path.name} holds no single list of vectors")
    parts = tuple(torch.atleast_2d(each.detach()).to(torch.float32) for each in found)
    if len({part.shape[0] for part in parts}) != 1:
        raise LoadFailed(f"{path.name} has another number of vectors for each text encoder")
    return parts


def _pickled(tree: dict[str, Any]) -> dict[str, torch.Tensor]:
    inner = tree.get("string_to_param")
    if isinstance(inner, dict):
        return {str(name): value for name, value in inner.items() if isinstance(value, torch.Tensor)}
    return flat(tree)


def _sum(widths: tuple[int, ...]) -> str:
    return " + ".join(map(str, widths))
