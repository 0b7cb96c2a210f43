"""Hypernetworks: small networks before the key and value projections of a UNet's attentions.

A file holds two for each width of attention inputs that it knows: one before `to_k`, one before `to_v`. Each gives
x + multiplier * H(x). Several are applied one after the other. Files are pickles of torch, read without running code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from server.core.errors import LoadFailed
from server.core.image import HypernetworkRef
from server.engines.image.placement import Placement
from server.engines.image.tensor_files import load_pickle

Activation = Callable[[], nn.Module]

ACTIVATIONS: Final[Mapping[str, Activation]] = MappingProxyType(
    {"swish": nn.Hardswish}
    | {
        kind.__name__.lower(): kind
        for kind in (
            *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
            *(nn.Tanh, nn.Hardtanh, nn.Tanhshrink, nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid),
            *(nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink),
        )
    }
)
"""By the names that files give them."""

PROJECTIONS = ("to_k", "to_v")

OLD_NAMES = {"linear1": "linear.0", "linear2": "linear.1"}
"""What the two layers of the first files are called now."""

Pair = tuple[nn.Module, nn.Module]
Key = tuple[str, int, float]


@dataclass(frozen=True)
class Hypernetwork:
    """The networks of a file, for keys and values, by the width of what they change."""

    pairs: Mapping[int, Pair]


class Hypernetworks:
    """Owns the hooks that hypernetworks have in one UNet."""

    def __init__(self, unet: nn.Module, placement: Placement, *, allow_pickle: bool) -> None:
        self._unet = unet
        self._placement = placement
        self._allow_pickle = allow_pickle
        self._acting: tuple[Key, ...] = ()
        self._notes: tuple[str, ...] = ()
        self._hooks: list[RemovableHandle] = []

    def use(self, refs: Sequence[HypernetworkRef]) -> tuple[str, ...]:
        """Have exactly these act, in order, and return notes on what was left out."""
        wanted = tuple(_key(ref) for ref in refs)
        if wanted == self._acting:
            return self._notes
        self.clear()
        self._notes = tuple(note for ref in refs for note in self._add(ref))
        self._acting = wanted
        return self._notes

    def clear(self) -> None:
        """Let none act."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._acting = ()
        self._notes = ()

    def _add(self, ref: HypernetworkRef) -> list[str]:
        try:
            network = read_hypernetwork(Path(ref.path), allow_pickle=self._allow_pickle)
        except LoadFailed as error:
            return [f"hypernetwork {ref.name!r} was left out: {error.message}"]
        for pair in network.pairs.values():
            for each in pair:
                each.to(self._placement.device, self._placement.precision.model)
        hooked = 0
        for name, module in self._unet.named_modules():
            place = name.rsplit(".", 1)[-1]
            if place in PROJECTIONS and isinstance(module, nn.Linear) and module.in_features in network.pairs:
                changing = network.pairs[module.in_features][PROJECTIONS.index(place)]
                self._hooks.append(module.register_forward_pre_hook(_hook(changing, ref.multiplier)))
                hooked += 1
        return [] if hooked else [f"hypernetwork {ref.name!r} was left out: it is for another kind of model"]


def read_hypernetwork(path: Path, *, allow_pickle: bool) -> Hypernetwork:
    """Read a file.

    Raises:
        LoadFailed: unreadable, a pickle while those are not allowed, no hypernetwork, or of an unknown activation.
    """
    tree = load_pickle(path, allow_pickle=allow_pickle)
    activation = _activation(tree.get("activation_func"), path)
    last = tree.get("activate_output", True) is not False
    pairs: dict[int, Pair] = {}
    widths: Mapping[Any, Any] = tree  # its widths are numbers
    for width, states in widths.items():
        if isinstance(width, int) and isinstance(states, list | tuple) and len(states) >= len(PROJECTIONS):
            keys, values = (_network(state, width, activation, path, last=last) for state in states[:2])
            pairs[width] = keys, values
    if not pairs:
        raise LoadFailed(f"{path.name} is no hypernetwork")
    return Hypernetwork(pairs)


def _activation(name: object, path: Path) -> Activation | None:
    if name in (None, "linear"):
        return None
    found = ACTIVATIONS.get(str(name).lower())
    if found is None:
        raise LoadFailed(f"{path.name} has layers of an unknown kind ({str(name)[:40]!r})")
    return found


def _network(state: Any, width: int, activation: Activation | None, path: Path, *, last: bool) -> nn.Module:
    """Build one network from its tensors: a matrix is a linear layer, a vector the scale of a layer norm.

    Linear layers are followed by the activation, the last of them only when `last`.
    """
    tensors = _numbered(state)
    weights = {number: tensors[number, "weight"] for number, name in sorted(tensors) if name == "weight"}
    linear = [number for number, weight in weights.items() if weight.ndim == 2]
    layers: list[nn.Module] = []
    for number, weight in weights.items():
        layer = _layer(weight, tensors.get((number, "bias")))
        if layer is None:
            raise LoadFailed(f"{path.name} has tensors of unexpected shapes")
        layers.append(layer)
        if activation is not None and weight.ndim == 2 and (last or number != linear[-1]):
            layers.append(activation())
    network = nn.Sequential(*layers).requires_grad_(False).eval()
    try:
        with torch.no_grad():
            shape = network(torch.zeros(1, width)).shape
    except RuntimeError:
        shape = torch.Size()
    if not linear or shape != (1, width):
        raise LoadFailed(f"{path.name} has tensors of unexpected shapes")
    return network


def _layer(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module | None:
    layer: nn.Linear | nn.LayerNorm
    if weight.ndim == 2:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    elif weight.ndim == 1:
        layer = nn.LayerNorm(weight.shape[0], bias=bias is not None)
    else:
        return None
    if bias is not None and bias.shape != weight.shape[:1]:
        return None
    state = {"weight": weight.float()} | ({} if bias is None else {"bias": bias.float()})
    layer.load_state_dict(state)
    return layer


def _numbered(state: Any) -> dict[tuple[int, str], torch.Tensor]:
    """Return the tensors `linear.<number>.<name>` of a network by number and name; nothing else counts."""
    found: dict[tuple[int, str], torch.Tensor] = {}
    for name, tensor in state.items() if isinstance(state, Mapping) else ():
        start, _, tail = str(name).rpartition(".")
        start = OLD_NAMES.get(start, start)
        number = start.removeprefix("linear.")
        if start.startswith("linear.") and number.isdecimal() and isinstance(tensor, torch.Tensor):
            found[int(number), tail] = tensor
    return found


def _hook(network: nn.Module, multiplier: float) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def change(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0] + network(args[0]) * multiplier, *args[1:])

    return change


def _key(ref: HypernetworkRef) -> Key:
    try:
        changed = Path(ref.path).stat().st_mtime_ns
    except OSError:
        changed = 0
    return ref.path, changed, ref.multiplier
