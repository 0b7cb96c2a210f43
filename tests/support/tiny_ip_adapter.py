"""IP-Adapters of the three kinds and image encoders with random weights, for the tiny checkpoints.

The names are those of the published files: `image_proj.` and `ip_adapter.` with odd numbers, and transformers' names.
"""

import zlib
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from tests.support.tiny_checkpoint import CHANNELS, TEXT, tiny_tensors

WIDTH, PROJECTION, PATCH, ACROSS = 48, 20, 8, 4
SIDE = PATCH * ACROSS
ENCODER = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 12,
    "image_size": SIDE,
    "patch_size": PATCH,
    "projection_dim": PROJECTION,
    "hidden_act": "quick_gelu",
}
"""The arguments of transformers' CLIPVisionConfig for the tiny encoder."""

Kind = Literal["plain", "plus", "full"]


def drawn(name: str, *shape: int, spread: float = 1.0, around: float = 0.0) -> torch.Tensor:
    """Return numbers that depend on the name alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"ip/{name}".encode()))
    return torch.randn(shape, generator=generator) * spread + around


def _linear(name: str, into: int, out: int, *, bias: bool = True) -> dict[str, torch.Tensor]:
    made = {f"{name}.weight": drawn(f"{name}.weight", out, into, spread=into**-0.5)}
    return made | ({f"{name}.bias": drawn(f"{name}.bias", out, spread=0.1)} if bias else {})


def _norm(name: str, width: int) -> dict[str, torch.Tensor]:
    return {
        f"{name}.weight": drawn(f"{name}.weight", width, spread=0.1, around=1.0),
        f"{name}.bias": drawn(f"{name}.bias", width, spread=0.1),
    }


def encoder_tensors() -> dict[str, torch.Tensor]:
    """Return the tensors of the image encoder."""
    places = ACROSS * ACROSS + 1
    made = {
        "vision_model.embeddings.class_embedding": drawn("class", WIDTH),
        "vision_model.embeddings.patch_embedding.weight": drawn("patch", WIDTH, 3, PATCH, PATCH, spread=0.1),
        "vision_model.embeddings.position_embedding.weight": drawn("place", places, WIDTH, spread=0.3),
        **_norm("vision_model.pre_layrnorm", WIDTH),
        **_norm("vision_model.post_layernorm", WIDTH),
        **_linear("visual_projection", WIDTH, PROJECTION, bias=False),
    }
    for layer in range(3):
        name = f"vision_model.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            made |= _linear(f"{name}.self_attn.{part}", WIDTH, WIDTH)
        made |= _linear(f"{name}.mlp.fc1", WIDTH, 64) | _linear(f"{name}.mlp.fc2", 64, WIDTH)
        made |= _norm(f"{name}.layer_norm1", WIDTH) | _norm(f"{name}.layer_norm2", WIDTH)
    return made


def adapter_tensors(kind: Kind = "plain", *, context: int = TEXT, family: str = "sd1") -> dict[str, torch.Tensor]:
    """Return the tensors of an adapter for the tiny checkpoint of a family."""
    made = {f"image_proj.{name}": tensor for name, tensor in _projection(kind, context).items()}
    count = sum(name.endswith(".attn2.to_k.weight") for name in tiny_tensors(family=family))
    for number in range(count):
        made |= _linear(f"ip_adapter.{2 * number + 1}.to_k_ip", context, CHANNELS, bias=False)
        loud = _linear(f"ip_adapter.{2 * number + 1}.to_v_ip", context, CHANNELS, bias=False)
        made |= {name: 0.2 * tensor for name, tensor in loud.items()}
    return made


def _projection(kind: Kind, context: int) -> dict[str, torch.Tensor]:
    if kind == "plain":
        return _linear("proj", PROJECTION, 4 * context) | _norm("norm", context)
    if kind == "full":
        return _linear("proj.0", WIDTH, WIDTH) | _linear("proj.2", WIDTH, context) | _norm("proj.3", context)
    inner, heads = 32, 2
    made = {"latents": drawn("latents", 1, 6, inner)}
    made |= _linear("proj_in", WIDTH, inner) | _linear("proj_out", inner, context) | _norm("norm_out", context)
    for layer in range(4):
        name = f"layers.{layer}"
        made |= _norm(f"{name}.0.norm1", inner) | _norm(f"{name}.0.norm2", inner) | _norm(f"{name}.1.0", inner)
        made |= _linear(f"{name}.0.to_q", inner, 64 * heads, bias=False)
        made |= _linear(f"{name}.0.to_kv", inner, 128 * heads, bias=False)
        made |= _linear(f"{name}.0.to_out", 64 * heads, inner, bias=False)
        made |= _linear(f"{name}.1.1", inner, 4 * inner, bias=False) | _linear(
            f"{name}.1.3", 4 * inner, inner, bias=False
        )
    return made


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """Write a file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(path))
    return path


def as_diffusers(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return an adapter's tensors as diffusers' loader wants them."""
    parts: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    return parts
