"""Ends work that takes too long: the way out of a chat template that loops for ever.

Python code is interrupted. A call of C that does not return (two lists within lists being compared) is not: after a
longer time it ends the process, whose owner then has a new one.
"""

import ctypes
import faulthandler
import sys
import threading
from types import TracebackType
from typing import Self


class TookTooLong(Exception):
    """The work inside a `Deadline` ran out of time."""


class Deadline:
    """Raises `TookTooLong` inside its own `with` block once the time is up, whatever Python code runs there.

    The exception is put into this thread by a timer, so that no cooperation is needed; code inside one long call of C
    is not interrupted until it returns. With `fatal` the process ends, saying where it was, when the block has not been
    left after so many seconds. Usable once.
    """

    def __init__(self, seconds: float, *, fatal: float = 0.0) -> None:
        self._fatal = fatal
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._over = self._sent = False
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        if self._fatal:
            # Its thread is one of C and needs nothing of the interpreter, which the work may never give up.
            faulthandler.dump_traceback_later(self._fatal, exit=True, file=sys.__stderr__ or sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._over = True
            if self._sent:
                # Takes back an exception that has not arrived. Only then: CPython 3.11 goes on looking for one ever
                # after, and hangs in the next call when a profiler runs.
                self._raise(None)
        self._timer.cancel()
        if self._fatal:
            faulthandler.cancel_dump_traceback_later()

    def _fire(self) -> None:
        with self._lock:
            if not self._over:
                self._sent = True
                self._raise(TookTooLong)

    def _raise(self, error: type[Exception] | None) -> None:
        target = ctypes.py_object(error) if error is not None else None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), target)
