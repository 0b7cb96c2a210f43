"""More little models with random weights: other architectures, other vocabularies, models that make vectors."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.support.gguf_writer import ARRAY, BOOL, F32, I32, STRING, U32, gguf
from tests.support.tiny_gguf import CONTROL, NORMAL, WORDS, llama_tensors, sentence_piece_values, sentence_pieces

Values = dict[str, tuple[int, Any]]
Tensors = dict[str, np.ndarray]

MEAN, CLS, LAST, RANK = 1, 2, 3, 4
FILL_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


def tiny_qwen2(path: Path, *, context: int = 512, seed: int = 1, width: int = 32, pooling: int | None = None) -> Path:
    """Write a model like Qwen2: byte-level BPE, biases on the attention, tokens for filling in the middle."""
    more: Values = {} if pooling is None else {"qwen2.pooling_type": (U32, pooling)}
    return _qwen(path, "qwen2", more, context=context, seed=seed, width=width)


def tiny_qwen2vl(
    path: Path, *, context: int = 512, seed: int = 1, width: int = 32, template: str | None = None
) -> Path:
    """Write a model like Qwen2-VL: as Qwen2, but its positions have rows and columns (M-RoPE)."""
    more: Values = {"qwen2vl.rope.dimension_sections": (ARRAY, (I32, [2, 1, 1, 0]))}
    if template is not None:
        more["tokenizer.chat_template"] = (STRING, template)
    return _qwen(path, "qwen2vl", more, context=context, seed=seed, width=width)


def _qwen(path: Path, architecture: str, more: Values, *, context: int, seed: int, width: int) -> Path:
    tokens, merges = _byte_pairs()
    kinds = [NORMAL] * len(tokens)
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *FILL_TOKENS)
    tokens, kinds = [*tokens, *special], [*kinds, *[CONTROL] * len(special)]
    values: Values = {
        **_figures(architecture, context, width),
        **more,
        "tokenizer.ggml.model": (STRING, "gpt2"),
        "tokenizer.ggml.pre": (STRING, "qwen2"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, tokens)),
        "tokenizer.ggml.token_type": (ARRAY, (I32, kinds)),
        "tokenizer.ggml.merges": (ARRAY, (STRING, merges)),
        "tokenizer.ggml.eos_token_id": (U32, tokens.index("<|im_end|>")),
        "tokenizer.ggml.bos_token_id": (U32, tokens.index("<|endoftext|>")),
        "tokenizer.ggml.add_bos_token": (BOOL, False),
        "tokenizer.ggml.fim_pre_token_id": (U32, tokens.index(FILL_TOKENS[0])),
        "tokenizer.ggml.fim_suf_token_id": (U32, tokens.index(FILL_TOKENS[1])),
        "tokenizer.ggml.fim_mid_token_id": (U32, tokens.index(FILL_TOKENS[2])),
    }
    tensors = llama_tensors(len(tokens), width, seed)
    random = np.random.default_rng(seed + 1)
    for layer in range(2):
        for part, size in (("q", width), ("k", width // 2), ("v", width // 2)):
            bias = (random.standard_normal(size) * 0.1).astype(np.float32)
            tensors[f"blk.{layer}.attn_{part}.bias"] = bias
    path.write_bytes(gguf(values, tensors))
    return path


def tiny_gemma(path: Path, *, context: int = 512, seed: int = 1, width: int = 32) -> Path:
    """Write a model like Gemma: SentencePiece, scaled embeddings that are the output's weights too, one KV head."""
    vocabulary = sentence_pieces()
    values: Values = {
        **_figures("gemma", context, width, kv_heads=1),
        "gemma.attention.key_length": (U32, width // 4),
        "gemma.attention.value_length": (U32, width // 4),
        **sentence_piece_values(vocabulary),
    }
    tensors = llama_tensors(len(vocabulary), width, seed)
    tensors["token_embd.weight"] /= 4
    del tensors["output.weight"]
    for layer in range(2):
        for part in ("k", "v"):
            name = f"blk.{layer}.attn_{part}.weight"
            tensors[name] = np.ascontiguousarray(tensors[name][: width // 4])
    path.write_bytes(gguf(values, tensors))
    return path


def tiny_bert(path: Path, *, pooling: int = MEAN, context: int = 128, seed: int = 1, width: int = 32) -> Path:
    """Write a model like BERT: WordPiece, attention both ways. With RANK it scores a text."""
    tokens = _word_pieces()
    values: Values = {
        **_figures("bert", context, width),
        "bert.attention.layer_norm_epsilon": (F32, 1e-5),
        "bert.attention.causal": (BOOL, False),
        "bert.pooling_type": (U32, pooling),
        "tokenizer.ggml.model": (STRING, "bert"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, tokens)),
        "tokenizer.ggml.token_type": (ARRAY, (I32, [CONTROL] * 4 + [NORMAL] * (len(tokens) - 4))),
        "tokenizer.ggml.token_type_count": (U32, 2),
        "tokenizer.ggml.padding_token_id": (U32, 0),
        "tokenizer.ggml.unknown_token_id": (U32, 1),
        "tokenizer.ggml.bos_token_id": (U32, 2),
        "tokenizer.ggml.cls_token_id": (U32, 2),
        "tokenizer.ggml.seperator_token_id": (U32, 3),
    }
    values["bert.attention.head_count_kv"] = (U32, 4)
    path.write_bytes(gguf(values, _bert_tensors(len(tokens), width, context, seed, ranks=pooling == RANK)))
    return path


def tiny_pooled_llama(path: Path, *, pooling: int = MEAN, context: int = 256, seed: int = 1, width: int = 32) -> Path:
    """Write a llama whose file asks for vectors."""
    vocabulary = sentence_pieces()
    values: Values = {
        **_figures("llama", context, width),
        "llama.pooling_type": (U32, pooling),
        **sentence_piece_values(vocabulary),
    }
    path.write_bytes(gguf(values, llama_tensors(len(vocabulary), width, seed)))
    return path


def _figures(architecture: str, context: int, width: int, kv_heads: int = 2) -> Values:
    figures: dict[str, tuple[int, Any]] = {
        "context_length": (U32, context),
        "embedding_length": (U32, width),
        "block_count": (U32, 2),
        "feed_forward_length": (U32, 2 * width),
        "attention.head_count": (U32, 4),
        "attention.head_count_kv": (U32, kv_heads),
        "attention.layer_norm_rms_epsilon": (F32, 1e-5),
    }
    named = {f"{architecture}.{key}": value for key, value in figures.items()}
    return {"general.architecture": (STRING, architecture), "general.name": (STRING, f"tiny {architecture}"), **named}


def _bert_tensors(vocabulary: int, width: int, context: int, seed: int, *, ranks: bool) -> Tensors:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (random.standard_normal((rows, columns)) * 2 / np.sqrt(columns)).astype(np.float32)

    def vector(size: int) -> np.ndarray:
        return (random.standard_normal(size) * 0.1).astype(np.float32)

    tensors: Tensors = {
        "token_embd.weight": matrix(vocabulary, width) * 4,
        "token_types.weight": matrix(2, width),
        "position_embd.weight": matrix(context, width),
        "token_embd_norm.weight": 1 + vector(width),
        "token_embd_norm.bias": vector(width),
    }
    for layer in range(2):
        block = f"blk.{layer}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}{part}.weight"] = matrix(width, width)
            tensors[f"{block}{part}.bias"] = vector(width)
        for norm in ("attn_output_norm", "layer_output_norm"):
            tensors[f"{block}{norm}.weight"] = 1 + vector(width)
            tensors[f"{block}{norm}.bias"] = vector(width)
        tensors[f"{block}ffn_up.weight"] = matrix(2 * width, width)
        tensors[f"{block}ffn_up.bias"] = vector(2 * width)
        tensors[f"{block}ffn_down.weight"] = matrix(width, 2 * width)
        tensors[f"{block}ffn_down.bias"] = vector(width)
    if ranks:
        tensors |= {"cls.weight": matrix(width, width), "cls.bias": vector(width)}
        tensors |= {"cls.output.weight": matrix(1, width), "cls.output.bias": vector(1)}
    return tensors


def _byte_pairs() -> tuple[list[str], list[str]]:
    """Return the tokens and the merges of a byte-level vocabulary that knows a few words, written as GPT-2 does."""
    letters = _byte_letters()
    tokens = [letters[byte] for byte in range(256)]
    merges = []
    for word in WORDS.split():
        for start in ("", " "):
            written = "".join(letters[byte] for byte in (start + word).encode())
            for size in range(1, len(written)):
                merges.append(f"{written[:size]} {written[size]}")
                tokens.append(written[: size + 1])
    return list(dict.fromkeys(tokens)), list(dict.fromkeys(merges))


def _byte_letters() -> dict[int, str]:
    """Return the letter for each byte: printable ones stand for themselves, the others for what follows U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + k) for k, byte in enumerate(others)}


def _word_pieces() -> list[str]:
    """Return tokens as llama.cpp keeps those of BERT: words begin with U+2581, pieces inside words do not."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1) if not chr(code).isupper()]
    words = ["\u2581" + word for word in WORDS.split()]
    inside = [*letters, "ing", "er", "ed"]
    return list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *("\u2581" + c for c in letters), *inside]))
