"""Small JSON files in the state folder: written whole or not at all, ignored when damaged."""

import contextlib
import logging
import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

logger = logging.getLogger(__name__)

T = TypeVar("T")


def read_state(file: Path | None, kind: type[T]) -> T | None:
    """Return what the file holds; None when there is no file, or none that can be understood (told in the log)."""
    if file is None:
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        logger.warning("file=%s is ignored: %s", file, error)
        return None


def write_state(file: Path | None, value: object) -> None:
    """Replace the file by this value in one move. A full or read-only disk is told in the log and otherwise ignored."""
    if file is None:
        return
    temporary: str | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        with os.fdopen(descriptor, "wb") as out:
            out.write(msgspec.json.encode(value))
        Path(temporary).replace(file)
        temporary = None
    except OSError as error:
        logger.warning("file=%s could not be written: %s", file, error.strerror)
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
