"""Which GGUF file is loaded for a model: its own, or the one made of a model of 2023, now if it is not there yet."""

import contextlib
import errno
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from server.core.errors import LoadFailed
from server.core.ggml.checkpoint import assemble, parts_of
from server.core.ggml.imports import SUFFIX, converted_name, place_of
from server.core.ggml.reading import GgmlError, read_part
from server.core.memory import MIB, readable
from server.core.models import ModelCard
from server.engines.base import Report
from server.engines.text.legacy.conversion import Source, convert
from server.engines.text.whole_file import remove_leftovers, whole_file

logger = logging.getLogger(__name__)

SHARE = 0.8
"""What part of the whole load a conversion is reported as."""

HEADER_ROOM = 64 * MIB
"""What a converted file takes besides its weights, at most."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def ready_file(card: ModelCard, report: Report) -> tuple[Path, Report]:
    """Return the file to load, converted now if it must be, and whom to tell how much of it is loaded. Blocks.

    Raises:
        LoadFailed: the model cannot be converted; no part of a file is left.
    """
    if card.text is None or not card.text.container:
        return Path(card.files[0]), report
    if not card.converted:
        raise LoadFailed(f"{card.name!r} is of 2023 and there is no folder to convert it to; set models.converted_dir")
    made = Path(card.converted)
    if made.is_file():
        return made, report
    began = time.monotonic()
    with _told(card):
        _convert(card, made, lambda fraction: report(SHARE * fraction))
    logger.info("model=%s was converted in %.1f s", card.id, time.monotonic() - began)
    return made, lambda fraction: report(SHARE + (1 - SHARE) * fraction)


def _convert(card: ModelCard, made: Path, report: Callable[[float], None]) -> None:
    made.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    remove_leftovers(made.parent)
    with ExitStack() as opened:
        files = [opened.enter_context(_opened(Path(file))) for file in card.files]
        _must_be(made, card.files, files)
        source = _source(files)
        _must_have_room(made.parent, source.checkpoint.weights_size())
        with whole_file(made) as out:
            convert(source, out, Path(card.files[0]).name, report)
            _must_be(made, card.files, files)
    _remove_older(made, card.files[0])


@contextmanager
def _told(card: ModelCard) -> Iterator[None]:
    """Say in a core error what goes wrong inside."""
    try:
        yield
    except GgmlError as error:
        raise LoadFailed(f"{card.name!r} cannot be converted to GGUF: {error}") from error
    except ConnectionError:  # whoever is told the progress has gone
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            text = f"there is no room for the GGUF file that {card.name!r} is converted to"
        else:
            text = f"{card.name!r} could not be converted to GGUF: {error.strerror or type(error).__name__}"
        raise LoadFailed(text) from error


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise GgmlError("it is no regular file any more")
        yield file


def _source(files: Sequence[BinaryIO]) -> Source:
    first = read_part(files[0], _size(files[0]))
    count = parts_of(first)
    if count > len(files):
        raise GgmlError(f"of its {count} parts {count - len(files)} are missing")
    parts = [first, *(read_part(file, _size(file)) for file in files[1:count])]
    return Source(files[:count], first, assemble(parts))


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _must_be(made: Path, names: Sequence[str], files: Sequence[BinaryIO]) -> None:
    """Raise when these files are not the ones that the converted file is named after: they have changed since."""
    statuses = [os.fstat(file.fileno()) for file in files]
    size = sum(status.st_size for status in statuses)
    if converted_name(names, size, max(status.st_mtime_ns for status in statuses)) != made.name:
        raise GgmlError("it changed a moment ago; ask again when it is complete")


def _must_have_room(folder: Path, weights: int) -> None:
    free = shutil.disk_usage(folder).free
    if weights + HEADER_ROOM > free:
        raise GgmlError(f"that takes {readable(weights)}, and {readable(free)} are free where converted models lie")


def _remove_older(made: Path, main: str) -> None:
    """Take away what was made of earlier files at the same path."""
    for path in made.parent.glob(f"{place_of(main)}-*{SUFFIX}"):
        if path.name != made.name:
            logger.info("file=%s was made of an earlier file and is removed", path.name)
            with contextlib.suppress(OSError):
                path.unlink()
