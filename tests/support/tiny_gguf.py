"""Writes a complete little llama model with random weights as a GGUF file (version 3): tests need no download."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_ALIGNMENT = 32
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6

CONTROL_TOKENS = ("<|im_start|>", "<|im_end|>")
_WORDS = (
    "the a and was to he she they it in day big red ball dog cat girl boy park user assistant system hello world "
    "once upon time there little named play said mom happy sad tree sun"
)


def tiny_gguf(path: Path, *, template: str | None = None, context: int = 512, seed: int = 1, width: int = 32) -> Path:
    """Write a two-layer model to `path` and return it; equal arguments give equal bytes."""
    vocabulary = _vocabulary()
    values: dict[str, tuple[int, Any]] = {
        "general.architecture": (_STRING, "llama"),
        "general.name": (_STRING, "tiny"),
        "llama.context_length": (_U32, context),
        "llama.embedding_length": (_U32, width),
        "llama.block_count": (_U32, 2),
        "llama.feed_forward_length": (_U32, 2 * width),
        "llama.attention.head_count": (_U32, 4),
        "llama.attention.head_count_kv": (_U32, 2),
        "llama.attention.layer_norm_rms_epsilon": (_F32, 1e-5),
        "llama.rope.dimension_count": (_U32, width // 4),
        "llama.vocab_size": (_U32, len(vocabulary)),
        "tokenizer.ggml.model": (_STRING, "llama"),
        "tokenizer.ggml.tokens": (_ARRAY, (_STRING, [text for text, _, _ in vocabulary])),
        "tokenizer.ggml.scores": (_ARRAY, (_F32, [score for _, score, _ in vocabulary])),
        "tokenizer.ggml.token_type": (_ARRAY, (_I32, [kind for _, _, kind in vocabulary])),
        "tokenizer.ggml.bos_token_id": (_U32, 1),
        "tokenizer.ggml.eos_token_id": (_U32, 2),
        "tokenizer.ggml.add_bos_token": (_BOOL, True),
    }
    if template is not None:
        values["tokenizer.chat_template"] = (_STRING, template)
    path.write_bytes(_file(values, _tensors(len(vocabulary), width, seed)))
    return path


def _vocabulary() -> list[tuple[str, float, int]]:
    """Return text, score and kind of each token, as SentencePiece models have them."""
    tokens = [("<unk>", 0.0, _UNKNOWN), ("<s>", 0.0, _CONTROL), ("</s>", 0.0, _CONTROL)]
    tokens += [(f"<0x{byte:02X}>", 0.0, _BYTE) for byte in range(256)]
    tokens += [(text, 0.0, _CONTROL) for text in CONTROL_TOKENS]
    pieces = [chr(code) for code in range(33, 127)] + ["\u2581", "é", "ü", "猫", "🙂"]
    for word in _WORDS.split():
        # SentencePiece merges pair by pair, so every beginning of a word must be a piece as well.
        pieces += ["\u2581" + word[:size] for size in range(1, len(word) + 1)]
    tokens += [(piece, -float(rank), _NORMAL) for rank, piece in enumerate(dict.fromkeys(pieces))]
    return tokens


def _tensors(vocabulary: int, width: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (random.standard_normal((rows, columns)) * 2 / np.sqrt(columns)).astype(np.float32)

    ones = np.ones(width, np.float32)
    tensors = {"token_embd.weight": matrix(vocabulary, width) * 4}
    for layer in range(2):
        block = f"blk.{layer}."
        tensors |= {
            block + "attn_norm.weight": ones,
            block + "attn_q.weight": matrix(width, width),
            block + "attn_k.weight": matrix(width // 2, width),
            block + "attn_v.weight": matrix(width // 2, width),
            block + "attn_output.weight": matrix(width, width),
            block + "ffn_norm.weight": ones,
            block + "ffn_gate.weight": matrix(2 * width, width),
            block + "ffn_up.weight": matrix(2 * width, width),
            block + "ffn_down.weight": matrix(width, 2 * width),
        }
    return tensors | {"output_norm.weight": ones, "output.weight": matrix(vocabulary, width)}


def _file(values: dict[str, tuple[int, Any]], tensors: dict[str, np.ndarray]) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    for key, (kind, value) in values.items():
        head += _string(key) + struct.pack("<I", kind) + _value(kind, value)
    data = b""
    for name, tensor in tensors.items():
        head += _string(name) + struct.pack("<I", tensor.ndim)
        head += struct.pack(f"<{tensor.ndim}Q", *reversed(tensor.shape)) + struct.pack("<IQ", 0, len(data))
        data += _padded(tensor.tobytes())
    return _padded(head) + data


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _string(value)
    if kind == _ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(_value(inner, item) for item in items)
    return struct.pack({_U32: "<I", _I32: "<i", _F32: "<f", _BOOL: "<?"}[kind], value)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _padded(raw: bytes) -> bytes:
    return raw + b"\0" * (-len(raw) % _ALIGNMENT)
