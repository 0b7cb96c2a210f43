import math

import numpy as np
import pytest

from server.engines.image.beta_quantile import beta_cumulative, beta_quantile


def test_arcsine_law() -> None:
    """Beta(1/2, 1/2) has the closed form x = sin^2(pi p / 2)."""
    p = np.linspace(0, 1, 41)
    assert beta_quantile(p, 0.5, 0.5) == pytest.approx(np.sin(math.pi * p / 2) ** 2, abs=1e-12)


def test_power_law() -> None:
    """Beta(a, 1) has the closed form x = p^(1/a)."""
    p = np.linspace(0, 1, 41)
    assert beta_quantile(p, 2.5, 1.0) == pytest.approx(p ** (1 / 2.5), abs=1e-12)
    assert beta_quantile(p, 1.0, 2.5) == pytest.approx(1 - (1 - p) ** (1 / 2.5), abs=1e-12)


def test_inverse_of_the_cumulative_function() -> None:
    x = np.linspace(0.01, 0.99, 33)
    assert beta_quantile(beta_cumulative(x, 0.6, 0.6), 0.6, 0.6) == pytest.approx(x, abs=1e-12)


def test_ends_are_exact() -> None:
    assert beta_quantile(np.array([0.0, 1.0]), 0.6, 0.6).tolist() == [0.0, 1.0]
