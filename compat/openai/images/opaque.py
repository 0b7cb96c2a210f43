"""Is every pixel of an RGBA PNG opaque? Told without decoding the picture, in bounded memory, at memory speed.

PNG's filters (specification, third edition, section 9) work byte by byte on the same channel of neighbouring pixels.
So in a picture that is opaque throughout, the filtered alpha bytes of a row can only be one value at its left edge and
one in the rest, by filter type and by whether there is a row above:

| filter | first row | later rows |
|---|---|---|
| None | 255, 255 | 255, 255 |
| Sub | 255, 0 | 255, 0 |
| Up | 255, 255 | 0, 0 |
| Average | 255, 128 | 128, 0 |
| Paeth | 255, 0 | 0, 0 |
"""

import zlib
from collections.abc import Iterator

FIRST_ROW = ((255, 255), (255, 0), (255, 255), (255, 128), (255, 0))
LATER_ROWS = ((255, 255), (255, 0), (0, 0), (128, 0), (0, 0))
_PIECE = 256 * 1024


def is_opaque(packed: Iterator[bytes], width: int, height: int, *, depth: int) -> bool:
    """Tell whether all pixels are opaque; False, too, when the data are damaged.

    `packed` are the contents of the IDAT chunks of a PNG of colour type 6 that is not interlaced; `depth` is 8 or 16.
    """
    size = depth // 8
    seen = 0
    try:
        for row in _rows(packed, 1 + 4 * size * width):
            expected = LATER_ROWS if seen else FIRST_ROW
            if row[0] >= len(expected) or not _is_opaque_row(row, size, expected[row[0]]):
                return False
            seen += 1
            if seen == height:
                return True
    except zlib.error:
        pass
    return False


def _is_opaque_row(row: bytes, size: int, expected: tuple[int, int]) -> bool:
    first, rest = expected
    for byte in range(size):
        alphas = row[1 + 3 * size + byte :: 4 * size]
        if alphas[0] != first or alphas.count(rest, 1) != len(alphas) - 1:
            return False
    return True


def _rows(packed: Iterator[bytes], length: int) -> Iterator[bytes]:
    unpacker = zlib.decompressobj()
    held = bytearray()
    for piece in packed:
        if unpacker.eof:
            return
        pending = piece
        while pending:
            held += unpacker.decompress(pending, max(_PIECE, length))
            pending = unpacker.unconsumed_tail
            whole = len(held) // length * length
            for start in range(0, whole, length):
                yield bytes(held[start : start + length])
            del held[:whole]
