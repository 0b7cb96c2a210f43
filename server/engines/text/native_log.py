"""What llama.cpp says goes to Python's logging; its last complaints are kept for the error of a failed load."""

import ctypes
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import llama_cpp

logger = logging.getLogger(__name__)

# ggml's levels: 1 debug, 2 info, 3 warning, 4 error, 5 goes on with the line before. Its info is our debug: one load
# writes about a hundred lines of it. Its debug is left out: it repeats what people wrote.
_LEVELS = {2: logging.DEBUG, 3: logging.INFO, 4: logging.WARNING}
_DEBUG, _ERROR, _CONTINUED = 1, 4, 5
_KEPT = 8


class LogTap:
    """Owns the log callback of the library (and of those beside it), one for the whole process, until closed."""

    def __init__(self) -> None:
        self._complaints: deque[str] = deque(maxlen=_KEPT)
        self._line = ""
        self._level = 0
        self._callback: Any = llama_cpp.llama_log_callback(self._take)
        self._taken: list[Callable[..., Any]] = []
        self.tap(llama_cpp.llama_log_set)

    def tap(self, listen: Callable[..., Any]) -> None:
        """Take what a library says, given its function that sets the callback."""
        listen(self._callback, ctypes.c_void_p(0))
        self._taken.append(listen)

    def complaints(self) -> list[str]:
        """Return the errors since the last call, without the names of C functions before them."""
        lines = [line.split(": ", 1)[-1] for line in self._complaints]
        self._complaints.clear()
        return lines

    def close(self) -> None:
        """Give the callbacks back to the libraries' own default, which writes to standard error."""
        if self._callback is not None:
            none: Any = None
            for listen in self._taken:
                listen(ctypes.cast(none, llama_cpp.llama_log_callback), ctypes.c_void_p(0))
            self._callback = None

    def _take(self, level: int, text: bytes, _: object) -> None:
        if level != _CONTINUED:
            self._level, self._line = level, ""
        self._line += text.decode("utf-8", "replace")
        if not self._line.endswith("\n"):
            return
        line, self._line = self._line.strip(), ""
        if not line or self._level == _DEBUG:
            return
        if self._level == _ERROR:
            self._complaints.append(line)
        logger.log(_LEVELS.get(self._level, logging.DEBUG), "%s", line)
