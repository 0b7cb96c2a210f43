"""Who sits on the device: in the memory modes, parts of a model take turns on it.

| mode | on the device at a time |
|---|---|
| `none` | everything, always |
| `medium` | one of text encoder, UNet and VAE |
| `low` | one text encoder, the VAE, or one block of the UNet |

Whoever is about to work takes the seat; who sat there goes home first. So a part that works twice in a row moves once.
Parts are moved whole and bit for bit: results do not depend on the mode.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import nn

Mode = Literal["none", "medium", "low"]

Move = Callable[[nn.Module, torch.device], None]

HOME = torch.device("cpu")


def move(module: nn.Module, device: torch.device) -> None:
    """Move a module with all its tensors."""
    module.to(device)


class Seats:
    """One seat on a device, and who has it. `moving` is how modules move (tests count)."""

    def __init__(self, device: torch.device, mode: Mode, moving: Move = move) -> None:
        self.device = device
        self.mode = mode
        self._moving = moving
        self._seated: nn.Module | None = None
        self._split: set[nn.Module] = set()

    def admit(self, modules: Iterable[nn.Module]) -> None:
        """Take in freshly loaded modules: all of them sit for good in mode `none`, else they stay at home."""
        if self.mode == "none":
            for module in modules:
                self._moving(module, self.device)

    def split(self, module: nn.Module) -> None:
        """In mode `low`, let the children of a module take the seat one by one, each when it is called."""
        if self.mode != "low":
            return
        self._split.add(module)
        for block in _blocks(module):
            block.register_forward_pre_hook(self._before)

    def take(self, module: nn.Module) -> None:
        """Seat a module, so that it can be called now; who sat there goes home."""
        if self.mode == "none" or module is self._seated or module in self._split:
            return
        self.clear()
        self._moving(module, self.device)
        self._seated = module

    def forget(self, module: nn.Module) -> None:
        """Let go of a module that will not be called again."""
        if module is self._seated:
            self._seated = None
        self._split.discard(module)

    def clear(self) -> None:
        """Send whoever sits home."""
        if self._seated is not None:
            self._moving(self._seated, HOME)
            self._seated = None

    def _before(self, block: nn.Module, args: object) -> None:
        self.take(block)


def _blocks(module: nn.Module) -> list[nn.Module]:
    """Return the parts of a module that are called one after the other; members of lists are parts of their own."""
    blocks: list[nn.Module] = []
    for child in module.children():
        blocks.extend(child if isinstance(child, nn.ModuleList) else [child])
    return [block for block in blocks if any(True for _ in block.parameters())]
