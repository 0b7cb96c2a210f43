import io
import struct
import zlib

import pytest
from PIL import Image, PngImagePlugin

from server.core.errors import BadImage
from server.http.png import SIGNATURE, TEXT_LIMIT, add_text, read_text, size_of

LATIN = "a cat, näive café\nNegative prompt: dog\nSteps: 20, Size: 8x8"
WIDE = "猫 🐈 σ×ç, \U0001f600"


def png(texts: dict[str, str] | None = None, *, packed: bool = False) -> bytes:
    image = Image.frombytes("RGB", (5, 3), bytes(range(45)))
    info = PngImagePlugin.PngInfo()
    for name, text in (texts or {}).items():
        info.add_text(name, text, zip=packed)
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=info)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(made: bytes) -> bytes:
    """Put a hand-made chunk behind IHDR."""
    return png()[:33] + made + png()[33:]


def kinds(data: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        kind = data[at + 4 : at + 8]
        assert (
            zlib.crc32(data[at + 4 : at + 8 + length])
            == struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0]
        )
        found.append(kind)
        at += 12 + length
    return found


@pytest.mark.parametrize(("text", "kind"), [(LATIN, b"tEXt"), (WIDE, b"iTXt"), ("", b"tEXt")])
def test_added_text_is_what_pillow_reads_and_writes(text: str, kind: bytes) -> None:
    made = add_text(png(), {"parameters": text})
    with Image.open(io.BytesIO(made)) as image:
        image.load()
        assert image.text == {"parameters": text}
        assert image.tobytes() == bytes(range(45))
    assert kinds(made).count(kind) == 1
    assert kinds(made).index(kind) < kinds(made).index(b"IDAT")
    assert made == png({"parameters": text}), "byte for byte what Pillow would have written"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", [LATIN, WIDE, ""])
def test_reads_what_pillow_wrote(text: str, packed: bool) -> None:
    assert read_text(png({"parameters": text, "x": "y"}, packed=packed)) == {"parameters": text, "x": "y"}


def test_text_behind_the_pixels_counts() -> None:
    tail = chunk(b"IEND", b"")
    data = png().removesuffix(tail) + chunk(b"tEXt", b"late\0news") + tail
    assert read_text(data) == {"late": "news"}


def test_a_text_takes_the_place_of_the_old_one_with_its_keyword() -> None:
    data = add_text(png({"parameters": "old", "other": "stays"}), {"parameters": WIDE})
    assert read_text(data) == {"parameters": WIDE, "other": "stays"}
    assert kinds(data).count(b"tEXt") + kinds(data).count(b"iTXt") == 2


def test_what_no_chunk_can_hold_is_left_out() -> None:
    data = add_text(png(), {"parameters": "a\0b", "wide": "猫\ud800\0"})
    assert read_text(data) == {"parameters": "ab", "wide": "猫?"}


def test_adding_nothing_changes_nothing() -> None:
    assert add_text(png(), {}) == png()


@pytest.mark.parametrize("keyword", ["", " a", "a ", "a  b", "x" * 80, "猫", "a\0", "a\n"])
def test_bad_keywords_are_refused(keyword: str) -> None:
    with pytest.raises(ValueError, match="keyword"):
        add_text(png(), {keyword: "x"})


@pytest.mark.parametrize("keyword", ["a", "a b", "x" * 79, "é"])
def test_good_keywords_come_back(keyword: str) -> None:
    assert read_text(add_text(png(), {keyword: "x"})) == {keyword: "x"}


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a" + bytes(50), SIGNATURE, png()[:40], png()[:-1], png()[:-12], SIGNATURE + b"\xff" * 40],
)
def test_no_png_is_a_bad_image(data: bytes) -> None:
    with pytest.raises(BadImage):
        read_text(data)
    with pytest.raises(BadImage):
        add_text(data, {"a": "b"})


def test_a_png_without_pixels_cannot_carry_text() -> None:
    with pytest.raises(BadImage, match="no image data"):
        add_text(SIGNATURE + chunk(b"IHDR", bytes(13)) + chunk(b"IEND", b""), {"a": "b"})


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(64 * TEXT_LIMIT))),
        chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(bytes(64 * TEXT_LIMIT))),
        chunk(b"tEXt", b"parameters\0" + bytes(2 * TEXT_LIMIT)),
        chunk(b"zTXt", b"parameters\0\0" + b"not zlib"),
        b"".join(chunk(b"tEXt", b"%d\0" % number + bytes(TEXT_LIMIT)) for number in range(9)),
    ],
    ids=["zTXt bomb", "iTXt bomb", "long tEXt", "damaged zTXt", "many"],
)
def test_text_has_limits(bomb: bytes) -> None:
    with pytest.raises(BadImage):
        read_text(with_chunk(bomb))


@pytest.mark.parametrize(
    "odd",
    [
        chunk(b"zTXt", b"k\0\7" + zlib.compress(b"x")),  # an unknown method
        chunk(b"zTXt", b"k"),
        chunk(b"iTXt", b"k\0\0\0no end of the language"),
        chunk(b"iTXt", b"k\0\1\5\0\0" + zlib.compress(b"x")),
        chunk(b"iTXt", b"k"),
    ],
)
def test_malformed_text_is_passed_over(odd: bytes) -> None:
    assert read_text(with_chunk(odd)) == {}


def test_a_bomb_is_not_unpacked_to_see_that_it_is_one() -> None:
    import tracemalloc

    data = with_chunk(chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(256 * TEXT_LIMIT))))
    tracemalloc.start()
    with pytest.raises(BadImage):
        read_text(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * TEXT_LIMIT


def test_the_size_stands_in_the_header() -> None:
    header = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + (640).to_bytes(4) + (48).to_bytes(4)
    assert size_of(header) == (640, 48)
    with pytest.raises(BadImage):
        size_of(b"GIF89a" + bytes(30))
