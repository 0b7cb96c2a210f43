import numpy as np
import pytest
import torch

from server.core.image import Size, SoftInpaint
from server.engines.image.soft_inpainting import blend, mask_of_change, weighted_window

pytestmark = pytest.mark.torch

SOFT = SoftInpaint()


def latents(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(seed))


OLD, NEW = latents(1), latents(2)


def test_ends_of_the_mask_are_old_and_new() -> None:
    for share, wanted in ((0.0, OLD), (1.0, NEW)):
        made = blend(SOFT, OLD, NEW, torch.full((6, 5), share), 3.0)
        assert torch.allclose(made, wanted, atol=1e-4)


def test_lengths_are_mixed_as_powers() -> None:
    shades = torch.full((6, 5), 0.5)
    level, soft = 2.0, SoftInpaint(schedule_bias=2, preservation=0.25, contrast=4)
    share = 0.5 ** (level**2 * 0.25)
    made = blend(soft, OLD, NEW, shades, level)
    lengths = [latent.norm(dim=1).double() for latent in (OLD, NEW, made)]
    wanted = (lengths[0] ** 4 * (1 - share) + lengths[1] ** 4 * share) ** 0.25
    assert torch.allclose(lengths[2], wanted, rtol=1e-3)
    mixed = OLD * (1 - share) + NEW * share
    assert torch.allclose(torch.cosine_similarity(made, mixed, dim=1), torch.ones(2, 6, 5), atol=1e-5)


def test_more_noise_keeps_more_of_the_old() -> None:
    shades = torch.full((6, 5), 0.5)
    gaps = [float((blend(SOFT, OLD, NEW, shades, level) - OLD).abs().mean()) for level in (0.1, 1.0, 10.0)]
    assert gaps == sorted(gaps, reverse=True)


def weights() -> np.ndarray:
    bell = np.array([[np.exp(-(y * y + x * x) / 2.25) for x in range(-2, 3)] for y in range(-2, 3)])
    outside = np.exp(-9 / 2.25)
    return np.maximum((bell - outside) / (1 - outside), 0)


def slow_window(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The rule in words, cell by cell: stack neighbours by value, take the mean of a part of the stack."""
    made = np.zeros_like(values)
    for (y, x), _ in np.ndenumerate(values):
        stack = []
        for (dy, dx), weight in np.ndenumerate(weights()):
            row, column = y + dy - 2, x + dx - 2
            if 0 <= row < values.shape[0] and 0 <= column < values.shape[1]:
                stack.append((float(values[row, column]), weight))
        stack.sort()
        total = sum(weight for _, weight in stack)
        first, last = total * low, total * high
        if last - first < 1:
            middle = (first + last) / 2
            first, last = middle - 0.5, middle + 0.5
            if last > total:
                first, last = total - 1, total
            if first < 0:
                first, last = 0, 1
        height = part = summed = 0.0
        for value, weight in stack:
            overlap = max(0.0, min(last, height + weight) - max(first, height))
            summed, part, height = summed + value * overlap, part + overlap, height + weight
        made[y, x] = summed / part
    return made


@pytest.mark.parametrize("window", [(0.9, 1.0), (0.25, 0.75), (0.0, 0.05)])
def test_the_window_filter(window: tuple[float, float]) -> None:
    values = np.random.default_rng(4).random((7, 6)).astype(np.float32)
    assert np.allclose(weighted_window(values, *window), slow_window(values, *window), atol=1e-6)


def test_what_changed_much_is_new_and_the_rest_old() -> None:
    old = torch.zeros(4, 16, 16)
    new = old.clone()
    new[:, :, 8:] = 9.0
    mask = np.asarray(mask_of_change(SOFT, old, new, torch.ones(16, 16), Size(128, 128)))
    assert mask.shape == (128, 128)
    assert mask[:, :20].max() < 5
    assert mask[:, 100:].min() > 250


def test_a_mask_of_full_influence_may_divide_by_nothing() -> None:
    soft = SoftInpaint(mask_influence=1.0)
    old = torch.zeros(4, 8, 8)
    with_change, without = (
        np.asarray(mask_of_change(soft, old, new, torch.ones(8, 8), Size(64, 64))) for new in (old + 1, old)
    )
    assert (with_change.min(), without.max()) == (255, 0)
