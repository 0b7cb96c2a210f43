"""Pictures made larger in as many passes as it takes, by filters or networks. Needs no torch.

The passes work towards sides that are multiples of 8:

| picture | factor | by | passes | result |
|---|---|---|---|---|
| 64x64 | 2 | Lanczos | one to 128x128 | 128x128 |
| 101x101 | 1.5 | Lanczos | one to 151x151 | 144x144, by a second resize |
| 64x64 | 2 | a network for 4 | one to 256x256 | 128x128 |
| 64x64 | 6 | a network for 4 | two to 1024x1024 | 384x384 |
| 64x64 | 0.5 | any | none | 32x32 |
| 64x64 | 1 | a network for 4 | one: the only way to have a picture cleaned | 64x64 |
"""

from collections.abc import Generator
from typing import Protocol

from PIL import Image

from server.core.errors import InvalidValue
from server.core.image import Size
from server.core.models import LARGEST_RESULT

MAX_ROUNDS = 3

LANCZOS = Image.Resampling.LANCZOS

Pixels = tuple[int, int]
"""Width and height."""

Growing = Generator[None, None, Image.Image]
"""Yields after each bounded piece of work and returns the picture."""


class Enlarger(Protocol):
    """Something that makes a picture larger in one pass, by the factor asked for or one of its own."""

    def size_after(self, size: Pixels, factor: float) -> Pixels:
        """Return the size of what a pass makes."""
        ...

    def pieces(self, size: Pixels) -> int:
        """Return in how many pieces a pass over a picture of this size is done."""
        ...

    def enlarge(self, image: Image.Image, factor: float) -> Growing:
        """Do a pass."""
        ...


class Filter:
    """Enlarges by a filter over pixels, at once."""

    def __init__(self, kernel: Image.Resampling) -> None:
        self._kernel = kernel

    def size_after(self, size: Pixels, factor: float) -> Pixels:
        """Return the size of what a pass makes."""
        return int(size[0] * factor), int(size[1] * factor)

    def pieces(self, size: Pixels) -> int:
        """Return 1."""
        return 1

    def enlarge(self, image: Image.Image, factor: float) -> Growing:
        """Do a pass."""
        image = image.resize(self.size_after(image.size, factor), self._kernel)
        yield
        return image


PIXEL_FILTERS: dict[str, Image.Resampling | None] = {
    "lanczos": LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "none": None,
}
"""Filters that enlarge pixels; `none` leaves all to the final Lanczos resize."""


def filter_named(name: str) -> Enlarger | None:
    """Return the filter of `PIXEL_FILTERS`."""
    kernel = PIXEL_FILTERS[name]
    return None if kernel is None else Filter(kernel)


def wanted(size: Pixels, factor: float) -> Pixels:
    """Return the size that passes work towards.

    Raises:
        InvalidValue: nothing would be left of the picture.
    """
    width, height = int(size[0] * factor // 8 * 8), int(size[1] * factor // 8 * 8)
    if width < 1 or height < 1:
        raise InvalidValue.of("factor", f"a picture of {size[0]}x{size[1]} times {factor:g} is smaller than 8 pixels")
    return width, height


def passes(size: Pixels, factor: float, enlarger: Enlarger) -> list[Pixels]:
    """Return the sizes that the passes begin with. Pure."""
    goal = wanted(size, factor)
    begins: list[Pixels] = []
    for number in range(MAX_ROUNDS):
        if size[0] >= goal[0] and size[1] >= goal[1] and (number > 0 or factor != 1):
            break
        begins.append(size)
        after = enlarger.size_after(size, factor)
        if after == size:
            break
        size = after
    return begins


def largest(size: Pixels, factor: float, enlarger: Enlarger) -> int:
    """Return the pixels of the largest picture that comes up, at the end or on the way. Pure."""
    made = [enlarger.size_after(one, factor) for one in passes(size, factor, enlarger)]
    return max(width * height for width, height in (wanted(size, factor), *made))


def check_growth(size: Pixels, factor: float, enlarger: Enlarger, most: int = LARGEST_RESULT) -> None:
    """Raise InvalidValue when a picture would have more than `most` pixels, at the end or on the way."""
    if largest(size, factor, enlarger) > most:
        message = f"a picture of {size[0]}x{size[1]} pixels times {factor:g} is larger than what is made here"
        raise InvalidValue.of("factor", message)


def grown(image: Image.Image, factor: float, enlarger: Enlarger) -> Growing:
    """Return the image times `factor`, its sides floored to multiples of 8."""
    goal = wanted(image.size, factor)
    for _ in passes(image.size, factor, enlarger):
        image = yield from enlarger.enlarge(image, factor)
    return image if image.size == goal else image.resize(goal, LANCZOS)


def enlarged_by(image: Image.Image, size: Size, enlarger: Enlarger | None) -> Image.Image:
    """Return the image at exactly `size`: enlarged to cover it, then brought there by Lanczos. Works to the end.

    Nothing is enlarged when the image covers `size` already.

    Raises:
        InvalidValue: it would become too large on the way.
    """
    factor = max(size.width / image.width, size.height / image.height)
    if enlarger is not None and factor > 1:
        check_growth(image.size, factor, enlarger)
        image = finished(grown(image, factor, enlarger))
    if image.size != (size.width, size.height):
        image = image.resize((size.width, size.height), LANCZOS)
    return image


def enlarged(image: Image.Image, size: Size, upscaler: str) -> Image.Image:
    """Return the image at exactly `size`, enlarged by a filter of `PIXEL_FILTERS`."""
    return enlarged_by(image, size, filter_named(upscaler))


def finished(growing: Growing) -> Image.Image:
    """Do all the work and return the picture."""
    while True:
        try:
            next(growing)
        except StopIteration as end:
            image: Image.Image = end.value
            return image
