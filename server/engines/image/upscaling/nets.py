"""A file becomes a network that enlarges: ESRGAN's kinds by our own code, all others by spandrel where it is there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from server.core.errors import LoadFailed
from server.engines.image.tensor_files import is_pickle, load_pickle, open_tensors
from server.engines.image.upscaling import compact, rrdb, spandrel_nets

State = dict[str, torch.Tensor]

WRAPPERS = ("params_ema", "params-ema", "params", "state_dict", "model_state_dict", "model", "net_g")
"""Keys under which trainers put the tensors, the ones meant for use first."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network in evaluation mode, on the CPU, in the file's precision or float32.

    `run` takes [1, 3, h, w], 0 ... 1, and returns [1, 3, h * scale, w * scale], not clamped. Inside it works on squares
    of `multiple` pixels, and fills up what is over by mirroring: tiles have to begin where squares do. One that folds
    pixels into channels sees `fold` times as far.
    """

    module: nn.Module
    run: Callable[[torch.Tensor], torch.Tensor]
    scale: int
    multiple: int = 1
    fold: int = 1
    runs_in_half: bool = True


def open_network(path: Path, *, allow_pickle: bool) -> Network:
    """Read a file.

    Raises:
        LoadFailed: it is damaged, a pickle while those are not allowed, or of a kind that is not known here.
    """
    state = _tensors(path, allow_pickle=allow_pickle)
    plain = rrdb.canonical(state)
    if rrdb.is_rrdb(plain):
        return _own(rrdb.build(plain), plain, path)
    if compact.is_compact(state):
        return _own(compact.build(state), state, path)
    found = spandrel_nets.open_state(state, path.name)
    return Network(
        module=found.model,
        run=found,
        scale=found.scale,
        multiple=found.size_requirements.multiple_of,
        runs_in_half=found.supports_half,
    )


def _own(net: rrdb.RrdbNet | compact.CompactNet, state: Mapping[str, torch.Tensor], path: Path) -> Network:
    scale = net.scale
    if scale != int(scale) or scale < 1:
        raise LoadFailed(f"{path.name} is a network that makes pictures smaller")
    try:
        net.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise LoadFailed(f"{path.name} is no complete network: {lines[1].strip() if lines[1:] else lines}") from error
    net = net.eval().requires_grad_(False)
    fold = net.fold if isinstance(net, rrdb.RrdbNet) else 1
    return Network(module=net, run=net, scale=int(scale), multiple=fold, fold=fold)


def _tensors(path: Path, *, allow_pickle: bool) -> State:
    if not is_pickle(path):
        with open_tensors(path, allow_pickle=False) as file:
            return {name: file.get(name) for name in file.shapes}
    state = _unwrapped(load_pickle(path, allow_pickle=allow_pickle))
    if not state:
        raise LoadFailed(f"{path.name} holds no tensors of a network")
    return state


def _unwrapped(tree: dict[str, Any]) -> State:
    for key in WRAPPERS:
        inner = tree.get(key)
        if isinstance(inner, dict) and any(isinstance(value, torch.Tensor) for value in inner.values()):
            tree = inner
            break
    return {
        name.removeprefix("module."): value
        for name, value in tree.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
