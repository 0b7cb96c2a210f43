"""Models of 2023 and the GGUF files that are made of them: what these are called, and which belong to no model now.

The files are made by the worker that loads such a model; the parent names them and takes them away. A file that is
being written is locked by its writer; one that is not was left by a writer that died.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from server.core.ggml.imports import LEFTOVER, SUFFIX, converted_name
from server.core.models import ModelCard

_OURS = re.compile(rf".+-[0-9a-f]{{12}}-[0-9a-f]{{12}}{re.escape(SUFFIX)}|\..+{re.escape(LEFTOVER)}")


class Converted(msgspec.Struct, frozen=True):
    """A file that was made of a model of 2023, and its bytes."""

    path: Path
    size: int


def needs_conversion(card: ModelCard) -> bool:
    """Tell whether the model lies in a container that llama.cpp no longer reads."""
    return card.text is not None and bool(card.text.container)


def with_conversion(card: ModelCard, folder: Path | None, mtime_ns: int) -> ModelCard:
    """Return the card with the file that it is converted to, if it must be; `folder` None = there is no place."""
    if folder is None or not needs_conversion(card):
        return card
    name = converted_name(card.files, card.size, mtime_ns)
    return msgspec.structs.replace(card, converted=str(folder / name))


def conversions(folder: Path | None) -> Iterator[Converted]:
    """Yield the files that were made, and what is left of unfinished ones; other files are not looked at."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()) if folder is not None else ():
            if _OURS.fullmatch(path.name) and path.is_file():
                yield Converted(path, path.stat().st_size)


def orphans(folder: Path | None, cards: Iterable[ModelCard]) -> list[Converted]:
    """Return the files in `folder` that belong to none of these models, also unfinished ones that nobody writes."""
    wanted = {card.converted for card in cards if card.converted}
    return [made for made in conversions(folder) if str(made.path) not in wanted and not _is_written(made.path)]


def remove(files: Sequence[Converted]) -> int:
    """Remove files and return how many bytes that freed; a file that cannot be removed stays."""
    freed = 0
    for made in files:
        with contextlib.suppress(OSError):
            made.path.unlink()
            freed += made.size
    return freed


def _is_written(path: Path) -> bool:
    if path.suffix != LEFTOVER:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
