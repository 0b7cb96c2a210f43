"""Networks that spandrel knows (SwinIR, DAT, HAT, ScuNET, ...): an optional package, imported only when it is needed.

spandrel imports torchvision for two networks that enlarge nothing. Where torchvision is missing, or does not fit the
installed torch, empty names stand in for it while spandrel is imported, and all other networks work.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from server.core.errors import LoadFailed

STANDING_IN = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
NEEDED = ("InterpolationMode", "rotate", "normalize")


def open_state(state: dict[str, torch.Tensor], name: str) -> Any:
    """Return spandrel's descriptor of a network, which is called with [1, 3, h, w] and fills sides up as it needs.

    Raises:
        LoadFailed: spandrel is not installed, does not know the network, or it is not one that enlarges pictures.
    """
    spandrel = _spandrel(name)
    try:
        found = spandrel.ModelLoader().load_from_state_dict(state)
    except spandrel.UnsupportedModelError as error:
        raise LoadFailed(f"{name} holds a network of a kind that is not known") from error
    except (RuntimeError, ValueError, KeyError, AssertionError, TypeError, IndexError) as error:
        raise LoadFailed(f"{name} is no complete network ({type(error).__name__})") from error
    usable = isinstance(found, spandrel.ImageModelDescriptor) and found.purpose in ("SR", "Restoration")
    if not usable or found.input_channels != 3 or found.output_channels != 3:
        raise LoadFailed(f"{name} holds a network that does not enlarge pictures in three colours")
    found.model.eval().requires_grad_(False)
    return found


def _spandrel(name: str) -> Any:
    try:
        with _torchvision_or_nothing():
            return importlib.import_module("spandrel")
    except ImportError as error:
        text = f"{name} holds a network that needs the optional package spandrel; install hearth[upscalers]"
        raise LoadFailed(text) from error


@contextmanager
def _torchvision_or_nothing() -> Iterator[None]:
    """While it lasts, torchvision can be imported, if only as names without anything behind them."""
    try:
        importlib.import_module("torchvision.transforms.functional")
    except Exception:  # a build for another torch fails with what its native part raises
        for module in [key for key in sys.modules if key.split(".")[0] == "torchvision"]:
            del sys.modules[module]
    else:
        yield
        return
    for module in STANDING_IN:
        sys.modules[module] = ModuleType(module)
    for needed in NEEDED:
        setattr(sys.modules[STANDING_IN[-1]], needed, None)
    try:
        yield
    finally:
        for module in STANDING_IN:
            sys.modules.pop(module, None)
