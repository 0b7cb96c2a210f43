"""In which format pictures leave: the options `samples_format`, `grid_format`, `jpeg_quality` and `webp_lossless`.

Inside the house pictures are PNG, so that scripts and grids lose nothing; they are rewritten when they are handed over
or saved. Their infotext then moves from the PNG's text to EXIF's UserComment, as in A1111.

| A1111 | here |
|---|---|
| `webp_lossless` holds for saved files alone | for answers too |
| `override_settings` hold for saved files alone | for answers too |
| previews of the running picture are in that format | they are PNG |
| an unknown format is refused after the work | before it |
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from compat.a1111.making import MOST_BYTES, Maker
from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from server.core.errors import Cancelled, ServerError
from server.core.image import FileFormat, FileKind
from server.core.pixels import BUILT_IN, UpscaleRequest
from server.http.picture_files import kind_of, with_comment
from server.http.png import read_text

logger = logging.getLogger(__name__)

KINDS: Final[dict[str, FileKind]] = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}
MOST_PICTURES = 256
"""Of one message to a worker."""


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A format, and the ending of its files' names."""

    extension: str = "png"
    file: FileFormat = FileFormat()


def form_of(options: OptionValues, name: str = "samples_format") -> Form:
    """Return the format that an option asks for; raise Refused when there is none of that name."""
    extension = options.text(name).lower()
    kind = KINDS.get(extension)
    if kind is None:
        raise Refused.http("Invalid image format")
    quality = options.integer("jpeg_quality", 1, 100)
    file = FileFormat(kind=kind, quality=quality, lossless=kind == "webp" and options.flag("webp_lossless"))
    return Form(extension=extension, file=file)


def extension_of(file: bytes, form: Form) -> str:
    """Return the ending of a file's name: one that could not be rewritten is a PNG still."""
    return form.extension if kind_of(file) == form.file.kind else "png"


async def delivered(files: Sequence[bytes], form: Form, maker: Maker, *, owner: str) -> list[bytes]:
    """Return pictures (PNG) in a format, each with its infotext; what cannot be rewritten stays as it is."""
    if form.file.kind == "png":
        return list(files)
    done: list[bytes] = []
    for group in groups(files):
        work = UpscaleRequest(model=BUILT_IN, pictures=tuple(group), kernel="none", file=form.file)
        try:
            made = await maker.pixels(work, owner=owner)
        except Cancelled:
            made = group
        except ServerError as error:  # the pictures are there, and are good as they are
            logger.warning("pictures stay PNG: %s", error.message)
            made = group
        done += await asyncio.to_thread(_signed, group, made)
    return done


def groups(files: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield the files in groups that fit in one message."""
    group: list[bytes] = []
    for file in files:
        if group and (len(group) == MOST_PICTURES or sum(map(len, group)) + len(file) > MOST_BYTES):
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def _signed(group: Sequence[bytes], made: Sequence[bytes]) -> list[bytes]:
    """Return the rewritten files with the infotexts of the old ones."""
    pairs = zip(group, made, strict=True)
    return [
        old if kind_of(new) == "png" else with_comment(new, read_text(old).get("parameters", "")) for old, new in pairs
    ]
