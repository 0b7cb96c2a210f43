"""A call that blocks for minutes, taken in turns: it runs in a thread of its own, but never while the caller does.

The pipelines of diffusers are such calls. What they meet on the way (a step is done) hands an event to the caller and
waits there until the caller asks for the next one, so that a worker still has one thing happening at a time.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Event = TypeVar("Event")
Result = TypeVar("Result")


class Abandoned(BaseException):
    """Raised inside the call when nobody wants the rest. No `Exception`, so that no library catches it on the way."""


class Turns(Generic[Event, Result]):
    """One call. The thread is made by the first `advance` and gone after the last one, or after `close`."""

    def __init__(self, call: Callable[["Turns[Event, Result]"], Result]) -> None:
        self._call = call
        self._thread: threading.Thread | None = None
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._event: Event | None = None
        self._result: list[Result] = []
        self._error: BaseException | None = None
        self._abandoned = False
        self._over = False

    def hand(self, event: Event) -> None:
        """Hand an event to the caller; returns at the caller's next `advance`. To be called from inside the call.

        Raises:
            Abandoned: the caller closed.
        """
        self._event = event
        self._back.release()
        self._go.acquire()
        if self._abandoned:
            raise Abandoned

    def advance(self) -> Event | None:
        """Let the call go on to its next event and return that, None when it has ended; raise what it ended with."""
        if self._over:
            return None
        self._turn()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        event, self._event = self._event, None
        return event

    @property
    def result(self) -> Result:
        """Return what the call returned; it must have ended."""
        return self._result[0]

    def close(self) -> None:
        """End the call where it waits, if it does. May be called twice."""
        if self._thread is not None and not self._over:
            self._abandoned = True
            self._turn()
            self._error = None

    def _turn(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._back.acquire()
        if self._over:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._result.append(self._call(self))
        except Abandoned:
            pass
        except BaseException as error:
            self._error = error
        self._over = True
        self._back.release()
