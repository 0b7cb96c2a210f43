import pytest
import torch

from server.engines.image.lora_kinds import change

pytestmark = pytest.mark.torch


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


WEIGHT = rand(6, 4, seed=99)
KERNEL = rand(6, 4, 3, 3, seed=98)


def delta(group: dict[str, torch.Tensor], weight: torch.Tensor = WEIGHT) -> torch.Tensor:
    found = change(group, weight)
    assert found is not None
    assert found.weight is not None
    assert found.weight.shape == weight.shape
    return found.weight


@pytest.mark.parametrize(("up", "down"), [("lora_up", "lora_down"), ("lora_B", "lora_A")])
def test_low_rank(up: str, down: str) -> None:
    a, b = rand(6, 2, seed=1), rand(2, 4, seed=2)
    assert torch.allclose(delta({up: a, down: b}), a @ b)
    assert torch.allclose(delta({up: a, down: b, "alpha": torch.tensor(1.0)}), a @ b / 2)
    assert torch.allclose(delta({up: a, down: b, "scale": torch.tensor(3.0)}), a @ b * 3)


def test_low_rank_kernels() -> None:
    up, down = rand(6, 2, 1, 1, seed=1), rand(2, 4, 3, 3, seed=2)
    expected = torch.nn.functional.conv2d(down.transpose(0, 1), up).transpose(0, 1)
    assert torch.allclose(delta({"lora_up": up, "lora_down": down}, KERNEL), expected, atol=1e-6)


def test_low_rank_kernels_with_a_core() -> None:
    up, mid, down = rand(6, 2, 1, 1, seed=1), rand(2, 3, 3, 3, seed=2), rand(3, 4, 1, 1, seed=3)
    inner = torch.einsum("nmkl,mj->njkl", mid, down[:, :, 0, 0])
    expected = torch.einsum("in,njkl->ijkl", up[:, :, 0, 0], inner)
    assert torch.allclose(delta({"lora_up": up, "lora_mid": mid, "lora_down": down}, KERNEL), expected, atol=1e-5)


def test_hadamard() -> None:
    a, b, c, d = rand(6, 2, seed=1), rand(2, 4, seed=2), rand(6, 2, seed=3), rand(2, 4, seed=4)
    group = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d, "alpha": torch.tensor(4.0)}
    assert torch.allclose(delta(group), (a @ b) * (c @ d) * 2)


def test_kronecker() -> None:
    a, b = rand(3, 2, seed=1), rand(2, 2, seed=2)
    assert torch.allclose(delta({"lokr_w1": a, "lokr_w2": b}), torch.kron(a, b))
    left, right = rand(2, 1, seed=3), rand(1, 2, seed=4)
    group = {"lokr_w1": a, "lokr_w2_a": left, "lokr_w2_b": right, "alpha": torch.tensor(0.5)}
    assert torch.allclose(delta(group), torch.kron(a, left @ right) * 0.5)
    kernel = rand(2, 2, 3, 3, seed=5)
    found = delta({"lokr_w1": a, "lokr_w2": kernel}, KERNEL)
    assert torch.allclose(found[:, :, 1, 2], torch.kron(a, kernel[:, :, 1, 2]))


def test_columns_or_rows_are_scaled() -> None:
    columns, rows = rand(4, seed=1), rand(6, seed=2)
    assert torch.allclose(delta({"weight": columns, "on_input": torch.tensor(1)}), WEIGHT * columns)
    assert torch.allclose(delta({"weight": rows, "on_input": torch.tensor(0)}), WEIGHT * rows[:, None])


def test_whole_differences_with_bias() -> None:
    found = change({"diff": WEIGHT, "diff_b": torch.ones(6)}, WEIGHT)
    assert found is not None
    assert torch.equal(found.weight, WEIGHT) if found.weight is not None else False
    assert found.bias is not None
    norm = change({"w_norm": torch.ones(6), "b_norm": torch.zeros(6)}, torch.ones(6))
    assert norm is not None
    assert norm.bias is not None


def test_decomposition_gives_columns_the_stored_length() -> None:
    group = {
        "lora_up": rand(6, 2, seed=1),
        "lora_down": rand(2, 4, seed=2),
        "dora_scale": torch.tensor([[1.0, 2, 3, 4]]),
    }
    assert torch.allclose((WEIGHT + delta(group)).norm(dim=0), torch.tensor([1.0, 2, 3, 4]))
    kernel = {"lora_up": rand(6, 2, 1, 1, seed=1), "lora_down": rand(2, 4, 3, 3, seed=2)}
    kernel["dora_scale"] = torch.tensor([1.0, 2, 3, 4]).reshape(1, 4, 1, 1)
    moved = KERNEL + delta(kernel, KERNEL)
    assert torch.allclose(moved.transpose(0, 1).flatten(1).norm(dim=1), torch.tensor([1.0, 2, 3, 4]), atol=1e-5)


@pytest.mark.parametrize(
    "group",
    [
        {},
        {"alpha": torch.tensor(1.0)},
        {"lora_up": rand(6, 2)},
        {"lora_up": rand(6, 2), "lora_down": rand(3, 4)},
        {"lora_up": rand(5, 2), "lora_down": rand(2, 4)},
        {"lora_up": torch.tensor(1.0), "lora_down": torch.tensor(1.0)},
        {"lokr_w1": rand(300, 200), "lokr_w2": rand(300, 200)},
        {"oft_blocks": rand(2, 3, 3)},
        {"weight": rand(5), "on_input": torch.tensor(1)},
        {"lora_up": rand(6, 2), "lora_down": rand(2, 4), "dora_scale": rand(7)},
    ],
)
def test_what_does_not_fit_changes_nothing(group: dict[str, torch.Tensor]) -> None:
    assert change(group, WEIGHT) is None


def test_inputs_that_a_lora_does_not_know_stay() -> None:
    """The first convolution of an inpainting model has nine inputs, LoRAs were trained on four."""
    up, down = torch.ones(3, 1, 1, 1), torch.full((1, 4, 3, 3), 2.0)
    found = change({"lora_up": up, "lora_down": down}, torch.zeros(3, 9, 3, 3))
    assert found is not None
    assert found.weight is not None
    assert bool((found.weight[:, :4] == 2.0).all())
    assert not found.weight[:, 4:].any()
    assert change({"lora_up": up, "lora_down": down}, torch.zeros(3, 3, 3, 3)) is None
