"""Pictures whose edges meet: every convolution wraps around."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def wrapped(modules: Iterable[nn.Module], is_tiling: bool) -> Iterator[None]:
    """While it lasts, all convolutions of the modules pad circularly, when `is_tiling`."""
    convolutions = [
        layer for module in modules for layer in module.modules() if is_tiling and isinstance(layer, nn.Conv2d)
    ]
    for layer in convolutions:
        layer.padding_mode = "circular"
    try:
        yield
    finally:
        for layer in convolutions:
            layer.padding_mode = "zeros"
