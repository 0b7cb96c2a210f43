"""News for systemd over its notify socket (sd_notify(3)); silent where there is none.

The watchdog's ping is sent by a task of the event loop, so that a loop which no longer turns is restarted.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

Alive = Callable[[], bool]


class Notifier:
    """Tells systemd how the service stands. Never blocks and never raises: news that cannot be sent is dropped.

    `address` is the socket's path (`@name` in the abstract namespace), None when nobody listens; `watchdog_s` the time
    after which a silent service is restarted, None when it is not watched.
    """

    def __init__(self, address: str | None, *, watchdog_s: float | None = None) -> None:
        self._address = address
        self._watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Notifier":
        """Return the notifier that NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID describe."""
        address = environment.get("NOTIFY_SOCKET", "")
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "")
        limit = int(microseconds) / 1e6 if watched and microseconds.isascii() and microseconds.isdigit() else 0.0
        return cls(address if address[:1] in ("/", "@") else None, watchdog_s=limit or None)

    def ready(self, status: str = "") -> None:
        """Say that requests are taken; also the end of `reloading`."""
        self._say("READY=1", _status(status))

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        self._say(_status(text))

    def stopping(self, status: str = "") -> None:
        """Say that the service is on its way out."""
        self._say("STOPPING=1", _status(status))

    def reloading(self, status: str = "") -> None:
        """Say that the configuration is being read again; `ready` ends it."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={microseconds}", _status(status))

    async def watchdog(self, alive: Alive = lambda: True) -> None:
        """Ping at half of the watchdog's time, for ever, as long as `alive()`; returns at once when not watched."""
        if self._watchdog_s is None or self._address is None:
            return
        while True:
            if alive():
                self._say("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def _say(self, *lines: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        message = "\n".join(line for line in lines if line).encode("utf-8", "replace")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.setblocking(False)
            connection.sendto(message, address)


def _status(text: str) -> str:
    line = " ".join(text.split())
    return f"STATUS={line}" if line else ""
