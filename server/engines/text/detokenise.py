"""Token pieces to text: characters are never split, and bytes that are no UTF-8 become U+FFFD."""

import codecs
from collections.abc import Callable

_UTF8 = codecs.getincrementaldecoder("utf-8")


class Detokeniser:
    """Assembles the text of one reply.

    A piece may end inside a character; its bytes are held back until the character is whole. Bytes that cannot become
    a character any more are replaced at once, an unfinished character only by `flush`.
    """

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._decoder = _UTF8(errors="replace")

    def push(self, token: int) -> str:
        """Take one token and return the characters that are whole now, maybe none."""
        return self._decoder.decode(self._piece(token))

    def flush(self) -> str:
        """Return U+FFFD for an unfinished character, nothing otherwise."""
        return self._decoder.decode(b"", final=True)
