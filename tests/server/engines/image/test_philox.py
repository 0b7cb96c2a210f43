"""Numbers recorded from A1111's NV source."""

import numpy as np
import pytest

from server.engines.image.philox import Philox

FIRST = [-0.9246624, -0.4253440, -2.6438458, 0.1451839, -0.1208665, -0.5797257]
FIRST += [-0.6228513, -0.3283871, -1.0745420, -0.3631441, -1.6710504, 2.2655051]


def test_first_draw() -> None:
    drawn = Philox(0).normal((3, 4))
    assert drawn.shape == (3, 4)
    assert drawn.dtype == np.float32
    assert drawn.flatten() == pytest.approx(FIRST, abs=1e-6)


def test_second_draw_does_not_depend_on_the_size_of_the_first() -> None:
    for size in (12, 1):
        philox = Philox(0)
        philox.normal((size,))
        assert philox.normal((3, 4))[0] == pytest.approx([0.1808259, -0.5522627, 0.9238134, -0.7349703], abs=1e-6)


def test_large_draw() -> None:
    drawn = Philox(12345).normal((4, 64, 64)).flatten()
    assert drawn[:5] == pytest.approx([0.5786413, -0.5247555, -0.2919037, 0.0140139, -2.1647296], abs=1e-6)
    assert drawn[-1] == pytest.approx(2.2562418, abs=1e-6)
    assert drawn.astype(np.float64).sum() == pytest.approx(-207.7339, abs=1e-3)


def test_seed_beyond_32_bits() -> None:
    expected = [-2.8427474, 1.3404924, 0.2722309, 1.4550629]
    assert Philox(2**32 + 5).normal((4,)) == pytest.approx(expected, abs=1e-6)
    assert not np.array_equal(Philox(5).normal((4,)), Philox(2**32 + 5).normal((4,)))


def test_negative_seeds_wrap() -> None:
    assert np.array_equal(Philox(-1).normal((8,)), Philox(2**64 - 1).normal((8,)))


def test_numbers_are_standard_normal() -> None:
    drawn = Philox(3).normal((100_000,)).astype(np.float64)
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1) < 0.02
