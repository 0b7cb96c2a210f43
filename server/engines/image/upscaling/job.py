"""One request for enlarging: picture after picture through one enlarger. Needs no torch by itself.

Pictures up to `MOST_PIXELS` are what a worker holds memory for; a larger one is made while the system has memory to
spare for it.
"""

import math
from collections.abc import Generator, Iterator

from PIL import Image

from server.core.errors import BadImage, InvalidValue, OutOfMemory
from server.core.image import FileFormat, ImageFinished, ImageReady, ImageStarted, Size, StepDone
from server.core.jobs import Event
from server.core.models import LARGEST_RESULT
from server.core.pixels import UpscaleRequest
from server.engines.base import JobControl
from server.engines.image import files
from server.engines.image.enlarging import Enlarger, Pixels, check_growth, grown, largest, passes
from server.engines.input_pictures import MOST_PIXELS, decoded
from server.engines.meminfo import meminfo

MOST_PICTURES = 256
LARGEST_SIDE = 32_768
LARGEST_FACTOR = 64.0

BYTES_A_PIXEL = 24
"""Of an enlarged picture: tiles, the whole, its file, and in the parent the file, its base64 and the answer."""


def check(work: UpscaleRequest) -> None:
    """Raise InvalidValue for a request that no pictures can make right."""
    if not 1 <= len(work.pictures) <= MOST_PICTURES:
        raise InvalidValue.of("pictures", f"there must be 1 ... {MOST_PICTURES} pictures")
    if work.under and len(work.under) != len(work.pictures):
        raise InvalidValue.of("under", "there must be as many pictures below as above")
    if not (math.isfinite(work.factor) and 0 < work.factor <= LARGEST_FACTOR):
        raise InvalidValue.of(
            "factor", f"the factor is {work.factor:g}, it must be above 0 and at most {LARGEST_FACTOR:g}"
        )
    if not 0 <= work.visibility <= 1:
        raise InvalidValue.of("visibility", "the visibility must be 0 ... 1")
    if work.tile < 0 or work.overlap < 0 or (work.tile and work.overlap >= work.tile):
        raise InvalidValue.of("tile", f"tiles of {work.tile} pixels cannot overlap by {work.overlap}")
    files.check(work.file)
    if work.size is not None:
        check_size(work.size)


def check_size(size: Size) -> None:
    """Raise InvalidValue for a size that no picture may have."""
    sides = size.width, size.height
    if min(sides) < 1 or max(sides) > LARGEST_SIDE or size.width * size.height > LARGEST_RESULT:
        raise InvalidValue.of("size", f"{size.width}x{size.height} is no size that is made here")


def run(
    work: UpscaleRequest, enlarger: Enlarger | None, control: JobControl, most: int = LARGEST_RESULT
) -> Iterator[Event]:
    """Yield the events of the request; no enlarger leaves pictures at their size. Ends between pieces when asked to.

    Raises:
        BadImage, InvalidValue: a picture is none, or what it would become has more than `most` pixels.
        OutOfMemory: it would be larger than what memory is held for, and there is not enough to spare.
    """
    yield ImageStarted(passes=len(work.pictures), steps=1)
    for index, data in enumerate(work.pictures):
        control.take_skip()
        image = yield from _enlarged(_source(data), work, enlarger, control, (index, most))
        if control.stopped:
            break
        if image is None:
            continue
        if work.under:
            image = _laid_over(_source(work.under[index]), image, work.visibility)
        yield ready(index, image, work.file)
    yield ImageFinished(reason="stopped" if control.stopped else "complete")


def ready(index: int, image: Image.Image, form: FileFormat = files.PNG) -> ImageReady:
    """Return the event for a finished picture, written in that format.

    Raises:
        InvalidValue: its file is larger than a message can be.
    """
    png, file = files.held(image, form)
    files.check_sent(image, (png, file), "factor")
    return ImageReady(index=index, seed=0, variation=0, png=png, file=file, width=image.width, height=image.height)


def _enlarged(
    image: Image.Image,
    work: UpscaleRequest,
    enlarger: Enlarger | None,
    control: JobControl,
    place: tuple[int, int],
) -> Generator[Event, None, Image.Image | None]:
    """Return the picture enlarged, None when it was skipped or the job stopped.

    `place` is its number and the most pixels that it may have.
    """
    index, most = place
    if enlarger is None:
        yield StepDone(pass_index=index, step=1, steps=1)
        return image
    factor = _factor(image.size, work)
    check_growth(image.size, factor, enlarger, most)
    check_room(largest(image.size, factor, enlarger), meminfo("MemAvailable"))
    result = yield from _steps(image, factor, enlarger, control, index)
    return _cut(result, work.size) if result is not None and work.crop and work.size is not None else result


def _steps(
    image: Image.Image, factor: float, enlarger: Enlarger, control: JobControl, index: int
) -> Generator[Event, None, Image.Image | None]:
    begins = passes(image.size, factor, enlarger)
    steps = max(sum(enlarger.pieces(size) for size in begins), 1)
    growing = grown(image, factor, enlarger)
    done = 0
    while True:
        try:
            next(growing)
        except StopIteration as end:
            result: Image.Image = end.value
            if not done:
                yield StepDone(pass_index=index, step=1, steps=1)
            return result
        done += 1
        yield StepDone(pass_index=index, step=min(done, steps), steps=steps)
        if control.stopped or control.take_skip():
            growing.close()
            return None


def check_room(pixels: int, free: int | None) -> None:
    """Raise OutOfMemory for a picture that no memory is held for, when `free` bytes do not suffice. Pure."""
    if pixels > MOST_PIXELS and free is not None and pixels * BYTES_A_PIXEL > free:
        need, there = (value // 1024**2 for value in (pixels * BYTES_A_PIXEL, free))
        text = f"a picture of {pixels} pixels takes about {need} MiB, and {there} MiB are free"
        raise OutOfMemory(text, device="cpu")


def _source(data: bytes) -> Image.Image:
    image = decoded(data, "pictures")
    return image if image.mode in ("RGB", "RGBA") else image.convert("RGB")


def _factor(size: Pixels, work: UpscaleRequest) -> float:
    if work.size is None:
        return work.factor
    return max(work.size.width / size[0], work.size.height / size[1])


def _cut(image: Image.Image, size: Size) -> Image.Image:
    """Return the middle of the image on a black canvas of that size."""
    canvas = Image.new("RGB", (size.width, size.height))
    canvas.paste(image, (size.width // 2 - image.width // 2, size.height // 2 - image.height // 2))
    return canvas


def _laid_over(under: Image.Image, image: Image.Image, visibility: float) -> Image.Image:
    if under.size != image.size:
        sizes = f"{under.width}x{under.height} and {image.width}x{image.height}"
        raise BadImage(f"pictures of {sizes} cannot be laid over each other", param="under")
    return Image.blend(under, image.convert(under.mode), visibility)
