import random
import zlib
from collections.abc import Iterator

import pytest

from compat.openai.images.opaque import is_opaque

SIDE = 7


def filtered(rows: list[bytes], kinds: list[int], pixel: int) -> bytes:
    """Filter rows of unpacked pixels as PNG does, row by row with the given types."""
    out = bytearray()
    above = bytes(len(rows[0]))
    for row, kind in zip(rows, kinds, strict=True):
        out.append(kind)
        for at, value in enumerate(row):
            left = row[at - pixel] if at >= pixel else 0
            corner = above[at - pixel] if at >= pixel else 0
            up = above[at]
            guess = left + up - corner
            nearest = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            out.append((value - (0, left, up, (left + up) // 2, nearest)[kind]) % 256)
        above = row
    return bytes(out)


def pieces(data: bytes, size: int = 11) -> Iterator[bytes]:
    packed = zlib.compress(data)
    for start in range(0, len(packed), size):
        yield packed[start : start + size]


def rows_of(rng: random.Random, depth: int, alphas: list[list[int]]) -> list[bytes]:
    size = depth // 8
    return [b"".join(rng.randbytes(3 * size) + alpha.to_bytes(size) for alpha in line) for line in alphas]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, None])
def test_all_filters(depth: int, kind: int | None) -> None:
    rng = random.Random(depth)
    full = 2**depth - 1
    for _ in range(20):
        kinds = [rng.randrange(5) if kind is None else kind for _ in range(SIDE)]
        alphas = [[full] * SIDE for _ in range(SIDE)]
        data = filtered(rows_of(rng, depth, alphas), kinds, depth // 2)
        assert is_opaque(pieces(data), SIDE, SIDE, depth=depth)
        alphas[rng.randrange(SIDE)][rng.randrange(SIDE)] = rng.randrange(full)
        data = filtered(rows_of(rng, depth, alphas), kinds, depth // 2)
        assert not is_opaque(pieces(data), SIDE, SIDE, depth=depth)


def test_one_pixel() -> None:
    assert is_opaque(pieces(b"\0abc\xff"), 1, 1, depth=8)
    assert not is_opaque(pieces(b"\0abc\xfe"), 1, 1, depth=8)


def test_damaged_data_are_not_called_opaque() -> None:
    data = b"\0abc\xff" * 3
    assert is_opaque(pieces(data), 1, 3, depth=8)
    assert not is_opaque(pieces(data), 1, 4, depth=8), "rows are missing"
    assert not is_opaque(iter([zlib.compress(data)[:-9]]), 1, 3, depth=8)
    assert not is_opaque(iter([b"nonsense"]), 1, 1, depth=8)
    assert not is_opaque(pieces(b"\x05abc\xff"), 1, 1, depth=8), "no such filter"
    assert not is_opaque(iter([]), 1, 1, depth=8)


def test_a_bomb_is_unpacked_in_pieces() -> None:
    width, height = 30_000, 2_000
    row = b"\0" + b"\0\0\0\xff" * width
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(50)) + packer.flush()
    assert len(packed) < 40_000
    assert not is_opaque(iter([packed]), width, height, depth=8), "only fifty rows"
