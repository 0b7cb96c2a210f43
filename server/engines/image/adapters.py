"""LoRAs merged into the weights for a job, and taken out again to the last bit.

The originals are kept and put back, never computed back. A set of LoRAs stays merged until a job wants another one, for
the next job mostly wants the same. Weights are changed where they lie, for fresh memory costs more than the arithmetic;
but not those of a mapped file, which a copy stands in for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from server.core.errors import LoadFailed
from server.core.image import LoraRef
from server.engines.image.loaded import Checkpoint
from server.engines.image.lora import Layer, Layers, layers, read_groups
from server.engines.image.lora_kinds import change

Key = tuple[str, int, float, float]

Groups = dict[str, dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Original:
    """What a parameter was, in RAM, exactly. `is_borrowed`: it is the very tensor that a copy stands in for."""

    data: torch.Tensor
    is_borrowed: bool


class Adapters:
    """Owns the changes that LoRAs make to one model: a checkpoint, or layers by the names that files give them."""

    def __init__(self, checkpoint: Checkpoint | Layers, *, allow_pickle: bool) -> None:
        self._layers = layers(checkpoint) if isinstance(checkpoint, Checkpoint) else checkpoint
        self._converted = checkpoint.converted if isinstance(checkpoint, Checkpoint) else {}
        self._allow_pickle = allow_pickle
        self._originals: dict[nn.Parameter, Original] = {}
        self._former: dict[nn.Parameter, Original] = {}
        self._merged: tuple[Key, ...] | None = ()  # None = in between, or left there by an error
        self._notes: tuple[str, ...] = ()

    def use(self, refs: Sequence[LoraRef]) -> tuple[str, ...]:
        """Merge exactly these LoRAs, in order, and return notes on what was left out."""
        wanted = tuple(_key(ref) for ref in refs)
        if wanted == self._merged:
            return self._notes
        self._merged = None
        self._former |= self._originals
        self._originals.clear()
        for parameter, original in self._former.items():
            parameter.data.copy_(original.data)
        self._notes = tuple(note for ref in refs for note in self._merge(ref))
        _put_back(self._former)
        self._merged = wanted
        return self._notes

    @property
    def in_text(self) -> tuple[Key, ...]:
        """Return what is merged into the text encoders, for keys of what they gave."""
        return tuple(key for key in self._merged or () if key[2] != 0.0)

    @property
    def held(self) -> int:
        """Bytes of RAM of the originals that wait to be put back."""
        return sum(original.data.numel() * original.data.element_size() for original in self._originals.values())

    def clear(self) -> None:
        """Put all original weights back."""
        _put_back(self._former)
        _put_back(self._originals)
        self._merged = ()
        self._notes = ()

    def groups(self, path: Path) -> Groups:
        """Return the tensors of a LoRA file by layer and last name; LoadFailed when it cannot be used."""
        return read_groups(path, allow_pickle=self._allow_pickle)

    def _merge(self, ref: LoraRef) -> list[str]:
        try:
            groups = self.groups(Path(ref.path))
        except LoadFailed as error:
            return [f"LoRA {ref.name!r} was left out: {error.message}"]
        known = {name: group for name, group in groups.items() if name in self._layers}
        if not known:
            return [f"LoRA {ref.name!r} was left out: it is for another kind of model"]
        unfit = 0
        for name, group in known.items():
            layer = self._layers[name]
            unfit += not self._add(layer, group, ref.text_weight if layer.is_text else ref.unet_weight)
        return [f"LoRA {ref.name!r}: {unfit} of {len(known)} layers are of an unknown kind or size"] if unfit else []

    def _add(self, layer: Layer, group: dict[str, torch.Tensor], multiplier: float) -> bool:
        """Add one layer's change; tell whether it fitted."""
        weight = layer.module.weight
        assert isinstance(weight, nn.Parameter)
        with torch.no_grad():
            found = change(group, weight)
            if found is None:
                return False
            if multiplier == 0.0:
                return True
            self._change(weight, found.weight, multiplier)
            bias = layer.module.bias
            if isinstance(bias, nn.Parameter):
                self._change(bias, found.bias, multiplier)
        return True

    def _change(self, parameter: nn.Parameter, delta: torch.Tensor | None, multiplier: float) -> None:
        if delta is None or delta.numel() != parameter.numel():
            return
        if parameter not in self._originals:
            former = self._former.pop(parameter, None)
            self._originals[parameter] = self._saved(parameter) if former is None else former
        parameter.data.add_(delta.reshape(parameter.shape), alpha=multiplier)

    def _saved(self, parameter: nn.Parameter) -> Original:
        """Return what a parameter is, and see to it that it may be written to."""
        data = parameter.data
        if data.device.type != "cpu":
            # Kept in RAM: a device that the model just fits on has no room for a second copy.
            return Original(data.to("cpu"), is_borrowed=False)
        stored = self._converted.get(data.data_ptr())
        if stored is None:
            parameter.data = data.clone()
            return Original(data, is_borrowed=True)
        is_exact = torch.promote_types(stored, data.dtype) == data.dtype
        return Original(data.to(stored, copy=True) if is_exact else data.clone(), is_borrowed=False)


def _put_back(originals: dict[nn.Parameter, Original]) -> None:
    """Give parameters what they were, and forget it."""
    for parameter, original in originals.items():
        if original.is_borrowed:
            parameter.data = original.data.to(parameter.device)
        else:
            parameter.data.copy_(original.data)
    originals.clear()


def _key(ref: LoraRef) -> Key:
    try:
        changed = Path(ref.path).stat().st_mtime_ns
    except OSError:
        changed = 0
    return ref.path, changed, ref.text_weight, ref.unet_weight
