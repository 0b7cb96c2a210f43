"""The pictures that URLs lead to: found by id in a table, never by path, for a while, within a number of bytes.

A URL holds the id, when it ends, and a signature of both. So nobody makes one up or lengthens one, and it is refused
before the table is looked at. The key is drawn when the server starts: what it held then is gone, too.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from server.core.image import FileKind

MOST_PICTURES = 4096


class Kept(msgspec.Struct, frozen=True):
    """A picture file and when it goes (Unix seconds)."""

    data: bytes
    kind: FileKind
    expires: int


class PictureStore:
    """Holds at most `limit` bytes of pictures, each for `life_s` seconds by `clock`; the oldest go first.

    Used in the event loop's thread.
    """

    def __init__(self, *, limit: int, life_s: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._life_s = life_s
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0

    @property
    def held(self) -> int:
        """Return the bytes of all pictures that are kept."""
        return self._bytes

    def put(self, data: bytes, kind: FileKind = "png") -> str:
        """Keep a picture, always, whatever else has to go; return `ID.png?expires=...&signature=...`."""
        picture = secrets.token_hex(16)
        expires = int(self._clock() + self._life_s)
        self._kept[picture] = Kept(data, kind, expires)
        self._bytes += len(data)
        self._tidy()
        return f"{picture}.{kind}?expires={expires}&signature={self._signed(picture, expires)}"

    def get(self, file: str, expires: str, signature: str) -> Kept | None:
        """Return what a URL leads to; None for a wrong signature, after its end, and when it has had to go."""
        picture = file.partition(".")[0]
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
            return None
        expected = self._signed(picture, int(expires))
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            return None
        self._tidy()
        return self._kept.get(picture)

    def _signed(self, picture: str, expires: int) -> str:
        text = f"{picture}/{expires}".encode("utf-8", "replace")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()

    def _tidy(self) -> None:
        now = self._clock()
        while self._kept:
            oldest = next(iter(self._kept.values()))
            crowded = len(self._kept) > 1 and (self._bytes > self._limit or len(self._kept) > MOST_PICTURES)
            if oldest.expires > now and not crowded:
                return
            self._bytes -= len(self._kept.popitem(last=False)[1].data)
