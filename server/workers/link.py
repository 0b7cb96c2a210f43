"""How a child's messages travel: the seam that a test or a remote worker may replace."""

import select
import socket
from collections import deque
from typing import Protocol

from server.workers.framing import encode, from_parent
from server.workers.protocol import Down, Up

CHUNK = 1 << 18


class LinkClosed(Exception):
    """The parent has gone."""


class Link(Protocol):
    """The child's end."""

    def send(self, message: Up) -> None:
        """Send a message; raise LinkClosed when the parent has gone."""
        ...

    def receive(self, *, wait: bool) -> Down | None:
        """Return the next message; None when there is none and `wait` is false. Raise LinkClosed at the end."""
        ...

    def close(self) -> None:
        """End the link."""
        ...


class SocketLink:
    """A link over one end of a socket pair, blocking for sends."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._reader = from_parent()
        self._messages: deque[Down] = deque()

    def send(self, message: Up) -> None:
        """Send a message, waiting while the parent is behind."""
        try:
            self._socket.sendall(encode(message))
        except OSError as error:
            raise LinkClosed from error

    def receive(self, *, wait: bool) -> Down | None:
        """Return the next message, after waiting for it if asked to."""
        while not self._messages:
            if not wait and not select.select([self._socket], [], [], 0)[0]:
                return None
            try:
                data = self._socket.recv(CHUNK)
            except OSError as error:
                raise LinkClosed from error
            if not data:
                raise LinkClosed
            self._messages.extend(self._reader.feed(data))
        return self._messages.popleft()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
