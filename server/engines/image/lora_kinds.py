"""What one layer of a LoRA file changes: the kinds of the LyCORIS family, told by the names present.

| names | change of the weight W |
|---|---|
| `lora_up`, `lora_down` (or `lora_B`, `lora_A`), perhaps `lora_mid` | up · down |
| `hada_w1_a`, `hada_w1_b`, `hada_w2_a`, `hada_w2_b`, perhaps `hada_t1`, `hada_t2` | (w1a · w1b) ⊙ (w2a · w2b) |
| `lokr_w1`, `lokr_w2` (or each as `_a`, `_b`), perhaps `lokr_t2` | w1 ⊗ w2 |
| `weight` and `on_input` (IA3) | W scaled by column or by row |
| `diff`, perhaps `diff_b` | as it stands, for the bias too |
| `w_norm`, `b_norm` | as it stands |

Each is scaled by `scale`, or alpha / rank, or 1; `dora_scale` then renormalises. GLoRA and OFT are not known here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

import torch
from torch.nn import functional

PLAIN_INPUTS = 4
"""Input channels of a UNet that sees nothing but latents."""

Group = Mapping[str, torch.Tensor]
"""The tensors of one layer by their last name, without `.weight`."""


@dataclass(frozen=True)
class Change:
    """What is added to a layer's weight and bias, before the multiplier; None = nothing."""

    weight: torch.Tensor | None
    bias: torch.Tensor | None = None


def change(group: Group, weight: torch.Tensor) -> Change | None:
    """Return what a layer's tensors do to `weight`, in float32 on its device.

    None when the kind is unknown or the shapes do not fit the weight.
    """
    found = {name: tensor.to(weight.device, torch.float32) for name, tensor in group.items()}
    for marks, build in _KINDS:
        if all(_alternative(found, mark) for mark in marks):
            try:
                return _finished(build(found, weight.to(torch.float32)), found, weight)
            except (RuntimeError, IndexError, KeyError):
                return None
    return None


def _finished(made: tuple[torch.Tensor, int | None], group: Group, weight: torch.Tensor) -> Change | None:
    delta, rank = made
    fitted = _fitted(delta, weight)
    if fitted is None:
        return None
    delta = fitted
    if "bias" in group and group["bias"].numel() == weight.numel():
        delta = delta + group["bias"].reshape(weight.shape)
    scale = _scale(group, rank)
    delta = delta if scale == 1.0 else delta.mul_(scale)
    if "dora_scale" in group:
        delta = _decomposed(delta, weight.to(torch.float32), group["dora_scale"])
    bias = group.get("diff_b", group.get("b_norm"))
    return Change(delta, bias)


def _fitted(delta: torch.Tensor, weight: torch.Tensor) -> torch.Tensor | None:
    """Return a change in the shape of its weight, None when it does not fit.

    The first convolution of inpainting and InstructPix2Pix models has more inputs than LoRAs know; those stay.
    """
    if delta.numel() == weight.numel():
        return delta.reshape(weight.shape)
    if weight.ndim == 4 and weight.shape[1] > PLAIN_INPUTS:
        known = (weight.shape[0], PLAIN_INPUTS, *weight.shape[2:])
        if delta.numel() == prod(known):
            return functional.pad(delta.reshape(known), (0, 0, 0, 0, 0, weight.shape[1] - PLAIN_INPUTS))
    return None


def _scale(group: Group, rank: int | None) -> float:
    if "scale" in group:
        return group["scale"].item()
    if "alpha" in group and rank:
        return group["alpha"].item() / rank
    return 1.0


def _decomposed(delta: torch.Tensor, weight: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Return the change that gives W + delta the stored length per input column (DoRA)."""
    moved = weight + delta
    columns = moved.transpose(0, 1).reshape(moved.shape[1], -1).norm(dim=1)
    norm = columns.reshape(1, -1, *[1] * (moved.ndim - 2))
    return moved * (magnitude.reshape(norm.shape) / norm) - weight


def _alternative(group: Group, mark: str) -> bool:
    return any(name in group for name in mark.split("|"))


def _take(group: Group, *names: str) -> torch.Tensor:
    return next(group[name] for name in names if name in group)


def _matrix(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(tensor.shape[0], -1)


def _tucker(core: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the kernel [i, j, k, l] of a core [n, m, k, l] between left [i, n] and right [m, j]."""
    return torch.einsum("nmkl,in,mj->ijkl", core, left, right)


def _low_rank(group: Group, weight: torch.Tensor) -> tuple[torch.Tensor, int | None]:
    up, down = _matrix(_take(group, "lora_up", "lora_B")), _take(group, "lora_down", "lora_A")
    rank = down.shape[0]
    if "lora_mid" in group:
        return _tucker(group["lora_mid"], up, _matrix(down)), rank
    return up @ _matrix(down), rank


def _hadamard(group: Group, weight: torch.Tensor) -> tuple[torch.Tensor, int | None]:
    rank = group["hada_w1_b"].shape[0]
    if "hada_t1" in group:
        first = _tucker(group["hada_t1"], group["hada_w1_a"].T, group["hada_w1_b"])
        second = _tucker(group["hada_t2"], group["hada_w2_a"].T, group["hada_w2_b"])
        return first * second, rank
    return (group["hada_w1_a"] @ group["hada_w1_b"]) * (group["hada_w2_a"] @ group["hada_w2_b"]), rank


def _kronecker(group: Group, weight: torch.Tensor) -> tuple[torch.Tensor, int | None]:
    rank = None
    if "lokr_w1" in group:
        first = group["lokr_w1"]
    else:
        first, rank = group["lokr_w1_a"] @ group["lokr_w1_b"], group["lokr_w1_b"].shape[0]
    if "lokr_w2" in group:
        second = group["lokr_w2"]
    elif "lokr_t2" in group:
        second = _tucker(group["lokr_t2"], group["lokr_w2_a"].T, group["lokr_w2_b"])
        rank = group["lokr_w2_b"].shape[0]
    else:
        second, rank = group["lokr_w2_a"] @ _matrix(group["lokr_w2_b"]), group["lokr_w2_b"].shape[0]
    if first.numel() * second.numel() != weight.numel():
        raise IndexError("a Kronecker product of another size")
    if second.ndim == 4:
        first = first[:, :, None, None]
    return torch.kron(first, second), rank


def _scaled(group: Group, weight: torch.Tensor) -> tuple[torch.Tensor, int | None]:
    factors = group["weight"].flatten()
    side = 1 if group["on_input"].item() else 0
    shape = [1] * weight.ndim
    shape[side] = -1
    return weight * factors.reshape(shape), None


def _whole(group: Group, weight: torch.Tensor) -> tuple[torch.Tensor, int | None]:
    return _take(group, "diff", "w_norm").clone(), None


# What is built is new memory, which may be written to.
Build = Callable[[Group, torch.Tensor], tuple[torch.Tensor, int | None]]

_KINDS: Final[tuple[tuple[tuple[str, ...], Build], ...]] = (
    (("lora_up|lora_B", "lora_down|lora_A"), _low_rank),
    (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), _hadamard),
    (("lokr_w1|lokr_w1_a", "lokr_w2|lokr_w2_a"), _kronecker),
    (("weight", "on_input"), _scaled),
    (("diff|w_norm",), _whole),
)
"""Names that tell a kind (`a|b` = either), and how its change is built with the rank that alpha is divided by."""
