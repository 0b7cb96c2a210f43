import pytest

from server.engines.image.samplers.lms import multistep_weights
from tests.support.gaussian import flow_error, order_of

pytestmark = pytest.mark.torch


def test_order() -> None:
    """The first steps are of lower order and bound the whole: at least second order."""
    assert order_of(flow_error("lms")) > 1.8


def test_beats_euler() -> None:
    assert flow_error("lms")(40) < 0.1 * flow_error("euler")(40)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_weights_integrate_polynomials_exactly(degree: int) -> None:
    known, begin, end = [5.0, 6.5, 9.0, 14.0], 5.0, 3.2
    weights = multistep_weights(known, begin, end)
    integral = (end ** (degree + 1) - begin ** (degree + 1)) / (degree + 1)
    assert sum(w * point**degree for w, point in zip(weights, known, strict=True)) == pytest.approx(integral)


def test_one_point_is_euler() -> None:
    assert multistep_weights([5.0], 5.0, 3.2) == pytest.approx([-1.8])


def test_even_steps_are_adams_bashforth() -> None:
    weights = multistep_weights([3.0, 4.0, 5.0, 6.0], 3.0, 2.0)
    assert weights == pytest.approx([-55 / 24, 59 / 24, -37 / 24, 9 / 24])
