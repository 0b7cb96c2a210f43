import pytest
from PIL import Image

from server.core.errors import InvalidValue
from server.core.image import Size
from server.engines.image.enlarging import (
    PIXEL_FILTERS,
    Enlarger,
    Growing,
    enlarged,
    enlarged_by,
    filter_named,
    finished,
    grown,
    passes,
    wanted,
)


class Times:
    """Enlarges by a factor of its own, in three pieces, and counts its passes."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.seen: list[tuple[int, int]] = []

    def size_after(self, size: tuple[int, int], factor: float) -> tuple[int, int]:
        return size[0] * self.scale, size[1] * self.scale

    def pieces(self, size: tuple[int, int]) -> int:
        return 3

    def enlarge(self, image: Image.Image, factor: float) -> Growing:
        self.seen.append(image.size)
        yield
        yield
        yield
        return image.resize(self.size_after(image.size, factor))


def lanczos() -> Enlarger:
    found = filter_named("lanczos")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("size", "factor", "scale", "begins", "result"),
    [
        ((64, 64), 2, 4, [(64, 64)], (128, 128)),
        ((64, 64), 6, 4, [(64, 64), (256, 256)], (384, 384)),
        ((64, 64), 0.5, 4, [], (32, 32)),
        ((64, 64), 1, 4, [(64, 64)], (64, 64)),
        ((64, 64), 3, 1, [(64, 64)], (192, 192)),
        ((10, 10), 32, 2, [(10, 10), (20, 20), (40, 40)], (320, 320)),
        ((101, 50), 1.5, 2, [(101, 50)], (144, 72)),
    ],
)
def test_as_many_passes_as_it_takes(
    size: tuple[int, int], factor: float, scale: int, begins: list[tuple[int, int]], result: tuple[int, int]
) -> None:
    times = Times(scale)
    assert passes(size, factor, times) == begins
    assert finished(grown(Image.new("RGB", size), factor, times)).size == result
    assert times.seen == begins


def test_a111s_sizes_with_lanczos() -> None:
    assert finished(grown(Image.new("RGB", (64, 64)), 2, lanczos())).size == (128, 128)
    assert finished(grown(Image.new("RGB", (101, 101)), 1.5, lanczos())).size == (144, 144)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(InvalidValue) as caught:
        wanted((64, 64), 0.1)
    assert caught.value.fact("param") == "factor"


def test_work_is_done_piece_by_piece() -> None:
    growing = grown(Image.new("RGB", (64, 64)), 6, Times(4))
    assert sum(1 for _ in growing) == 6


@pytest.mark.parametrize("name", PIXEL_FILTERS)
def test_the_exact_size_whatever_the_filter(name: str) -> None:
    image = Image.radial_gradient("L").convert("RGB").resize((40, 24))
    assert enlarged(image, Size(77, 51), name).size == (77, 51)


def test_what_covers_the_size_is_not_enlarged() -> None:
    times = Times(4)
    assert enlarged_by(Image.new("RGB", (64, 64)), Size(48, 64), times).size == (48, 64)
    assert times.seen == []


def test_nearest_keeps_its_colours() -> None:
    image = Image.new("RGB", (8, 8), (10, 20, 30))
    image.putpixel((0, 0), (200, 0, 0))
    found = enlarged(image, Size(16, 16), "nearest")
    assert sorted(colour for _, colour in found.getcolors() or []) == [(10, 20, 30), (200, 0, 0)]
