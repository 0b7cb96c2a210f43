"""Writes LoRA adapters for the tiny llama of `tiny_gguf`, and tells what they add to its weights."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.support.gguf_writer import F32, STRING, gguf

RANK = 2
ALPHA = 3.0


class TinyLora:
    """Random matrices of low rank for a two-layer llama. Each changes the model's words by itself."""

    def __init__(self, seed: int, *, width: int = 32, strength: float = 0.3) -> None:
        random = np.random.default_rng(1000 + seed)
        shapes = {
            "attn_q": (width, width),
            "attn_v": (width // 2, width),
            "attn_output": (width, width),
            "ffn_up": (2 * width, width),
            "ffn_down": (width, 2 * width),
        }
        self._pairs = {}
        for layer in range(2):
            for part, (rows, columns) in shapes.items():
                a = (random.standard_normal((RANK, columns)) * strength).astype(np.float32)
                b = (random.standard_normal((rows, RANK)) * strength).astype(np.float32)
                self._pairs[f"blk.{layer}.{part}.weight"] = a, b

    def added(self, scale: float) -> dict[str, np.ndarray]:
        """Return what is added to each weight [rows, columns] at a scale: scale * alpha / rank * B A."""
        return {
            name: (scale * ALPHA / RANK * (b.astype(np.float64) @ a)).astype(np.float32)
            for name, (a, b) in self._pairs.items()
        }

    def write(self, path: Path, *, architecture: str = "llama", **values: tuple[int, Any]) -> Path:
        """Write the adapter as GGUF; `values` are put into its header or replace what is there (`__` for `.`)."""
        header: dict[str, tuple[int, Any]] = {
            "general.architecture": (STRING, architecture),
            "general.type": (STRING, "adapter"),
            "general.name": (STRING, path.stem),
            "adapter.type": (STRING, "lora"),
            "adapter.lora.alpha": (F32, ALPHA),
        }
        header |= {key.replace("__", "."): value for key, value in values.items()}
        tensors = {}
        for name, (a, b) in self._pairs.items():
            tensors |= {f"{name}.lora_a": a, f"{name}.lora_b": b}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gguf(header, tensors))
        return path
