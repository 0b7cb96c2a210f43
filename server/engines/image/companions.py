"""Other checkpoints that take part in a job, as refiner or for its second pass.

Each is loaded when the job begins and given back when it ends, so that a loaded model never grows. On a device that has
no room for two at a time they take turns there; in the memory modes `medium` and `low` their parts do so anyway.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from server.core.errors import InvalidValue, LoadFailed
from server.core.image import CheckpointRef, ImageRequest
from server.engines.image import folder
from server.engines.image.headroom import available_bytes
from server.engines.image.offload import HOME
from server.engines.image.parts import Parts
from server.engines.image.placement import Placement, Precision, release
from server.engines.image.tensor_files import open_tensors

Build = Callable[[Path], Parts]
"""Loads a checkpoint, on the CPU. Raises LoadFailed."""


@dataclass(kw_only=True)
class Companions:
    """The checkpoints of one job: `own` is the loaded one, which came from `source`. `build` loads others.

    `has_own_vae`: the job names a VAE of its own choice, which then serves all of them.
    """

    own: Parts
    source: str
    build: Build
    has_own_vae: bool = False
    _by_path: dict[str, Parts] = field(default_factory=dict, init=False)
    _seated: Parts | None = field(default=None, init=False)

    @contextmanager
    def lent(self) -> Iterator["Companions"]:
        """While it lasts, companions may be asked for; afterwards only the loaded checkpoint is there."""
        try:
            yield self
        finally:
            if self._by_path:
                self._send_away()

    def _send_away(self) -> None:
        place = self.own.placement
        place.seats.clear()
        for parts in self._by_path.values():
            place.seats.forget(parts.unet_module)
        self._by_path.clear()
        self.seat(self.own)
        release(place)

    def get(self, ref: CheckpointRef) -> Parts:
        """Return a checkpoint ready to be seated, loaded now if this is the first time.

        Raises:
            InvalidValue: its file cannot be used.
        """
        if ref.path == self.source:
            return self.own
        if ref.path not in self._by_path:
            try:
                built = self.build(Path(ref.path))
            except LoadFailed as error:
                raise InvalidValue.of("checkpoint", f"{ref.name!r} cannot be used: {error.message}") from None
            if self.has_own_vae:
                built = replace(built, vae=self.own.vae, vae_module=self.own.vae_module)
            self._by_path[ref.path] = built
        return self._by_path[ref.path]

    def seat(self, parts: Parts) -> None:
        """Have a checkpoint where it runs; another one leaves if both do not fit, all but its VAE."""
        before, self._seated = self._seated or self.own, parts
        place = parts.placement
        if place.offload != "none" or place.device == HOME or before is parts:
            return
        free = available_bytes(place.device)
        if free is not None and bytes_of(parts.modules()) > free:
            for module in (*before.text.towers, before.unet_module):
                place.moving(module, HOME)
            release(place)
        for module in parts.modules():
            place.moving(module, place.device)


def companions_of(request: ImageRequest) -> list[CheckpointRef]:
    """Return the checkpoints that a job needs beside the loaded one, each once."""
    found = [] if request.refiner is None else [request.refiner.checkpoint]
    if request.hires is not None and request.hires.checkpoint is not None:
        found.append(request.hires.checkpoint)
    return list({ref.path: ref for ref in found}.values())


def extra_bytes(request: ImageRequest, source: str, place: Placement) -> int:
    """Return what the weights of a job's companions take in the pool where it runs; on a device they take turns.

    Files that cannot be read count nothing: loading them says why.
    """
    if place.device != HOME:
        return 0
    paths = [Path(ref.path) for ref in companions_of(request) if ref.path != source]
    return sum(_weights_in(path, place.precision) for path in paths)


def bytes_of(modules: tuple[nn.Module, ...]) -> int:
    """Return the bytes of the modules' tensors that are not on an accelerator yet."""
    tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.device == HOME)


def _weights_in(path: Path, precision: Precision) -> int:
    width = precision.model.itemsize
    try:
        if path.name == folder.INDEX:
            files = path.parent.glob("*/*.safetensors")
            return sum(_values_in(file) for file in files) * width
        return _values_in(path) * width
    except (OSError, LoadFailed):
        return 0


def _values_in(path: Path) -> int:
    with ExitStack() as stack:
        try:
            tensors = stack.enter_context(open_tensors(path, allow_pickle=False))
        except LoadFailed:
            return path.stat().st_size // torch.float16.itemsize
        return sum(torch.Size(shape).numel() for shape in tensors.shapes.values())
