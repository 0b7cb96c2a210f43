import pytest
from PIL import Image

from server.core.errors import InvalidValue
from server.core.pixels import Caption, GridRequest
from server.engines.image.upscaling.grids import check, grid
from tests.support.picture_files import file_of

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9), (90, 90, 90), (200, 200, 0)]


def pictures(count: int, size: tuple[int, int] = (40, 30)) -> tuple[bytes, ...]:
    return tuple(file_of(Image.new("RGB", size, COLOURS[k])) for k in range(count))


def made(**fields: object) -> Image.Image:
    work = GridRequest(**fields)  # type: ignore[arg-type]
    check(work)
    return grid(work)


def titles(*texts: str) -> tuple[tuple[Caption, ...], ...]:
    return tuple((Caption(text),) for text in texts)


def dark(image: Image.Image, box: tuple[int, int, int, int]) -> int:
    """Return how many black pixels are in a region."""
    return image.crop(box).convert("L").histogram()[0]


def test_row_after_row() -> None:
    image = made(pictures=pictures(5), columns=3, background=(1, 2, 3))
    assert image.size == (120, 60)
    centres = [(20, 15), (60, 15), (100, 15), (20, 45), (60, 45)]
    assert [image.getpixel(at) for at in centres] == COLOURS[:5]
    assert image.getpixel((100, 45)) == (1, 2, 3)


def test_an_empty_cell_and_a_smaller_picture() -> None:
    small = file_of(Image.new("RGB", (10, 10), (7, 7, 7)))
    image = made(pictures=(*pictures(1), b"", small), columns=3)
    assert [image.getpixel(at) for at in ((60, 15), (85, 5), (110, 20))] == [
        (255, 255, 255),
        (7, 7, 7),
        (255, 255, 255),
    ]


def test_margins() -> None:
    image = made(pictures=pictures(4), columns=2, margin=10)
    assert image.size == (90, 70)
    assert image.getpixel((45, 35)) == (255, 255, 255)


def test_titles_stand_above_and_beside() -> None:
    fields = {"pictures": pictures(4, (200, 160)), "columns": 2, "column_titles": titles("left", "right")}
    above = made(**fields)
    assert above.width == 400
    assert above.height > 320
    top = above.height - 320
    assert dark(above, (0, 0, 200, top)) > 20
    assert dark(above, (200, 0, 400, top)) > 20
    both = made(**fields, row_titles=titles("upper", "lower"))
    assert both.size == (400 + 150, above.height)
    assert dark(both, (0, top, 150, top + 160)) > 20
    assert dark(both, (0, top + 160, 150, top + 320)) > 20


def test_titles_without_words_take_no_room() -> None:
    image = made(pictures=pictures(2), columns=2, column_titles=titles("", ""), row_titles=titles(""))
    assert image.size == (80, 30)


def test_what_is_not_active_is_grey() -> None:
    lines = ((Caption("yes"), Caption("no", active=False)),)
    image = made(pictures=pictures(1, (200, 160)), columns=1, column_titles=lines)
    colours = {colour for _, colour in image.crop((0, 0, 200, image.height - 160)).getcolors(10_000) or []}
    assert {(0, 0, 0), (153, 153, 153)} <= colours


def test_long_titles_stay_within_their_cell() -> None:
    long = titles("many words that need more than one line in a cell", "b" * 300)
    image = made(pictures=pictures(2, (200, 160)), columns=2, column_titles=long, margin=40)
    between = image.crop((201, 0, 239, image.height - 160))
    assert dark(image, (0, 0, 200, image.height - 160)) > 100
    assert dark(between, (0, 0, *between.size)) < between.width * between.height


@pytest.mark.parametrize(
    "fields",
    [
        {"pictures": (), "columns": 1},
        {"pictures": (b"", b""), "columns": 1},
        {"columns": 0},
        {"columns": 5},
        {"columns": 2, "margin": -1},
        {"columns": 2, "column_titles": titles("one")},
        {"columns": 2, "row_titles": titles("a", "b", "c")},
    ],
)
def test_grids_that_cannot_be(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidValue):
        made(**{"pictures": pictures(4)} | fields)


def test_a_grid_that_is_too_large() -> None:
    big = file_of(Image.new("L", (8000, 8000)))
    with pytest.raises(InvalidValue, match="larger"):
        made(pictures=(big, b""), columns=2)
