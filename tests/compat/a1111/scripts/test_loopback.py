import pytest

from compat.a1111.scripts.loopback import strengths


@pytest.mark.parametrize(
    ("curve", "found"),
    [
        ("Linear", [0.4, 0.6, 0.8]),
        ("Aggressive", [0.4, 0.682843, 0.8]),
        ("Lazy", [0.4, 0.517157, 0.8]),
    ],
)
def test_strengths_move_from_first_to_last(curve: str, found: list[float]) -> None:
    assert strengths(0.4, 0.8, 3, curve) == pytest.approx(found, abs=1e-6)


def test_one_loop_has_the_requests_own() -> None:
    assert strengths(0.4, 0.8, 1, "Linear") == [0.4]
