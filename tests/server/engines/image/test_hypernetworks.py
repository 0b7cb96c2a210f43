from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from server.core.errors import LoadFailed
from server.core.image import HypernetworkRef
from server.engines.image.hypernetworks import Hypernetworks, read_hypernetwork
from server.engines.image.placement import Placement
from tests.server.engines.image.conftest import FLOAT32

pytestmark = pytest.mark.torch

PLACE = Placement(device=torch.device("cpu"), precision=FLOAT32)
WIDTH = 4


def linear(into: int, out: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"weight": torch.randn(out, into, generator=generator), "bias": torch.randn(out, generator=generator)}


def state(*layers: tuple[int, dict[str, torch.Tensor]]) -> OrderedDict[str, torch.Tensor]:
    """Return a network's tensors, each layer under its number."""
    return OrderedDict((f"linear.{n}.{name}", tensor) for n, layer in layers for name, tensor in layer.items())


KEYS = state((0, linear(4, 8, 1)), (1, linear(8, 4, 2)))
VALUES = state((0, linear(4, 8, 3)), (1, linear(8, 4, 4)))
X = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(9))


def written(path: Path, pairs: dict[int, Any] | None = None, **facts: Any) -> Path:
    torch.save({"step": 10, "name": "x", **facts, **(pairs or {WIDTH: [KEYS, VALUES]})}, path)
    return path


def two(x: torch.Tensor, tensors: dict[str, torch.Tensor], between: Any, last: Any) -> torch.Tensor:
    hidden = between(x @ tensors["linear.0.weight"].T + tensors["linear.0.bias"])
    return last(hidden @ tensors["linear.1.weight"].T + tensors["linear.1.bias"])


def same(x: torch.Tensor) -> torch.Tensor:
    return x


@pytest.mark.parametrize(
    ("facts", "between", "last"),
    [
        ({}, same, same),
        ({"activation_func": "linear"}, same, same),
        ({"activation_func": "relu"}, torch.relu, torch.relu),
        ({"activation_func": "tanh", "activate_output": False}, torch.tanh, same),
        ({"activation_func": "swish", "activate_output": False}, nn.functional.hardswish, same),
        ({"activation_func": "LeakyReLU", "activate_output": True}, nn.functional.leaky_relu, nn.functional.leaky_relu),
    ],
)
def test_layers_and_activations(tmp_path: Path, facts: dict[str, Any], between: Any, last: Any) -> None:
    keys, values = read_hypernetwork(written(tmp_path / "x.pt", **facts), allow_pickle=True).pairs[WIDTH]
    for network, tensors in ((keys, KEYS), (values, VALUES)):
        assert torch.allclose(network(X), two(X, tensors, between, last), atol=1e-5)


def test_layer_norms_and_gaps_where_dropout_was(tmp_path: Path) -> None:
    norm = {"weight": torch.full((8,), 2.0), "bias": torch.ones(8)}
    tensors = state((0, linear(4, 8, 1)), (2, norm), (5, linear(8, 4, 2)))
    path = written(tmp_path / "x.pt", {WIDTH: [tensors, tensors]}, activation_func="relu", activate_output=False)
    keys, _ = read_hypernetwork(path, allow_pickle=True).pairs[WIDTH]
    hidden = torch.relu(X @ tensors["linear.0.weight"].T + tensors["linear.0.bias"])
    hidden = nn.functional.layer_norm(hidden, (8,), norm["weight"], norm["bias"])
    assert torch.allclose(keys(X), hidden @ tensors["linear.5.weight"].T + tensors["linear.5.bias"], atol=1e-5)


def test_the_names_of_the_first_files(tmp_path: Path) -> None:
    def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name.replace("linear.0", "linear1").replace("linear.1", "linear2"): t for name, t in tensors.items()}

    old = written(tmp_path / "old.pt", {WIDTH: [renamed(KEYS), renamed(VALUES)]})
    (keys, _), (same_keys, _) = (
        read_hypernetwork(path, allow_pickle=True).pairs[WIDTH] for path in (old, written(tmp_path / "new.pt"))
    )
    assert torch.equal(keys(X), same_keys(X))


