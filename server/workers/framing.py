"""Messages as bytes: four bytes of length (big endian), then msgpack. Frames over 64 MiB are a protocol error."""

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from server.core.errors import ProtocolError
from server.workers.protocol import Down, Up

LENGTH_BYTES = 4
MAX_FRAME = 64 * 1024**2

Message = TypeVar("Message", Down, Up)


def encode(message: Down | Up) -> bytes:
    """Return the frame of a message; raise ProtocolError when it is too large."""
    body = msgspec.msgpack.encode(message)
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"a message of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class FrameReader(Generic[Message]):
    """Turns bytes, as they arrive, into messages."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Message]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes and yield the messages that are now complete; raise ProtocolError for what is none."""
        self._buffer += data
        while (body := self._take()) is not None:
            try:
                yield self._decoder.decode(body)
            except msgspec.MsgspecError as error:
                raise ProtocolError(f"a frame could not be understood: {error}") from error

    def _take(self) -> bytes | None:
        if len(self._buffer) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
        if length > MAX_FRAME:
            raise ProtocolError(f"a frame announces {length} bytes, the limit is {MAX_FRAME}")
        end = LENGTH_BYTES + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[LENGTH_BYTES:end])
        del self._buffer[:end]
        return body


def from_parent() -> FrameReader[Down]:
    """Return a reader of what a parent sends."""
    return FrameReader(msgspec.msgpack.Decoder(Down))


def from_child() -> FrameReader[Up]:
    """Return a reader of what a child sends."""
    return FrameReader(msgspec.msgpack.Decoder(Up))
