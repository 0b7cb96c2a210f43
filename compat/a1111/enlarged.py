"""The last enlarged pictures of extras, as A1111 keeps them: the same picture by the same upscaler is not made again.

They are found by what was asked for and by the picture's own bytes, so nobody is given what he could not have made.
"""

import hashlib
from collections import OrderedDict

import msgspec

from server.core.pixels import UpscaleRequest

MOST_BYTES = 128 * 1024 * 1024
"""Of all pictures that are kept."""


class Enlarged:
    """The results. Owned by the door, used in the event loop's thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, key: bytes) -> bytes | None:
        """Return a result that is kept."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: bytes, picture: bytes, *, most: int) -> None:
        """Keep a result, and forget the oldest beyond `most` of them."""
        self._kept[key] = picture
        self._kept.move_to_end(key)
        while len(self._kept) > most or sum(map(len, self._kept.values())) > MOST_BYTES:
            self._kept.popitem(last=False)


def key_of(work: UpscaleRequest) -> bytes:
    """Return what tells a request from all others. Pure; reads all bytes of its pictures."""
    return hashlib.sha256(msgspec.msgpack.encode(work)).digest()
