"""Writes a complete little llama model with random weights as a GGUF file (version 3): tests need no download."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.gguf_writer import ARRAY, BOOL, F32, I32, STRING, U32, gguf

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6

CONTROL_TOKENS = ("<|im_start|>", "<|im_end|>")
WORDS = (
    "the a and was to he she they it in day big red ball dog cat girl boy park user assistant system hello world "
    "once upon time there little named play said mom happy sad tree sun"
)


def tiny_gguf(
    path: Path,
    *,
    template: str | None = None,
    context: int = 512,
    seed: int = 1,
    width: int = 32,
    added: Mapping[str, np.ndarray] | None = None,
    control: Sequence[str] = (),
) -> Path:
    """Write a two-layer model to `path` and return it; equal arguments give equal bytes.

    `added` is added to the weights of these names. `control` are further control tokens, at the vocabulary's end.
    """
    vocabulary = sentence_pieces() + [(text, 0.0, CONTROL) for text in control]
    values: dict[str, tuple[int, Any]] = {
        "general.architecture": (STRING, "llama"),
        "general.name": (STRING, "tiny"),
        "llama.context_length": (U32, context),
        "llama.embedding_length": (U32, width),
        "llama.block_count": (U32, 2),
        "llama.feed_forward_length": (U32, 2 * width),
        "llama.attention.head_count": (U32, 4),
        "llama.attention.head_count_kv": (U32, 2),
        "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "llama.rope.dimension_count": (U32, width // 4),
        "llama.vocab_size": (U32, len(vocabulary)),
        **sentence_piece_values(vocabulary),
    }
    if template is not None:
        values["tokenizer.chat_template"] = (STRING, template)
    tensors = llama_tensors(len(vocabulary), width, seed)
    tensors |= {name: tensors[name] + more for name, more in (added or {}).items()}
    path.write_bytes(gguf(values, tensors))
    return path


def sentence_piece_values(vocabulary: list[tuple[str, float, int]]) -> dict[str, tuple[int, Any]]:
    """Return what a header says of such a vocabulary."""
    return {
        "tokenizer.ggml.model": (STRING, "llama"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, [text for text, _, _ in vocabulary])),
        "tokenizer.ggml.scores": (ARRAY, (F32, [score for _, score, _ in vocabulary])),
        "tokenizer.ggml.token_type": (ARRAY, (I32, [kind for _, _, kind in vocabulary])),
        "tokenizer.ggml.bos_token_id": (U32, 1),
        "tokenizer.ggml.eos_token_id": (U32, 2),
        "tokenizer.ggml.add_bos_token": (BOOL, True),
    }


def sentence_pieces() -> list[tuple[str, float, int]]:
    """Return text, score and kind of each token, as SentencePiece models have them."""
    tokens = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    tokens += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    tokens += [(text, 0.0, CONTROL) for text in CONTROL_TOKENS]
    pieces = [chr(code) for code in range(33, 127)] + ["\u2581", "é", "ü", "猫", "🙂"]
    for word in WORDS.split():
        # SentencePiece merges pair by pair, so every beginning of a word must be a piece as well.
        pieces += ["\u2581" + word[:size] for size in range(1, len(word) + 1)]
    tokens += [(piece, -float(rank), NORMAL) for rank, piece in enumerate(dict.fromkeys(pieces))]
    return tokens


def llama_tensors(vocabulary: int, width: int, seed: int) -> dict[str, np.ndarray]:
    """Return the random weights of a two-layer llama, by name."""
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
