"""Writes the model as a GGUF file, matrices in Q8_0.

Format: the GGUF specification, version 3 (ggml-org/ggml, docs/gguf.md). Q8_0 is a float16 scale and 32 signed bytes for
each block of 32 weights.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor

from server.starter import CHAT
from training.chat.chatml import BEGIN, END, SPECIAL, TEMPLATE, TEXT_END
from training.chat.network import Shape
from training.chat.tokeniser import KIND

ALIGNMENT = 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TYPE_F32, TYPE_Q8_0, FILE_Q8_0 = 0, 8, 7
BLOCK = 32
NORMAL, CONTROL = 1, 3
ABOUT = (
    "A tiny demonstration that ships with Hearth and answers questions about it. Trained from scratch, no outside data."
)

Value = tuple[str, int, Any]


def write(file: Path, weights: dict[str, Tensor], tokenizer: Tokenizer, shape: Shape) -> None:
    """Write the file; equal arguments give equal bytes."""
    values = [*_about(shape), *_words(tokenizer)]
    tensors = [(_name(name), tensor.numpy().astype(np.float32)) for name, tensor in weights.items()]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    head += b"".join(_string(key) + struct.pack("<I", kind) + _value(kind, value) for key, kind, value in values)
    data = b""
    for name, tensor in tensors:
        kind, packed = (TYPE_F32, tensor.tobytes()) if tensor.ndim == 1 else (TYPE_Q8_0, quantised(tensor))
        head += (
            _string(name) + struct.pack("<I", tensor.ndim) + struct.pack(f"<{tensor.ndim}Q", *reversed(tensor.shape))
        )
        head += struct.pack("<IQ", kind, len(data))
        data += _padded(packed)
    file.write_bytes(_padded(head) + data)


def quantised(matrix: np.ndarray) -> bytes:
    """Return a matrix [n, m] in Q8_0, m a multiple of 32."""
    blocks = matrix.reshape(-1, BLOCK)
    scale = (np.abs(blocks).max(axis=1) / 127).astype(np.float16)
    divisor = np.where(scale == 0, 1, scale).astype(np.float32)
    whole = np.clip(np.rint(blocks / divisor[:, None]), -127, 127).astype(np.int8)
    return np.rec.fromarrays([scale, whole], dtype=[("scale", "<f2"), ("whole", "i1", BLOCK)]).tobytes()


def _about(shape: Shape) -> Iterator[Value]:
    yield "general.architecture", STRING, "llama"
    yield "general.name", STRING, CHAT
    yield "general.description", STRING, ABOUT
    yield "general.license", STRING, "mit"
    yield "general.file_type", U32, FILE_Q8_0
    yield "general.quantization_version", U32, 2
    yield "llama.context_length", U32, shape.context
    yield "llama.embedding_length", U32, shape.width
    yield "llama.block_count", U32, shape.blocks
    yield "llama.feed_forward_length", U32, shape.hidden
    yield "llama.attention.head_count", U32, shape.heads
    yield "llama.attention.head_count_kv", U32, shape.kv_heads
    yield "llama.attention.layer_norm_rms_epsilon", F32, shape.epsilon
    yield "llama.rope.dimension_count", U32, shape.head
    yield "llama.rope.freq_base", F32, shape.rope_base
    yield "llama.vocab_size", U32, shape.vocabulary


def _words(tokenizer: Tokenizer) -> Iterator[Value]:
    numbers = tokenizer.get_vocab()
    words = sorted(numbers, key=numbers.__getitem__)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    yield "tokenizer.ggml.model", STRING, "gpt2"
    yield "tokenizer.ggml.pre", STRING, KIND
    yield "tokenizer.ggml.tokens", ARRAY, (STRING, words)
    yield "tokenizer.ggml.token_type", ARRAY, (I32, [CONTROL if word in SPECIAL else NORMAL for word in words])
    yield (
        "tokenizer.ggml.merges",
        ARRAY,
        (STRING, [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]),
    )
    yield "tokenizer.ggml.bos_token_id", U32, numbers[BEGIN]
    yield "tokenizer.ggml.eos_token_id", U32, numbers[END]
    yield "tokenizer.ggml.padding_token_id", U32, numbers[TEXT_END]
    yield "tokenizer.ggml.add_bos_token", BOOL, False
    yield "tokenizer.chat_template", STRING, TEMPLATE


def _name(name: str) -> str:
    return name if name.endswith(".weight") else f"{name}.weight"


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _string(value)
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(_value(inner, item) for item in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % ALIGNMENT)
