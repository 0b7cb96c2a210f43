from pathlib import Path

import pytest
import torch

from server.core.errors import LoadFailed
from server.engines.image.upscaling.nets import open_network
from tests.support.tiny_upscaler import Naming, compact_state, renamed, rrdb_state, write_upscaler

pytestmark = pytest.mark.torch

IMAGE = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(5))
NAMINGS: tuple[Naming, ...] = ("new", "second", "first")


@pytest.mark.parametrize(("ups", "fold", "scale"), [(2, 1, 4), (1, 1, 2), (0, 1, 1), (3, 1, 8), (2, 2, 2), (2, 4, 1)])
def test_esrgan_by_any_name(tmp_path: Path, ups: int, fold: int, scale: int) -> None:
    state = rrdb_state(ups=ups, fold=fold, blocks=2)
    results = []
    for naming in NAMINGS:
        network = open_network(write_upscaler(tmp_path, naming, renamed(state, naming)), allow_pickle=False)
        assert network.scale == scale
        results.append(network.run(IMAGE))
    assert results[0].shape == (1, 3, 12 * scale, 16 * scale)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    assert results[0].std() > 1e-3, "it looks at the picture"


@pytest.mark.parametrize("wrapper", ["", "params_ema", "params", "state_dict"])
def test_trainers_wrap_their_tensors(tmp_path: Path, wrapper: str) -> None:
    state = rrdb_state(seed=3)
    plain = open_network(write_upscaler(tmp_path, "plain", state), allow_pickle=False)
    wrapped = open_network(write_upscaler(tmp_path, "wrapped", state, wrapper=wrapper), allow_pickle=True)
    assert torch.equal(plain.run(IMAGE), wrapped.run(IMAGE))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_compact_networks(tmp_path: Path, scale: int) -> None:
    network = open_network(write_upscaler(tmp_path, state=compact_state(scale=scale)), allow_pickle=False)
    assert network.scale == scale
    assert network.run(IMAGE).shape == (1, 3, 12 * scale, 16 * scale)


def test_sides_that_folding_does_not_divide(tmp_path: Path) -> None:
    network = open_network(write_upscaler(tmp_path, state=rrdb_state(fold=4)), allow_pickle=False)
    for height, width in ((13, 10), (1, 2), (3, 30)):
        assert network.run(torch.rand(1, 3, height, width)).shape == (1, 3, height, width)


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in rrdb_state().items()}
    network = open_network(write_upscaler(tmp_path, state=half), allow_pickle=False)
    assert {tensor.dtype for tensor in network.module.parameters()} == {torch.float32}


def broken(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = rrdb_state()
    for name, tensor in changes.items():
        key = name.replace("__", ".")
        if tensor is None:
            del state[key]
        else:
            state[key] = tensor
    return state


@pytest.mark.parametrize(
    "state",
    [
        broken(conv_hr__bias=None),
        broken(body__0__rdb2__conv3__weight=torch.zeros(4, 3, 3, 3)),
        broken(conv_first__weight=torch.zeros(8, 4, 3, 3)),
        broken(conv_last__weight=torch.zeros(1, 8, 3, 3)),
        {"some.weight": torch.zeros(3, 3)},
        rrdb_state(ups=0, fold=2),
    ],
)
def test_what_is_no_network(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(LoadFailed) as caught:
        open_network(write_upscaler(tmp_path, "bad", state), allow_pickle=False)
    assert str(tmp_path) not in caught.value.message


def test_pickles_only_when_they_are_allowed(tmp_path: Path) -> None:
    path = write_upscaler(tmp_path, wrapper="params")
    with pytest.raises(LoadFailed, match="pickle"):
        open_network(path, allow_pickle=False)


def test_a_file_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"epoch": 3}, path)
    with pytest.raises(LoadFailed, match="no tensors"):
        open_network(path, allow_pickle=True)
