"""Writes a GGUF of 0.5B size (Q4_0) with random weights: right in every shape, nonsense in every word.

Format: the GGUF specification, version 3 (ggml-org/ggml, docs/gguf.md); Q4_0 is a float16 scale and 16 bytes of
nibbles for each block of 32 weights.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

ALIGNMENT = 32
UINT32, FLOAT32, STRING, ARRAY, INT32 = 4, 6, 8, 9, 5
F32, Q4_0 = 0, 2
BLOCK, BLOCK_BYTES = 32, 18
SCALE = 0.004  # nibbles are -8 ... 7, so weights come out with a deviation of about 0.02
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


@dataclass(frozen=True)
class Shape:
    """Dimensions of a llama-architecture model; the default has 0.49 billion weights (Qwen2-0.5B's dimensions)."""

    layers: int = 24
    width: int = 896
    feed_forward: int = 4864
    heads: int = 14
    kv_heads: int = 2
    vocabulary: int = 151_936
    context: int = 32_768


def write_model(file: Path, shape: Shape = Shape(), seed: int = 0) -> None:
    """Write the model; the same seed gives the same bytes."""
    tensors = list(_tensors(shape))
    with file.open("wb") as out:
        values = list(_values(shape))
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)))
        for key, kind, value in values:
            out.write(_string(key) + struct.pack("<I", kind))
            _write_value(out, kind, value)
        offset = 0
        for name, dimensions, kind in tensors:
            packed = struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)
            out.write(_string(name) + packed)
            offset += _padded(_size(dimensions, kind))
        out.write(bytes(-out.tell() % ALIGNMENT))
        source = np.random.default_rng(seed)
        for _, dimensions, kind in tensors:
            data = _random(source, dimensions, kind)
            out.write(data + bytes(_padded(len(data)) - len(data)))


def _values(shape: Shape) -> Iterator[tuple[str, int, Any]]:
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256]
    more = shape.vocabulary - len(words)
    yield "general.architecture", STRING, "llama"
    yield "general.name", STRING, "random weights for benchmarks"
    yield "general.file_type", UINT32, 2
    yield "llama.context_length", UINT32, shape.context
    yield "llama.embedding_length", UINT32, shape.width
    yield "llama.block_count", UINT32, shape.layers
    yield "llama.feed_forward_length", UINT32, shape.feed_forward
    yield "llama.attention.head_count", UINT32, shape.heads
    yield "llama.attention.head_count_kv", UINT32, shape.kv_heads
    yield "llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-6
    yield "llama.rope.dimension_count", UINT32, shape.width // shape.heads
    yield "tokenizer.ggml.model", STRING, "llama"
    yield "tokenizer.ggml.tokens", ARRAY, (STRING, words + [f"\u2581w{number}" for number in range(more)])
    yield "tokenizer.ggml.scores", ARRAY, (FLOAT32, [0.0] * len(words) + [-float(number) for number in range(more)])
    yield "tokenizer.ggml.token_type", ARRAY, (INT32, kinds + [NORMAL] * more)
    yield "tokenizer.ggml.bos_token_id", UINT32, 1
    yield "tokenizer.ggml.eos_token_id", UINT32, 2
    yield "tokenizer.ggml.unknown_token_id", UINT32, 0


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...], int]]:
    width, kv = shape.width, shape.width // shape.heads * shape.kv_heads
    yield "token_embd.weight", (width, shape.vocabulary), Q4_0
    yield "output_norm.weight", (width,), F32
    for layer in range(shape.layers):
        name = f"blk.{layer}."
        yield name + "attn_norm.weight", (width,), F32
        yield name + "attn_q.weight", (width, width), Q4_0
        yield name + "attn_k.weight", (width, kv), Q4_0
        yield name + "attn_v.weight", (width, kv), Q4_0
        yield name + "attn_output.weight", (width, width), Q4_0
        yield name + "ffn_norm.weight", (width,), F32
        yield name + "ffn_gate.weight", (width, shape.feed_forward), Q4_0
        yield name + "ffn_up.weight", (width, shape.feed_forward), Q4_0
        yield name + "ffn_down.weight", (shape.feed_forward, width), Q4_0


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _write_value(out: BinaryIO, kind: int, value: Any) -> None:
    if kind == ARRAY:
        inner, items = value
        out.write(struct.pack("<IQ", inner, len(items)))
        if inner == STRING:
            out.write(b"".join(map(_string, items)))
        else:
            out.write(np.asarray(items, "<f4" if inner == FLOAT32 else "<i4").tobytes())
    else:
        out.write(_string(value) if kind == STRING else struct.pack("<f" if kind == FLOAT32 else "<I", value))


def _size(dimensions: tuple[int, ...], kind: int) -> int:
    count = int(np.prod(dimensions))
    return count * 4 if kind == F32 else count // BLOCK * BLOCK_BYTES


def _padded(size: int) -> int:
    return size + -size % ALIGNMENT


def _random(source: np.random.Generator, dimensions: tuple[int, ...], kind: int) -> bytes:
    if kind == F32:
        return np.ones(dimensions, "<f4").tobytes()
    blocks = int(np.prod(dimensions)) // BLOCK
    data = np.empty((blocks, BLOCK_BYTES), np.uint8)
    data[:, :2] = np.frombuffer(np.float16(SCALE).tobytes(), np.uint8)
    data[:, 2:] = source.integers(0, 256, (blocks, BLOCK_BYTES - 2), np.uint8)
    return data.tobytes()
