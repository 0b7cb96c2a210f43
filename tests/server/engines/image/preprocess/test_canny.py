import numpy as np
import pytest
from numpy.typing import NDArray

from server.engines.image.preprocess.canny import canny
from tests.support.drawn_pixels import formula_picture

OPENCV = {
    (100, 200): "004550120156c01200524012009240420093e042008c584406b246401862624fe04211fa02d2130a0092150a010a310a"
    "010ac0890155808b0053008c01568132194c8142e228832302248625022cf825022700260a04902d0254b3a904442415",
    (300, 700): "004540120056c01200524012009240420093e042008c584400b246400062624f004211fa00d2130a0092150a010a310a"
    "010ac0890155808b0053008c01568132014c81420228832302248625022cf825022700260204902d0254b02904442015",
}
"""Edges of the 24x32 picture by `cv::Canny` 4.6.0, a bit for each place."""


Places = dict[tuple[int, int], tuple[int, int]]


def plain_slopes(pixels: NDArray[np.uint8]) -> Places:
    """Sobel's slopes of the steepest channel, place by place."""
    height, width, channels = pixels.shape

    def at(y: int, x: int, c: int) -> int:
        return int(pixels[min(max(y, 0), height - 1), min(max(x, 0), width - 1), c])

    slopes = {}
    for y in range(height):
        for x in range(width):
            best = (0, 0)
            for c in range(channels):
                dx = sum(k * (at(y + j, x + 1, c) - at(y + j, x - 1, c)) for j, k in ((-1, 1), (0, 2), (1, 1)))
                dy = sum(k * (at(y + 1, x + j, c) - at(y - 1, x + j, c)) for j, k in ((-1, 1), (0, 2), (1, 1)))
                if c == 0 or abs(dx) + abs(dy) > abs(best[0]) + abs(best[1]):
                    best = dx, dy
            slopes[y, x] = best
    return slopes


def plain_canny(pixels: NDArray[np.uint8], low: float, high: float) -> NDArray[np.bool_]:
    """The same rules, place by place."""
    slopes = plain_slopes(pixels)
    steep = {place: abs(dx) + abs(dy) for place, (dx, dy) in slopes.items()}

    def is_ridge(y: int, x: int) -> bool:
        (dx, dy), here = slopes[y, x], steep[y, x]
        flat = abs(dx) * 13573
        if abs(dy) << 15 < flat:
            return here > steep.get((y, x - 1), 0) and here >= steep.get((y, x + 1), 0)
        if abs(dy) << 15 > flat + (abs(dx) << 16):
            return here > steep.get((y - 1, x), 0) and here >= steep.get((y + 1, x), 0)
        side = -1 if (dx < 0) != (dy < 0) else 1
        return here > steep.get((y - 1, x - side), 0) and here > steep.get((y + 1, x + side), 0)

    weak = {place for place in steep if steep[place] > int(low) and is_ridge(*place)}
    reached = {place for place in weak if steep[place] > int(high)}
    border = list(reached)
    while border:
        y, x = border.pop()
        near = {(y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1)} & weak - reached
        reached |= near
        border += near
    found = np.zeros(pixels.shape[:2], dtype=np.bool_)
    for place in reached:
        found[place] = True
    return found


@pytest.mark.parametrize("low, high", OPENCV)
def test_edges_are_those_of_opencv(low: int, high: int) -> None:
    found = canny(formula_picture(24, 32), low, high)
    assert np.packbits(found > 0).tobytes().hex() == OPENCV[low, high]
    assert set(np.unique(found)) == {0, 255}


@pytest.mark.parametrize("low, high", [(20, 60), (10.9, 200.5), (90, 30), (0, 0)])
def test_edges_by_the_rules(low: float, high: float) -> None:
    pixels = np.random.default_rng(3).integers(0, 40, (15, 17, 3), dtype=np.uint8)
    pixels[4:11, 5:12] += 60
    assert np.array_equal(canny(pixels, low, high) > 0, plain_canny(pixels, *sorted((low, high))))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (9, 1, 1)])
def test_little_pictures(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(canny(pixels, 10, 50) > 0, plain_canny(pixels, 10, 50))


def test_an_even_picture_has_no_edges() -> None:
    assert not canny(np.full((8, 8, 3), 90, dtype=np.uint8), 0, 0).any()
