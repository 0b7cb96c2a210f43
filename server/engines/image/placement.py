"""Where and in which precision a checkpoint runs."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from server.core.errors import LoadFailed, OutOfMemory
from server.core.memory import RAM, PoolId, vram
from server.core.models import ImageSettings
from server.core.processor import multiplies_bfloat16, read_cpuinfo
from server.engines.image.offload import Mode, Move, Seats, move

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The dtypes to run in."""

    model: torch.dtype
    vae: torch.dtype


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Device and precision of a model, and how its parts share the device (`offload`; `moving` is how they move)."""

    device: torch.device
    precision: Precision
    offload: Mode = "none"
    moving: Move = move
    seats: Seats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seats", Seats(self.device, self.offload, self.moving))

    @property
    def pool(self) -> PoolId:
        """Return the memory pool that the device draws from."""
        return vram(self.device.index or 0) if self.device.type in ("cuda", "xpu") else RAM


class Placeable(Protocol):
    """A loaded model as far as its place is concerned. This file knows no libraries of models: they load slowly."""

    @property
    def unet(self) -> nn.Module:
        """Return the largest part."""
        ...

    def modules(self) -> tuple[nn.Module, ...]:
        """Return all parts in the order in which a picture needs them."""
        ...


def choose(settings: ImageSettings, offload: Mode = "none", *, cpuinfo: str | None = None) -> Placement:
    """Turn the settings into a device and dtypes that exist here; `offload` is the memory mode, which a CPU ignores.

    `auto` is the first accelerator, else the CPU; and float16 on accelerators, on the CPU bfloat16 where it multiplies
    that by itself (`processor`), float32 where it does not. Pictures are A1111's to the last levels in float32 alone;
    on such CPUs that is asked for with `dtype = "float32"`. The VAE goes with the model unless `vae_dtype` differs.

    Raises:
        LoadFailed: the device named is not there, or an unknown dtype.
    """
    device = _device(settings.device)
    model = _dtype(settings.dtype, _automatic(device, read_cpuinfo() if cpuinfo is None else cpuinfo))
    precision = Precision(model=model, vae=_dtype(settings.vae_dtype, model))
    return Placement(device=device, precision=precision, offload="none" if device.type == "cpu" else offload)


def place(loaded: Placeable, placement: Placement) -> None:
    """Bring a checkpoint where it runs: on the device, or ready to visit it part by part."""
    placement.seats.admit(loaded.modules())
    placement.seats.split(loaded.unet)


@contextmanager
def visiting(module: nn.Module, placement: Placement) -> Iterator[None]:
    """While it lasts, the module is on the device; afterwards until another one wants to be."""
    placement.seats.take(module)
    yield


@contextmanager
def memory_errors(placement: Placement) -> Iterator[None]:
    """Turn torch's out-of-memory error into the core's, after giving its cache back."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        release(placement)
        name = str(placement.device)
        raise OutOfMemory(f"{name} ran out of memory; a smaller size or batch may fit", device=name) from error


def release(placement: Placement) -> None:
    """Give unused memory back to the device."""
    gc.collect()
    if placement.device.type == "cuda":
        torch.cuda.empty_cache()
    elif placement.device.type == "xpu":
        torch.xpu.empty_cache()
    elif placement.device.type == "mps":
        torch.mps.empty_cache()


def _device(name: str) -> torch.device:
    if name == "auto":
        return _accelerator() or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise LoadFailed(f"no device is called {name!r}; say auto, cpu, cuda, cuda:1, xpu or mps") from error
    if device.type != "cpu" and not _is_there(device):
        raise LoadFailed(f"the device {name!r} is not available here")
    return device


def _accelerator() -> torch.device | None:
    for kind in ("cuda", "xpu", "mps"):
        if _is_there(torch.device(kind)):
            return torch.device(kind)
    return None


def _is_there(device: torch.device) -> bool:
    index = device.index or 0
    match device.type:
        case "cuda":
            return torch.cuda.is_available() and index < torch.cuda.device_count()
        case "xpu":
            return torch.xpu.is_available() and index < torch.xpu.device_count()
        case "mps":
            return torch.backends.mps.is_available()
    return False


def _automatic(device: torch.device, cpuinfo: str) -> torch.dtype:
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if multiplies_bfloat16(cpuinfo) else torch.float32


def _dtype(name: str, automatic: torch.dtype) -> torch.dtype:
    if name == "auto":
        return automatic
    if name not in DTYPES:
        raise LoadFailed(f"unknown dtype {name!r}; known are auto, {', '.join(DTYPES)}")
    return DTYPES[name]
