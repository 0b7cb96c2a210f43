"""A loaded pipeline as jobs use it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from server.core.errors import LoadFailed
from server.engines.image.pipelines.adapters import PipelineAdapters
from server.engines.image.pipelines.latents import Grid
from server.engines.image.pipelines.room import PipelineRoom
from server.engines.image.pipelines.watching import Watch
from server.engines.image.placement import Placement
from server.engines.image.upscaling.lending import Lender

BODIES = ("transformer", "unet", "unconditional_transformer")
"""Parts that remove noise."""

VAES = ("vae", "vqgan", "movq")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A pipeline where it runs, of the file `source`.

    `grid` None = it draws its noise by itself. `unit`: sides are multiples of it.
    """

    pipeline: Any
    source: str
    watch: Watch
    grid: Grid | None
    unit: int
    placement: Placement
    room: PipelineRoom
    adapters: PipelineAdapters
    upscalers: Lender

    @property
    def is_interruptible(self) -> bool:
        """Tell whether the pipeline leaves out the rest of its steps when it is told to."""
        return isinstance(getattr(type(self.pipeline), "interrupt", None), property)

    @contextmanager
    def led(self, **leading: Any) -> Iterator[None]:
        """While it lasts, somebody leads the pipeline's scheduler: see `Watch.lead`."""
        self.watch.lead(**leading)
        try:
            yield
        finally:
            self.watch.lead()


@dataclass(frozen=True, kw_only=True)
class Modules:
    """The networks of a pipeline by what they are for, in the order in which a picture needs them."""

    texts: tuple[nn.Module, ...]
    unet: nn.Module
    others: tuple[nn.Module, ...]
    vae: nn.Module | None

    def modules(self) -> tuple[nn.Module, ...]:
        """Return all of them."""
        last = () if self.vae is None else (self.vae,)
        return (*self.texts, self.unet, *self.others, *last)


def modules_of(parts: Mapping[str, Any]) -> Modules:
    """Return the networks among a pipeline's parts; the first that removes noise is its largest part.

    Raises:
        LoadFailed: none of them removes noise.
    """
    found = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    bodies = [found[name] for name in BODIES if name in found]
    if not bodies:
        raise LoadFailed(f"the folder has none of the parts {', '.join(BODIES)}")
    vae = next((found[name] for name in VAES if name in found), None)
    rest = [part for part in found.values() if part is not vae and all(part is not body for body in bodies)]
    return Modules(texts=tuple(rest), unet=bodies[0], others=tuple(bodies[1:]), vae=vae)


def bytes_of(module: nn.Module | None) -> int:
    """Return the bytes of a module's tensors."""
    if module is None:
        return 0
    tensors: list[torch.Tensor] = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
