"""How a child's messages travel: the seam that a test or a remote worker may replace."""

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
        """Send a message; raise LinkClosed when the parent has gone, ProtocolError (and send nothing) when unfit."""
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
        frame = encode(message)
        try:
            self._socket.sendall(frame)
        except OSError as error:
            raise LinkClosed from error

    def receive(self, *, wait: bool) -> Down | None:
        """Return the next message, after waiting for it if asked to."""
        # Not select(): it refuses descriptors over 1023, which a child of a busy parent may well inherit.
        flags = 0 if wait else socket.MSG_DONTWAIT
        while not self._messages:
            try:
                data = self._socket.recv(CHUNK, flags)
            except BlockingIOError:
                return None
            except OSError as error:
                raise LinkClosed from error
            if not data:
                raise LinkClosed
            self._messages.extend(self._reader.feed(data))
        return self._messages.popleft()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
