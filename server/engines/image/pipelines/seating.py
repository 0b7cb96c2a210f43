"""A pipeline's networks on their device: all of them, or by turns, as `offload` says. Bit for bit the same pictures."""

from typing import Any

import torch
from torch import nn

from server.engines.image.pipelines.loaded import Modules
from server.engines.image.placement import Placement


def seated(kind: type, placement: Placement) -> type:
    """Return the pipeline's class as one that knows where it computes, wherever its networks are just now."""
    device = placement.device
    return type(kind.__name__, (kind,), {"_execution_device": property(lambda self: device)})


def seat(modules: Modules, placement: Placement) -> None:
    """Bring the networks where they run, or have each come there when it is called."""
    seats = placement.seats
    seats.admit(modules.modules())
    if placement.offload == "low":
        seats.split(modules.unet)
        _keep(modules.unet, placement)
    if placement.offload != "none":
        for module in modules.modules():
            if module is not modules.vae and not (module is modules.unet and placement.offload == "low"):
                _come_when_called(module, placement)
    if modules.vae is not None:
        _read_by(modules.vae, placement)


def _come_when_called(module: nn.Module, placement: Placement) -> None:
    """Seat a module before it or a child of it works: pipelines call parts of text encoders, too."""

    def come(_: nn.Module, __: object) -> None:
        placement.seats.take(module)

    for each in (module, *module.children()):
        each.register_forward_pre_hook(come)


def _keep(module: nn.Module, placement: Placement) -> None:
    """Put what belongs to no block on the device for good; its blocks come and go."""
    for own in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        own.data = own.data.to(placement.device)


def _read_by(vae: Any, placement: Placement) -> None:
    """Have a VAE seated, and given numbers of its own kind and place, whenever it encodes or decodes."""

    def wrapped(inner: Any) -> Any:
        def call(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            placement.seats.take(vae)
            return inner(x.to(placement.device, vae.dtype), *args, **kwargs)

        return call

    vae.encode, vae.decode = wrapped(vae.encode), wrapped(vae.decode)
