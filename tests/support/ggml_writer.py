"""Writes llama checkpoints as the programs of March to August 2023 did, with weights quantised in every layout of then.

Written from the layouts' descriptions alone, in float64, so that it can be a reference: `Written.values` are the
weights that the file says.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tests.support.tiny_gguf import BYTE, CONTROL_TOKENS, UNKNOWN, sentence_pieces

F32, F16, Q4_0, Q4_1, Q4_2, Q4_3, Q5_0, Q5_1, Q8_0 = range(9)
MAGICS = {"ggml": b"lmgg", "ggmf": b"fmgg", "ggjt": b"tjgg"}
FILE_TYPES = {F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q4_2: 5, Q4_3: 6, Q5_0: 8, Q5_1: 9, Q8_0: 7}
BLOCKS = {Q4_2: 16, Q4_3: 16}
SPACE = "\u2581"

NAMES = {
    "token_embd.weight": "tok_embeddings.weight",
    "output_norm.weight": "norm.weight",
    "output.weight": "output.weight",
    "attn_norm.weight": "attention_norm.weight",
    "attn_q.weight": "attention.wq.weight",
    "attn_k.weight": "attention.wk.weight",
    "attn_v.weight": "attention.wv.weight",
    "attn_output.weight": "attention.wo.weight",
    "ffn_norm.weight": "ffn_norm.weight",
    "ffn_gate.weight": "feed_forward.w1.weight",
    "ffn_down.weight": "feed_forward.w2.weight",
    "ffn_up.weight": "feed_forward.w3.weight",
}
BY_COLUMNS = ("tok_embeddings.weight", "attention.wo.weight", "feed_forward.w2.weight")

Floats = npt.NDArray[np.float64]
Tensors = Mapping[str, npt.NDArray[np.float32]]
Entry = tuple[bytes, float]


class Era(NamedTuple):
    """A container, its version, and whether blocks lie apart in each row as in the first days."""

    container: str
    version: int = 0
    by_rows: bool = False


GGML, ROWS, GGMF = Era("ggml"), Era("ggml", by_rows=True), Era("ggmf", 1)
GGJT1, GGJT2, GGJT3 = Era("ggjt", 1), Era("ggjt", 2), Era("ggjt", 3)


class Written(NamedTuple):
    """The main file, and what its weights are, by their names in GGUF."""

    path: Path
    values: dict[str, Floats]


def quantised(weights: Floats, code: int, era: Era) -> tuple[list[bytes], Floats]:
    """Return rows [n, columns] as the bytes of each row in this layout, and the weights that they stand for."""
    rows, columns = weights.shape
    if code in (F32, F16):
        kept = weights.astype("<f4" if code == F32 else "<f2")
        return [row.tobytes() for row in kept], kept.astype(np.float64)
    blocks = weights.reshape(rows, -1, BLOCKS.get(code, 32))
    scales, minima, quants, offset = _fitted(blocks, code, era)
    values = (quants - offset) * scales[..., None] + (0 if minima is None else minima[..., None])
    return [_row(scales, minima, quants, code, era, index) for index in range(rows)], values.reshape(rows, columns)


def _fitted(blocks: Floats, code: int, era: Era) -> tuple[Floats, Floats | None, npt.NDArray[np.int64], int]:
    """Return scale, minimum and quants of each block, the first two rounded as the file keeps them, and the zero."""
    precision = "<f2" if code in (Q4_2, Q4_3, Q5_0, Q5_1) or era.version == 3 else "<f4"
    levels = {Q5_0: 32, Q5_1: 32, Q8_0: 255}.get(code, 16)
    if code in (Q4_1, Q4_3, Q5_1):
        minima = blocks.min(axis=-1).astype(precision).astype(np.float64)
        scales = ((blocks.max(axis=-1) - minima) / (levels - 1)).astype(precision).astype(np.float64)
        zero = 0
    else:
        minima = None
        zero = 0 if code == Q8_0 else levels // 2
        most = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1)[..., None], axis=-1)[..., 0]
        steps = 127 if code == Q8_0 else -zero
        scales = (most / steps).astype(precision).astype(np.float64)
    shifted = blocks - (0 if minima is None else minima[..., None])
    wanted = np.divide(shifted, scales[..., None], out=np.zeros_like(blocks), where=scales[..., None] != 0)
    low, high = (-127, 127) if code == Q8_0 else (0, levels - 1)
    return scales, minima, np.clip(np.rint(wanted) + zero, low, high).astype(np.int64), zero


def _row(
    scales: Floats, minima: Floats | None, quants: npt.NDArray[np.int64], code: int, era: Era, index: int
) -> bytes:
    count = quants.shape[1]
    numbers = [scales[index], *([] if minima is None else [minima[index]])]
    if era.by_rows:
        apart = b"".join(field.astype("<f4").tobytes() for field in reversed(numbers))
        return apart + b"".join(_quants(quants[index, block], code, era) for block in range(count))
    form = "<f2" if code in (Q4_2, Q4_3, Q5_0, Q5_1) or era.version == 3 else "<f4"
    made = b""
    for block in range(count):
        made += b"".join(field[block].astype(form).tobytes() for field in numbers)
        made += _quants(quants[index, block], code, era)
    return made


def _quants(quants: npt.NDArray[np.int64], code: int, era: Era) -> bytes:
    if code == Q8_0:
        return quants.astype(np.int8).tobytes()
    fifth = b""
    if code in (Q5_0, Q5_1):
        fifth = struct.pack("<I", sum(int(quant >> 4) << place for place, quant in enumerate(quants)))
    low = quants & 15
    half = len(low) // 2
    pairs = zip(low[:half], low[half:], strict=True) if era.version >= 2 else zip(low[::2], low[1::2], strict=True)
    return fifth + bytes(int(first) | int(second) << 4 for first, second in pairs)


def entries(words: Sequence[tuple[str, float, int]] | None = None) -> list[Entry]:
    """Return a vocabulary as old files have it: decoded texts."""
    known = [piece for piece in sentence_pieces() if piece[0] not in CONTROL_TOKENS] if words is None else list(words)
    made: list[Entry] = []
    for text, score, kind in known:
        if kind == BYTE:
            made.append((bytes([int(text[3:5], 16)]), score))
        elif kind == UNKNOWN:
            made.append((" \u2047 ".encode(), score))
        else:
            made.append((b"" if text in ("<s>", "</s>") else text.replace(SPACE, " ").encode(), score))
    return made


def old_name(name: str) -> str:
    """Return what a tensor with this name in GGUF was called."""
    if not name.startswith("blk."):
        return NAMES[name]
    _, layer, inner = name.split(".", 2)
    return f"layers.{layer}.{NAMES[inner]}"


def write_ggml(
    path: Path,
    tensors: Tensors,
    vocabulary: Sequence[Entry],
    *,
    heads: int,
    era: Era = GGJT3,
    code: int = Q4_0,
    parts: int = 1,
    promised: int = 0,
    mixed: Mapping[str, int] | None = None,
) -> Written:
    """Write a model given by names and weights in GGUF's order to `path` (and `path.1` ...).

    `mixed` are types of single tensors, `promised` is the length of the vocabulary in the header, 0 = the true one.
    """
    width = tensors["token_embd.weight"].shape[1]
    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blk."))
    count = promised or len(vocabulary)
    hyper = (count, width, 32, heads, layers, width // heads, FILE_TYPES[code])
    head = MAGICS[era.container] + (struct.pack("<I", era.version) if era.version else b"") + struct.pack("<7i", *hyper)
    for text, score in vocabulary:
        head += struct.pack("<I", len(text)) + text + (struct.pack("<f", score) if era.version else b"")
    files = [bytearray(head) for _ in range(parts)]
    values: dict[str, Floats] = {}
    for name, tensor in tensors.items():
        kind = F32 if tensor.ndim == 1 else (mixed or {}).get(name, code)
        values[name] = _append(files, old_name(name), tensor.astype(np.float64), kind, era)
    for number, data in enumerate(files):
        path.with_name(f"{path.name}.{number}" if number else path.name).write_bytes(data)
    return Written(path, values)


def _append(files: Sequence[bytearray], name: str, tensor: Floats, code: int, era: Era) -> Floats:
    flat = tensor.ndim == 1
    matrix = tensor[None] if flat else tensor
    axis = 1 if name.endswith(BY_COLUMNS) else 0
    shares = [matrix] * len(files) if flat else np.split(matrix, len(files), axis=axis)
    values = []
    for data, share in zip(files, shares, strict=True):
        rows, kept = quantised(share, code, era)
        sides = [share.shape[1]] if flat else [share.shape[1], share.shape[0]]
        data += struct.pack("<3i", len(sides), len(name), code) + struct.pack(f"<{len(sides)}i", *sides) + name.encode()
        if era.container == "ggjt":
            data += bytes(-len(data) % 32)
        data += b"".join(rows)
        values.append(kept)
    return values[0][0] if flat else np.concatenate(values, axis=axis)


def tiny_weights(
    vocabulary: int, *, width: int = 64, layers: int = 2, heads: int = 4, kv_heads: int = 4, seed: int = 1
) -> dict[str, npt.NDArray[np.float32]]:
    """Return random weights of a llama with names and order of GGUF."""
    random = np.random.default_rng(seed)
    kv_rows = width // heads * kv_heads

    def matrix(rows: int, columns: int) -> npt.NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) * 2 / np.sqrt(columns)).astype(np.float32)

    def norm() -> npt.NDArray[np.float32]:
        return (1 + 0.1 * random.standard_normal(width)).astype(np.float32)

    tensors = {"token_embd.weight": matrix(vocabulary, width) * 4}
    for layer in range(layers):
        block = f"blk.{layer}."
        tensors |= {
            block + "attn_norm.weight": norm(),
            block + "attn_q.weight": matrix(width, width),
            block + "attn_k.weight": matrix(kv_rows, width),
            block + "attn_v.weight": matrix(kv_rows, width),
            block + "attn_output.weight": matrix(width, width),
            block + "ffn_norm.weight": norm(),
            block + "ffn_gate.weight": matrix(2 * width, width),
            block + "ffn_up.weight": matrix(2 * width, width),
            block + "ffn_down.weight": matrix(width, 2 * width),
        }
    return tensors | {"output_norm.weight": norm(), "output.weight": matrix(vocabulary, width)}


def tiny_ggml(path: Path, *, era: Era = GGJT3, code: int = Q4_0, seed: int = 1, width: int = 64) -> Written:
    """Write a whole little model with random weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    vocabulary = entries()
    weights = tiny_weights(len(vocabulary), seed=seed, width=width)
    return write_ggml(path, weights, vocabulary, heads=4, era=era, code=code)
