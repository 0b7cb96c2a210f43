"""Pictures side by side, with titles above the columns and left of the rows. Needs no torch.

Measures are A1111's: text is a 25th of width and height together, row titles take three quarters of a cell's width.
The letters are those that Pillow brings, so titles are alike and not the same.
"""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from server.core.errors import InvalidValue
from server.core.pixels import Caption, GridRequest
from server.engines.input_pictures import MOST_PIXELS, decoded

MOST_CELLS = 1024
MOST_MARGIN = 4096
MOST_LETTERS = 400
SMALLEST_LETTERS = 6
BLACK, GREY = (0, 0, 0), (153, 153, 153)

Titles = Sequence[tuple[Caption, ...]]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Pixels = tuple[int, int]


def check(work: GridRequest) -> None:
    """Raise InvalidValue for a grid that cannot be."""
    if not 1 <= len(work.pictures) <= MOST_CELLS or not any(work.pictures):
        raise InvalidValue.of("pictures", f"a grid has 1 ... {MOST_CELLS} pictures")
    if not 1 <= work.columns <= len(work.pictures):
        raise InvalidValue.of("columns", f"{work.columns} columns for {len(work.pictures)} pictures")
    if not 0 <= work.margin <= MOST_MARGIN:
        raise InvalidValue.of("margin", f"a margin is 0 ... {MOST_MARGIN} pixels")
    rows = rows_of(work)
    if len(work.column_titles) not in (0, work.columns) or len(work.row_titles) not in (0, rows):
        raise InvalidValue.of("titles", "there must be a title for each column and each row, or none")


def rows_of(work: GridRequest) -> int:
    """Return how many rows the grid has."""
    return -(-len(work.pictures) // work.columns)


def grid(work: GridRequest) -> Image.Image:
    """Return the grid as RGB.

    Raises:
        BadImage: a file is no picture.
        InvalidValue: the grid would be too large.
    """
    images = [decoded(data, "pictures").convert("RGB") if data else None for data in work.pictures]
    cell = max(image.width for image in images if image), max(image.height for image in images if image)
    plan = _Plan(cell, work.columns, rows_of(work), work.margin)
    columns = [_fitted(lines, cell[0], cell) for lines in work.column_titles]
    left = cell[0] * 3 // 4 if any(caption.text for lines in work.row_titles for caption in lines) else 0
    rows = [_fitted(lines, left, cell) for lines in work.row_titles]
    top = _height_above(columns, cell)
    width, height = left + plan.size[0], top + plan.size[1]
    if width * height > MOST_PIXELS:
        raise InvalidValue.of("pictures", f"a grid of {width}x{height} pixels is larger than what is made here")
    whole = Image.new("RGB", (width, height), work.background)
    for index, image in enumerate(images):
        if image is not None:
            x, y = plan.place(index)
            whole.paste(image, (left + x, top + y))
    draw = ImageDraw.Draw(whole)
    for number, lines in enumerate(columns):
        x, _ = plan.place(number)
        _write(draw, lines, (left + x + cell[0] // 2, top // 2), cell)
    for number, lines in enumerate(rows if left else []):
        _, y = plan.place(number * work.columns)
        _write(draw, lines, (left // 2, top + y + cell[1] // 2), cell)
    return whole


class _Plan:
    """Where cells lie."""

    def __init__(self, cell: Pixels, columns: int, rows: int, margin: int) -> None:
        self._cell, self._columns, self._margin = cell, columns, margin
        self.size = cell[0] * columns + margin * (columns - 1), cell[1] * rows + margin * (rows - 1)

    def place(self, index: int) -> Pixels:
        row, column = divmod(index, self._columns)
        return column * (self._cell[0] + self._margin), row * (self._cell[1] + self._margin)


class _Line:
    """A caption broken to a width, in letters that fit it."""

    def __init__(self, caption: Caption, width: int, cell: Pixels) -> None:
        size = max((cell[0] + cell[1]) // 25, SMALLEST_LETTERS)
        words = caption.text[:MOST_LETTERS]
        self.text = _wrapped(words, _font(size), width)
        while size > SMALLEST_LETTERS and _extent(self.text, _font(size))[0] > width:
            size -= 1
        self.font = _font(size)
        self.active = caption.active
        self.size = _extent(self.text, self.font)


def _fitted(lines: tuple[Caption, ...], width: int, cell: Pixels) -> list[_Line]:
    return [_Line(caption, width, cell) for caption in lines if caption.text]


def _spacing(cell: Pixels) -> int:
    return max((cell[0] + cell[1]) // 25, SMALLEST_LETTERS) // 2


def _block_height(lines: list[_Line], cell: Pixels) -> int:
    return sum(line.size[1] for line in lines) + _spacing(cell) * max(len(lines) - 1, 0)


def _height_above(columns: list[list[_Line]], cell: Pixels) -> int:
    tallest = max((_block_height(lines, cell) for lines in columns), default=0)
    return tallest + 2 * _spacing(cell) if tallest else 0


def _write(draw: ImageDraw.ImageDraw, lines: list[_Line], middle: Pixels, cell: Pixels) -> None:
    y = middle[1] - _block_height(lines, cell) // 2
    for line in lines:
        width, height = line.size
        colour = BLACK if line.active else GREY
        left = middle[0] - width // 2
        draw.multiline_text((left, y), line.text, font=line.font, fill=colour, align="center")
        if not line.active:
            draw.line((left, y + height // 2, left + width, y + height // 2), fill=GREY, width=4)
        y += height + _spacing(cell)


def _wrapped(text: str, font: Font, width: int) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _extent(text: str, font: Font) -> Pixels:
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    _, _, right, bottom = draw.multiline_textbbox((0, 0), text, font=font)
    return int(right) + 1, int(bottom) + 1


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
