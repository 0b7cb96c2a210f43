"""Tiny networks of random weights that enlarge, as files in the layouts in which such files are published."""

import re
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file

from server.engines.image.upscaling.compact import CompactNet
from server.engines.image.upscaling.rrdb import RrdbNet

Naming = Literal["new", "second", "first"]

WIDTH, GROWTH = 8, 4


def rrdb_state(
    *, ups: int = 2, fold: int = 1, blocks: int = 1, growth: int = GROWTH, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Return the tensors of an ESRGAN network under Real-ESRGAN's names; its results look like its input."""
    torch.manual_seed(seed)
    net = RrdbNet(width=WIDTH, growth=growth, blocks=blocks, ups=ups, fold=fold)
    state = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    state["conv_last.bias"] += 0.5
    return {re.sub(r"^ups\.(\d)", lambda match: f"conv_up{int(match[1]) + 1}", name): t for name, t in state.items()}


def compact_state(*, scale: int = 2, depth: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return the tensors of a compact network."""
    torch.manual_seed(seed)
    return {
        name: tensor.detach().clone()
        for name, tensor in CompactNet(width=8, depth=depth, scale=scale).state_dict().items()
    }


def renamed(state: dict[str, torch.Tensor], naming: Naming) -> dict[str, torch.Tensor]:
    """Return an ESRGAN network's tensors under the names of an older program."""
    return {_NAMES[naming](name, state): tensor for name, tensor in state.items()}


def write_upscaler(
    folder: Path, name: str = "4x-tiny", state: dict[str, torch.Tensor] | None = None, *, wrapper: str | None = None
) -> Path:
    """Write `NAME.safetensors`, or `NAME.pth` with the tensors under the key `wrapper` ("" for none)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = state or rrdb_state()
    if wrapper is None:
        path = folder / f"{name}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
        return path
    path = folder / f"{name}.pth"
    torch.save({wrapper: tensors} if wrapper else tensors, path)
    return path


def _second(name: str, _: dict[str, torch.Tensor]) -> str:
    name = re.sub(r"^body\.(\d+)\.rdb(\d)\.", r"RRDB_trunk.\1.RDB\2.", name)
    name = re.sub(r"^conv_up(\d)\.", r"upconv\1.", name)
    return name.replace("conv_body.", "trunk_conv.").replace("conv_hr.", "HRconv.")


def _first(name: str, state: dict[str, torch.Tensor]) -> str:
    ups = sum(key.startswith("conv_up") and key.endswith(".weight") for key in state)
    blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("body."))
    place, what = name.rsplit(".", 1)
    numbers = {"conv_first": 0, "conv_hr": 3 * ups + 2, "conv_last": 3 * ups + 4}
    numbers |= {f"conv_up{k}": 3 * k for k in (1, 2, 3)}
    if place == "conv_body":
        return f"model.1.sub.{blocks}.{what}"
    if place in numbers:
        return f"model.{numbers[place]}.{what}"
    return re.sub(r"^body\.(\d+)\.rdb(\d)\.conv(\d)$", r"model.1.sub.\1.RDB\2.conv\3.0", place) + f".{what}"


_NAMES = {"new": lambda name, _: name, "second": _second, "first": _first}
