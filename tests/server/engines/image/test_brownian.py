"""The Brownian tree against numbers recorded from A1111 and against its own laws."""

import pytest
import torch

from server.core.image import Denoise, Seeds
from server.engines.image.brownian import BrownianTree, batched
from server.engines.image.schedules import SigmaTable, alphas_cumprod, sigmas
from server.engines.image.seeds import NoiseSource

pytestmark = pytest.mark.torch

RECORDED = (
    (-0.7637613, -1.1367806, -0.7551301, 0.2719526),
    (0.5865992, 1.2327100, -0.2863490, -1.7038431),
    (-1.6964267, 0.3043342, 0.8469259, -0.8221943),
)


def tree(seed: int = 7, low: float = 0.03, high: float = 14.6) -> BrownianTree:
    def draw(node: int) -> torch.Tensor:
        return torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(node))

    return BrownianTree(low, high, seed, draw)


@pytest.fixture(scope="module")
def exponential() -> torch.Tensor:
    # The recording's schedule began at 14.61464, not at the table's end; points a millionth apart are other points.
    return sigmas(SigmaTable.of(alphas_cumprod()), Denoise(schedule="exponential", sigma_max=14.61464), 20)


def test_recorded_noise_of_the_first_steps(exponential: torch.Tensor) -> None:
    source = NoiseSource(Seeds(first=12345, source="cpu"), [0], (4, 64, 64))
    noise = source.brownian(float(exponential[-2]), float(exponential[0]))
    for step, expected in enumerate(RECORDED):
        drawn = noise(exponential[step], exponential[step + 1])
        assert drawn.shape == (1, 4, 64, 64)
        assert drawn.flatten()[:4].tolist() == pytest.approx(expected, abs=1e-6)


def test_recorded_noise_of_the_software_generator(exponential: torch.Tensor) -> None:
    source = NoiseSource(Seeds(first=12345, source="philox"), [0], (4, 64, 64))
    noise = source.brownian(float(exponential[-2]), float(exponential[0]))
    expected = (1.7400060, 0.5012507, 0.9429644, -0.2890832)
    assert noise(exponential[0], exponential[1]).flatten()[:4].tolist() == pytest.approx(expected, abs=1e-6)


def test_increments_add_up() -> None:
    path = tree()
    whole = path.increment(0.5, 9.0)
    assert torch.allclose(path.increment(0.5, 2.7) + path.increment(2.7, 9.0), whole, atol=1e-5)


def test_order_of_questions_does_not_matter() -> None:
    spans = [(0.03, 0.2), (0.2, 3.0), (3.0, 3.1), (3.1, 14.6), (1.0, 10.0)]
    forward, backward = tree(), tree()
    answers = [forward.increment(*span) for span in spans]
    others = [backward.increment(*span) for span in reversed(spans)]
    assert all(torch.equal(a, b) for a, b in zip(answers, reversed(others), strict=True))


def test_forgotten_nodes_are_drawn_again_alike() -> None:
    path = tree()
    first = path.increment(0.1234, 0.2345)
    for i in range(100):
        path.increment(1 + i / 10, 1.05 + i / 10)
    assert torch.equal(path.increment(0.1234, 0.2345), first)


def test_points_outside_are_clipped() -> None:
    path = tree()
    assert torch.equal(path.increment(0.0, 20.0), path.increment(0.03, 14.6))


def test_no_time_no_motion() -> None:
    assert not tree().increment(1.0, 1.0).any()
    assert not batched([tree()])(torch.tensor(2.0), torch.tensor(2.0)).any()


def test_noise_has_unit_variance_and_the_sign_of_the_direction() -> None:
    noise = batched([tree(seed) for seed in range(60)])
    down = noise(torch.tensor(5.0), torch.tensor(1.3))
    assert down.shape == (60, 4, 8, 8)
    assert abs(float(down.std()) - 1) < 0.02
    assert torch.equal(noise(torch.tensor(1.3), torch.tensor(5.0)), -down)


def test_seeds_make_different_paths() -> None:
    assert not torch.equal(tree(1).increment(1.0, 2.0), tree(2).increment(1.0, 2.0))
    assert torch.equal(tree(-1).increment(1.0, 2.0), tree(2**64 - 1).increment(1.0, 2.0))
