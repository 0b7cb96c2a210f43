"""What llama.cpp says goes to Python's logging; its last complaints are kept for the error of a failed load."""

import ctypes
import logging
from collections import deque
from typing import Any

import llama_cpp

logger = logging.getLogger(__name__)

# ggml's levels: 1 info, 2 warning, 3 error, 4 debug, 5 goes on with the line before. Its info is our debug: one load
# writes about a hundred lines of it.
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING}
_WARNING, _ERROR, _CONTINUED = 2, 3, 5
_KEPT = 8


class LogTap:
    """Owns the log callback of the library, which is one for the whole process, until closed."""

    def __init__(self) -> None:
        self._complaints: deque[str] = deque(maxlen=_KEPT)
        self._line = ""
        self._level = 0
        self._callback: Any = llama_cpp.llama_log_callback(self._take)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def complaints(self) -> list[str]:
        """Return the errors since the last call, without the names of C functions before them."""
        lines = [line.split(": ", 1)[-1] for line in self._complaints]
        self._complaints.clear()
        return lines

    def close(self) -> None:
        """Give the callback back to the library's own default, which writes to standard error."""
        if self._callback is not None:
            none: Any = None
            llama_cpp.llama_log_set(ctypes.cast(none, llama_cpp.llama_log_callback), ctypes.c_void_p(0))
            self._callback = None

    def _take(self, level: int, text: bytes, _: object) -> None:
        if level != _CONTINUED:
            self._level, self._line = level, ""
        self._line += text.decode("utf-8", "replace")
        if not self._line.endswith("\n"):
            return
        line, self._line = self._line.strip(), ""
        if not line:
            return
        if self._level == _ERROR:
            self._complaints.append(line)
        logger.log(_LEVELS.get(self._level, logging.DEBUG), "%s", line)
