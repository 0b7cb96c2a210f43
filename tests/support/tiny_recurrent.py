"""Little models with random weights whose memory is no plain cache: states, states beside caches, sliding windows."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.support.gguf_writer import ARRAY, F32, I32, STRING, U32, gguf
from tests.support.tiny_gguf import sentence_piece_values, sentence_pieces

WINDOW = 16
"""How many tokens the windowed layers of `tiny_gemma3` look back."""

Tensors = dict[str, np.ndarray]


def tiny_mamba(path: Path, *, context: int = 512, seed: int = 1, width: int = 32) -> Path:
    """Write a model like Mamba: nothing but states, which say nothing of earlier tokens."""
    inner, state, rank = 2 * width, 8, 4
    maker = _Maker(seed)
    tensors = maker.ends(width)
    for block in ("blk.0.", "blk.1."):
        tensors |= {
            block + "attn_norm.weight": np.ones(width, np.float32),
            block + "ssm_in.weight": maker.matrix(2 * inner, width),
            block + "ssm_conv1d.weight": maker.matrix(inner, 4),
            block + "ssm_conv1d.bias": np.zeros(inner, np.float32),
            block + "ssm_x.weight": maker.matrix(rank + 2 * state, inner),
            block + "ssm_dt.weight": maker.matrix(inner, rank),
            block + "ssm_dt.bias": np.zeros(inner, np.float32),
            block + "ssm_a": -np.abs(maker.matrix(inner, state)),
            block + "ssm_d": np.ones(inner, np.float32),
            block + "ssm_out.weight": maker.matrix(width, inner),
        }
    figures = {
        "ssm.conv_kernel": (U32, 4),
        "ssm.inner_size": (U32, inner),
        "ssm.state_size": (U32, state),
        "ssm.time_step_rank": (U32, rank),
        "attention.head_count": (U32, 0),
        "feed_forward_length": (U32, 0),
    }
    return _write(path, "mamba", figures, tensors, context=context, width=width, layers=2)


def tiny_lfm2(path: Path, *, context: int = 512, seed: int = 1, width: int = 32) -> Path:
    """Write a model like LFM2: one layer with a state (a short convolution), one with a cache."""
    maker = _Maker(seed)
    tensors = maker.ends(width, norm="token_embd_norm")
    for block in ("blk.0.", "blk.1."):
        tensors |= maker.feed_forward(block, width)
    tensors |= {
        "blk.0.shortconv.conv.weight": maker.matrix(width, 3),
        "blk.0.shortconv.in_proj.weight": maker.matrix(3 * width, width),
        "blk.0.shortconv.out_proj.weight": maker.matrix(width, width),
        **maker.attention("blk.1.", width),
    }
    figures = {
        "shortconv.l_cache": (U32, 3),
        "attention.head_count": (U32, 4),
        "attention.head_count_kv": (ARRAY, (I32, [0, 2])),
        "feed_forward_length": (U32, 2 * width),
        "vocab_size": (U32, len(sentence_pieces())),
    }
    return _write(path, "lfm2", figures, tensors, context=context, width=width, layers=2)


def tiny_gemma3(path: Path, *, context: int = 512, seed: int = 1, width: int = 32) -> Path:
    """Write a model like Gemma 3: five layers that look back over `WINDOW` tokens, then one that sees everything."""
    maker = _Maker(seed)
    tensors = maker.ends(width)
    for layer in range(6):
        block = f"blk.{layer}."
        tensors |= maker.feed_forward(block, width) | maker.attention(block, width)
        tensors |= {
            block + "post_attention_norm.weight": np.ones(width, np.float32),
            block + "post_ffw_norm.weight": np.ones(width, np.float32),
        }
    figures = {
        "attention.head_count": (U32, 4),
        "attention.head_count_kv": (U32, 2),
        "attention.sliding_window": (U32, WINDOW),
        "feed_forward_length": (U32, 2 * width),
    }
    return _write(path, "gemma3", figures, tensors, context=context, width=width, layers=6)


class _Maker:
    """Makes weights, different ones each time."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def matrix(self, rows: int, columns: int) -> np.ndarray:
        return (self._random.standard_normal((rows, columns)) * 2 / np.sqrt(columns)).astype(np.float32)

    def ends(self, width: int, *, norm: str = "output_norm") -> Tensors:
        vocabulary = len(sentence_pieces())
        return {
            "token_embd.weight": self.matrix(vocabulary, width),
            f"{norm}.weight": np.ones(width, np.float32),
            "output.weight": self.matrix(vocabulary, width),
        }

    def feed_forward(self, block: str, width: int) -> Tensors:
        return {
            block + "attn_norm.weight": np.ones(width, np.float32),
            block + "ffn_norm.weight": np.ones(width, np.float32),
            block + "ffn_gate.weight": self.matrix(2 * width, width),
            block + "ffn_up.weight": self.matrix(2 * width, width),
            block + "ffn_down.weight": self.matrix(width, 2 * width),
        }

    def attention(self, block: str, width: int) -> Tensors:
        return {
            block + "attn_q.weight": self.matrix(width, width),
            block + "attn_k.weight": self.matrix(width // 2, width),
            block + "attn_v.weight": self.matrix(width // 2, width),
            block + "attn_output.weight": self.matrix(width, width),
            block + "attn_q_norm.weight": np.ones(width // 4, np.float32),
            block + "attn_k_norm.weight": np.ones(width // 4, np.float32),
        }


def _write(
    path: Path,
    architecture: str,
    figures: dict[str, tuple[int, Any]],
    tensors: Tensors,
    *,
    context: int,
    width: int,
    layers: int,
) -> Path:
    all_figures: dict[str, tuple[int, Any]] = {
        "context_length": (U32, context),
        "embedding_length": (U32, width),
        "block_count": (U32, layers),
        "attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "attention.key_length": (U32, width // 4),
        "attention.value_length": (U32, width // 4),
        **figures,
    }
    values: dict[str, tuple[int, Any]] = {
        "general.architecture": (STRING, architecture),
        "general.name": (STRING, f"tiny {architecture}"),
        **{f"{architecture}.{key}": value for key, value in all_figures.items()},
        **sentence_piece_values(sentence_pieces()),
    }
    path.write_bytes(gguf(values, tensors))
    return path