@pytest.mark.parametrize(
    "tree",
    [
        {"x": torch.zeros(1)},
        {WIDTH: [KEYS]},
        {WIDTH: [KEYS, {}]},
        {WIDTH: [KEYS, state((0, linear(4, 8, 1)))]},
        {WIDTH: [KEYS, state((0, linear(5, 4, 1)))]},
        {WIDTH: [KEYS, state((0, {"weight": torch.zeros(1, 1, 1)}))]},
        {WIDTH: [KEYS, state((0, {"weight": torch.zeros(4, 4), "bias": torch.zeros(3)}))]},
        {WIDTH: [KEYS, VALUES], "activation_func": "magic"},
        {WIDTH: [KEYS, VALUES], "activation_func": ["relu"]},
        {WIDTH: [KEYS, [1, 2]]},
    ],
)
def test_other_files_are_refused(tmp_path: Path, tree: dict[Any, Any]) -> None:
    torch.save(tree, tmp_path / "x.pt")
    with pytest.raises(LoadFailed):
        read_hypernetwork(tmp_path / "x.pt", allow_pickle=True)


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, 2, bias=False) for _ in range(3))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fits = Attention(WIDTH)
        self.other = Attention(6)


def ref(path: Path, multiplier: float = 1.0) -> HypernetworkRef:
    return HypernetworkRef(name=path.stem, path=str(path), multiplier=multiplier)


def answers(unet: UNet) -> list[torch.Tensor]:
    with torch.no_grad():
        return [layer(X) for layer in (unet.fits.to_q, unet.fits.to_k, unet.fits.to_v)]


def test_keys_and_values_are_changed_and_come_back(tmp_path: Path) -> None:
    unet, path = UNet(), written(tmp_path / "x.pt")
    acting = Hypernetworks(unet, PLACE, allow_pickle=True)
    before = answers(unet)
    assert acting.use([ref(path, 0.5)]) == ()
    with torch.no_grad():
        expected = [
            before[0],
            unet.fits.to_k.weight.new_tensor(0) + (X + 0.5 * two(X, KEYS, same, same)) @ unet.fits.to_k.weight.T,
            (X + 0.5 * two(X, VALUES, same, same)) @ unet.fits.to_v.weight.T,
        ]
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(answers(unet), expected, strict=True))
    assert acting.use([]) == ()
    assert all(torch.equal(*pair) for pair in zip(answers(unet), before, strict=True))


def test_several_act_one_after_the_other(tmp_path: Path) -> None:
    unet, path = UNet(), written(tmp_path / "x.pt")
    Hypernetworks(unet, PLACE, allow_pickle=True).use([ref(path, 0.5), ref(path, 2.0)])
    once = X + 0.5 * two(X, KEYS, same, same)
    with torch.no_grad():
        expected = (once + 2.0 * two(once, KEYS, same, same)) @ unet.fits.to_k.weight.T
    assert torch.allclose(answers(unet)[1], expected, atol=1e-4)


def test_what_cannot_act_is_noted(tmp_path: Path) -> None:
    unet = UNet()
    acting = Hypernetworks(unet, PLACE, allow_pickle=True)
    wide = written(tmp_path / "wide.pt", {2: [state((0, linear(2, 2, 1))), state((0, linear(2, 2, 2)))]})
    notes = acting.use([ref(tmp_path / "gone.pt"), ref(wide)])
    assert ["gone" in notes[0], "another kind of model" in notes[1]] == [True, True]
    assert acting.use([ref(tmp_path / "gone.pt"), ref(wide)]) == notes


def test_pickles_only_when_they_are_allowed(tmp_path: Path) -> None:
    path = written(tmp_path / "x.pt")
    (note,) = Hypernetworks(UNet(), PLACE, allow_pickle=False).use([ref(path)])
    assert "pickle" in note
