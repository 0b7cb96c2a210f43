"""Modules that share a device: who moves when, counted without a second device."""

import pytest
import torch
from torch import nn

from server.engines.image.offload import Mode, Seats

DEVICE = torch.device("meta")
"""Anything but the CPU: the moves are only written down."""


class Moves:
    """Writes moves down instead of making them."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []

    def __call__(self, module: nn.Module, device: torch.device) -> None:
        name = module.get_parameter("weight").data[0, 0].item() if isinstance(module, nn.Linear) else module
        self.made.append((f"{name:.0f}" if isinstance(name, float) else type(name).__name__, device.type))


def part(number: int) -> nn.Linear:
    made = nn.Linear(1, 1)
    made.weight.data.fill_(number)
    return made


def seats(mode: Mode) -> tuple[Seats, Moves]:
    moves = Moves()
    return Seats(DEVICE, mode, moves), moves


def test_without_a_memory_mode_all_move_once() -> None:
    found, moves = seats("none")
    one, two = part(1), part(2)
    found.admit([one, two])
    found.take(two)
    found.take(one)
    found.clear()
    assert moves.made == [("1", "meta"), ("2", "meta")]


@pytest.mark.parametrize("mode", ["medium", "low"])
def test_one_at_a_time_and_who_works_twice_moves_once(mode: Mode) -> None:
    found, moves = seats(mode)
    one, two = part(1), part(2)
    found.admit([one, two])
    assert moves.made == []
    for module in (one, one, two, two, one):
        found.take(module)
    found.clear()
    found.clear()
    assert moves.made == [
        *[("1", "meta"), ("1", "cpu")],
        *[("2", "meta"), ("2", "cpu")],
        *[("1", "meta"), ("1", "cpu")],
    ]


class Network(nn.Module):
    """Calls a part, then those of a list, then one without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = part(1)
        self.blocks = nn.ModuleList([part(2), part(3)])
        self.act = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.act(x)
        return out


def test_low_moves_block_by_block_while_the_network_runs() -> None:
    found, moves = seats("low")
    network, other = Network(), part(9)
    found.admit([network, other])
    found.split(network)
    found.take(other)
    found.take(network)
    network(torch.ones(1, 1))
    found.take(other)
    assert [name for name, device in moves.made if device == "meta"] == ["9", "1", "2", "3", "9"]
    assert [name for name, device in moves.made if device == "cpu"] == ["9", "1", "2", "3"]


@pytest.mark.parametrize("mode", ["none", "medium"])
def test_other_modes_split_nothing(mode: Mode) -> None:
    found, moves = seats(mode)
    network = Network()
    found.split(network)
    network(torch.ones(1, 1))
    assert moves.made == []
