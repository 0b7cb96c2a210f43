"""Messages as bytes: four bytes of length (big endian), then msgpack. Frames over 1 GiB are a protocol error.

A picture of 16384 x 16384 pixels that cannot be compressed fits. A reader holds only what has arrived, never what is
announced; what one job may put into a frame is bounded where files are made.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from server.core.errors import ProtocolError
from server.workers.protocol import Down, Up

LENGTH_BYTES = 4
MAX_FRAME = 1024**3

Message = TypeVar("Message", Down, Up)

# What msgspec raises beside its own errors: invalid UTF-8 in a text, a lone surrogate, an integer over 64 bits,
# an object that is none of ours, nesting deeper than the interpreter's stack.
_UNFIT = (msgspec.MsgspecError, ValueError, OverflowError, TypeError, RecursionError)


def encode(message: Down | Up) -> bytearray:
    """Return the frame of a message; raise ProtocolError when it is too large or cannot be written."""
    frame = bytearray(LENGTH_BYTES)
    try:
        msgspec.msgpack.Encoder().encode_into(message, frame, LENGTH_BYTES)
    except _UNFIT as error:
        raise ProtocolError(f"a message cannot be written ({type(error).__name__})") from error
    length = len(frame) - LENGTH_BYTES
    if length > MAX_FRAME:
        raise ProtocolError(f"a message of {length} bytes is over the limit of {MAX_FRAME}")
    frame[:LENGTH_BYTES] = length.to_bytes(LENGTH_BYTES, "big")
    return frame


class FrameReader(Generic[Message]):
    """Turns bytes, as they arrive, into messages. Of no use after a ProtocolError."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Message]) -> None:
        self._decoder: msgspec.msgpack.Decoder[Message] = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes and yield the messages that are now complete; raise ProtocolError for what is none."""
        self._buffer += data
        while (end := self._end()) is not None:
            # A view spares a copy of a large picture; it has to be released before the buffer may shrink.
            with memoryview(self._buffer) as view, view[LENGTH_BYTES:end] as body:
                message = self._decode(body)
            del self._buffer[:end]
            yield message

    def _decode(self, body: memoryview) -> Message:
        try:
            return self._decoder.decode(body)
        except _UNFIT as error:
            raise ProtocolError(f"a frame could not be understood ({type(error).__name__})") from error

    def _end(self) -> int | None:
        """Return where the first frame ends, None while it is not complete."""
        if len(self._buffer) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
        if length > MAX_FRAME:
            raise ProtocolError(f"a frame announces {length} bytes, the limit is {MAX_FRAME}")
        end = LENGTH_BYTES + length
        return end if len(self._buffer) >= end else None


def from_parent() -> FrameReader[Down]:
    """Return a reader of what a parent sends."""
    return FrameReader(msgspec.msgpack.Decoder(Down))


def from_child() -> FrameReader[Up]:
    """Return a reader of what a child sends."""
    return FrameReader(msgspec.msgpack.Decoder(Up))
