"""Saved pictures: files below one folder, each new and whole, readable by the group at most.

A1111's names hold (`compat.a1111.naming`). All functions block; the door calls them in threads.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from compat.a1111.naming import Place
from server.core.errors import UnknownModel

logger = logging.getLogger(__name__)

FILE_MODE = 0o640
FOLDER_MODE = 0o750
MOST_TRIES = 500
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
"""What is handed out again: pictures."""

LAST_PARAMETERS = "params.txt"

_NUMBER = re.compile(r"(\d{1,9})")


class OutputFolder:
    """The one place that pictures are written to and read from."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def save(self, place: Place, data: bytes, *, extension: str = "png", text: str | None = None) -> Path:
        """Write a file under the next free number of its folder and return its path; `text` goes beside it.

        Raises:
            OSError: it cannot be written; nothing of it is left.
        """
        folder = self._folder(place)
        number = _next(folder, place.base) if place.numbered else 0
        for one in range(number, number + MOST_TRIES):
            path = folder / f"{place.name(one)}.{extension}"
            if _put(path, data):
                if text is not None:
                    _put(path.with_suffix(".txt"), text.encode("utf-8", "replace"))
                return path
        raise FileExistsError(f"no free name in {MOST_TRIES} tries")

    def keep(self, place: Place, data: bytes, *, extension: str) -> None:
        """Write a file whose name tells its content, unless it is there; raise OSError."""
        _put(self._folder(place) / f"{place.name(0)}.{extension}", data)

    def remember(self, text: str) -> None:
        """Keep the parameters of the newest picture, as A1111 does in `params.txt`; raise OSError."""
        self._root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with _unfinished(self._root, text.encode("utf-8", "replace")) as part:
            part.replace(self._root / LAST_PARAMETERS)

    def find(self, name: str) -> Path:
        """Return a file of the folder by its path, as clients write it: absolute, or from `outputs` on.

        Raises:
            UnknownModel: there is no such file in the folder, whatever may be elsewhere.
        """
        root = self._root.resolve()
        for path in (Path(name), root / name, root.parent / name):
            try:
                found = path.resolve() if path.is_absolute() else None
            except (OSError, ValueError, RuntimeError):
                continue
            if found is None or not found.is_relative_to(root):
                continue
            inside = found.relative_to(root).parts
            hidden = any(part.startswith(".") for part in inside)
            if not hidden and found.suffix.lower() in MEDIA_TYPES and found.is_file():
                return found
        raise UnknownModel("there is no such file", model="", close=[])

    def _folder(self, place: Place) -> Path:
        root = self._root
        root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder = root
        for part in place.folder:
            folder = folder / part
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=FOLDER_MODE)
        if not folder.resolve().is_relative_to(root.resolve()):
            raise PermissionError("the folder leads out of the output folder")
        return folder


def _next(folder: Path, base: str) -> int:
    """Return the number after the highest in the folder."""
    begin = f"{base}-" if base else ""
    highest = -1
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(begin):
                match = _NUMBER.match(entry.name, len(begin))
                highest = max(highest, int(match[1])) if match else highest
    return highest + 1


def _put(path: Path, data: bytes) -> bool:
    """Write a new file that is whole as soon as it can be seen; False when the name is taken."""
    if path.exists():
        return False
    with _unfinished(path.parent, data) as part:
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
            except FileExistsError:
                return False
            part.replace(path)
    return True


@contextlib.contextmanager
def _unfinished(folder: Path, data: bytes) -> Iterator[Path]:
    """Write a hidden file, yield its path, and remove it if it is still there."""
    part = folder / f".{uuid4().hex}.part"
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)
