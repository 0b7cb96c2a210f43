"""Writes little picture projectors with random weights as GGUF files: what stands beside a model that sees."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.support.gguf_writer import ARRAY, BOOL, F32, STRING, U32, gguf

Values = dict[str, tuple[int, Any]]
Tensors = dict[str, np.ndarray]

PATCH, EYE_WIDTH = 8, 16


def tiny_llava(path: Path, *, side: int = 32, width: int = 32, seed: int = 1) -> Path:
    """Write a projector like LLaVA's, for models of `width`: a picture is squared and takes (side/8)^2 tokens."""
    weights = _Weights(seed)
    tensors = _eye(weights, patches=(side // PATCH) ** 2) | {
        "mm.0.weight": weights.matrix(width, EYE_WIDTH),
        "mm.0.bias": weights.vector(width),
        "mm.2.weight": weights.matrix(width, width) * 4,
        "mm.2.bias": weights.vector(width),
    }
    return _write(path, "mlp", side, width, tensors)


def tiny_gemma_eye(path: Path, *, side: int = 32, width: int = 32, seed: int = 1) -> Path:
    """Write a projector like Gemma 3's: a picture takes (side/16)^2 tokens, each of which attends to all of them."""
    weights = _Weights(seed)
    tensors = _eye(weights, patches=(side // PATCH) ** 2) | {
        "mm.input_projection.weight": weights.matrix(EYE_WIDTH, width) * 4,
        "mm.soft_emb_norm.weight": 1 + weights.vector(EYE_WIDTH),
    }
    return _write(path, "gemma3", side, width, tensors, {"clip.vision.projector.scale_factor": (U32, 2)})


def tiny_qwen_eye(path: Path, *, side: int = 32, width: int = 32, seed: int = 1) -> Path:
    """Write a projector like Qwen2-VL's: pictures keep their shape and take a token for 16x16 pixels."""
    weights = _Weights(seed)
    tensors = _eye(weights, patches=0) | {
        "v.patch_embd.weight.1": weights.array(EYE_WIDTH, 3, PATCH, PATCH),
        "mm.0.weight": weights.matrix(4 * EYE_WIDTH, 4 * EYE_WIDTH),
        "mm.0.bias": weights.vector(4 * EYE_WIDTH),
        "mm.2.weight": weights.matrix(width, 4 * EYE_WIDTH) * 4,
        "mm.2.bias": weights.vector(width),
    }
    del tensors["v.patch_embd.bias"]
    return _write(path, "qwen2vl_merger", side, width, tensors)


def tiny_idefics(path: Path, *, side: int = 32, width: int = 32, seed: int = 1) -> Path:
    """Write a projector like Idefics3's: large pictures are cut into tiles of `side`, each (side/16)^2 tokens."""
    weights = _Weights(seed)
    tensors = _eye(weights, patches=(side // PATCH) ** 2) | {"mm.model.fc.weight": weights.matrix(width, 4 * EYE_WIDTH)}
    more: Values = {
        "clip.vision.projector.scale_factor": (U32, 2),
        "clip.vision.preproc_image_size": (U32, 4 * side),
    }
    return _write(path, "idefics3", side, width, tensors, more)


class _Weights:
    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def array(self, *shape: int) -> np.ndarray:
        return self._random.standard_normal(shape).astype(np.float32)

    def matrix(self, rows: int, columns: int) -> np.ndarray:
        return (self.array(rows, columns) * np.float32(2 / np.sqrt(columns))).astype(np.float32)

    def vector(self, size: int) -> np.ndarray:
        return (self.array(size) * np.float32(0.1)).astype(np.float32)


def _eye(weights: _Weights, *, patches: int) -> Tensors:
    """Return the tensors of a vision transformer of two layers, with positions for `patches` where it has them."""
    tensors: Tensors = {
        "v.patch_embd.weight": weights.array(EYE_WIDTH, 3, PATCH, PATCH),
        "v.patch_embd.bias": weights.vector(EYE_WIDTH),
        "v.post_ln.weight": 1 + weights.vector(EYE_WIDTH),
        "v.post_ln.bias": weights.vector(EYE_WIDTH),
    }
    if patches:
        tensors["v.position_embd.weight"] = weights.array(patches, EYE_WIDTH)
    for layer in range(2):
        block = f"v.blk.{layer}."
        for part, rows, columns in (
            ("attn_q", EYE_WIDTH, EYE_WIDTH),
            ("attn_k", EYE_WIDTH, EYE_WIDTH),
            ("attn_v", EYE_WIDTH, EYE_WIDTH),
            ("attn_out", EYE_WIDTH, EYE_WIDTH),
            ("ffn_up", 2 * EYE_WIDTH, EYE_WIDTH),
            ("ffn_down", EYE_WIDTH, 2 * EYE_WIDTH),
        ):
            tensors[f"{block}{part}.weight"] = weights.matrix(rows, columns)
            tensors[f"{block}{part}.bias"] = weights.vector(rows)
        for norm in ("ln1", "ln2"):
            tensors[f"{block}{norm}.weight"] = 1 + weights.vector(EYE_WIDTH)
            tensors[f"{block}{norm}.bias"] = weights.vector(EYE_WIDTH)
    return tensors


def _write(path: Path, kind: str, side: int, width: int, tensors: Tensors, more: Values | None = None) -> Path:
    values: Values = {
        "general.architecture": (STRING, "clip"),
        "general.type": (STRING, "mmproj"),
        "general.name": (STRING, f"tiny {kind}"),
        "clip.has_vision_encoder": (BOOL, True),
        "clip.projector_type": (STRING, kind),
        "clip.use_gelu": (BOOL, True),
        "clip.vision.image_size": (U32, side),
        "clip.vision.patch_size": (U32, PATCH),
        "clip.vision.embedding_length": (U32, EYE_WIDTH),
        "clip.vision.feed_forward_length": (U32, 2 * EYE_WIDTH),
        "clip.vision.block_count": (U32, 2),
        "clip.vision.attention.head_count": (U32, 2),
        "clip.vision.attention.layer_norm_epsilon": (F32, 1e-5),
        "clip.vision.projection_dim": (U32, width),
        "clip.vision.image_mean": (ARRAY, (F32, [0.5, 0.5, 0.5])),
        "clip.vision.image_std": (ARRAY, (F32, [0.5, 0.5, 0.5])),
        **(more or {}),
    }
    path.write_bytes(gguf(values, tensors))
    return path
