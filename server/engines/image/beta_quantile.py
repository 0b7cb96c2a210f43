"""The inverse of the Beta distribution's cumulative function, in float64, without scipy.

The cumulative function comes from its power series about 0 (Abramowitz and Stegun 26.5.4 in the form of the incomplete
beta function's hypergeometric series), which is used below 1/2 only, where it halves with each term; the other side by
symmetry. The inverse is found by bisection.
"""

import math

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_TERMS = 64  # below 1/2 the rest is under 2^-60 of the sum
_HALVINGS = 80


def beta_quantile(p: Values, alpha: float, beta: float) -> Values:
    """Return x [n] with P(X <= x) = p [n], 0 <= p <= 1, for X ~ Beta(alpha, beta)."""
    low, high = np.zeros_like(p), np.ones_like(p)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        is_under = beta_cumulative(middle, alpha, beta) < p
        low, high = np.where(is_under, middle, low), np.where(is_under, high, middle)
    return np.where(p <= 0, 0.0, np.where(p >= 1, 1.0, 0.5 * (low + high)))


def beta_cumulative(x: Values, alpha: float, beta: float) -> Values:
    """Return P(X <= x) for x [n] in 0 ... 1."""
    is_left = x <= 0.5
    near = np.where(is_left, x, 1 - x)
    left = _series(near, alpha, beta)
    right = 1 - _series(near, beta, alpha)
    return np.where(is_left, left, right)


def _series(x: Values, alpha: float, beta: float) -> Values:
    total = np.zeros_like(x)
    term = np.ones_like(x)
    for n in range(_TERMS):
        total += term / (alpha + n)
        term = term * x * (n + 1 - beta) / (n + 1)
    whole = math.exp(math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta))
    return x**alpha * total / whole
