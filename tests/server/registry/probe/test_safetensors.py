"""The safetensors reader: bounds, and that damage gives a reason and never another exception."""

import io
import json
import random
import struct

import pytest

from server.registry.probe.base import BrokenModel, NotMine
from server.registry.probe.safetensors import Tensor, read_safetensors
from tests.support.model_files import safetensors_header, sd1, typed

SMALL = {"a": ("F16", (2, 3)), "b": ("F32", (4,))}


def whole(tensors=SMALL, metadata=None) -> bytes:
    header, data = safetensors_header(tensors, metadata)
    return header + bytes(data)


def raw(header: object, data: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def read(data: bytes):
    return read_safetensors(io.BytesIO(data), len(data))


def refused(data: bytes) -> str:
    with pytest.raises(BrokenModel) as caught:
        read(data)
    return str(caught.value)


def entry(begin: int, end: int, shape: list[int], dtype: str = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_tensors_and_metadata_are_read():
    header = read(whole(metadata={"ss_output_name": "x"}))
    assert header.tensors == {"a": Tensor("F16", (2, 3), 12), "b": Tensor("F32", (4,), 16)}
    assert header.metadata == {"ss_output_name": "x"}


def test_metadata_that_are_no_strings_are_left_out():
    assert read(raw({"__metadata__": {"a": "1", "b": 2}, "t": entry(0, 1, [1])}, 1)).metadata == {"a": "1"}


def test_other_files_are_not_mine():
    for data in (b"", b"12345678", b"PK\x03\x04" + bytes(20), b"\x80\x02}q\x00" + bytes(20)):
        with pytest.raises(NotMine):
            read(data)


def test_a_header_length_beyond_limit_or_file_is_refused_without_reading():
    assert "limit" in refused(struct.pack("<Q", 1 << 60) + b"{}")
    assert "cut short" in refused(struct.pack("<Q", 5000) + b"{}")


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        ({"a": entry(0, 4, [4]), "b": entry(2, 6, [4])}, 6, "over another"),
        ({"a": entry(0, 4, [4]), "b": entry(5, 6, [1])}, 6, "gap"),
        ({"a": entry(0, 4, [5])}, 4, "do not fit"),
        ({"a": entry(4, 0, [4])}, 4, "impossible"),
        ({"a": entry(0, 4, [-4])}, 4, "impossible"),
        ({"a": entry(0, 9, [9])}, 4, "cut short"),
        ({"a": entry(0, 4, [4])}, 9, "follow the last"),
        ({"a": {"dtype": "U8"}}, 0, "lacks"),
        ({"a": 5}, 0, "not what safetensors demands"),
        (b'{"a": ', 0, "not what safetensors demands"),
        (b'{"a\xff": {}}', 0, "not what safetensors demands"),
        (b'{"a":' + b"[" * 100_000, 0, "not what safetensors demands"),
        ({"a": entry(0, 1 << 70, [1])}, 0, "impossible"),
        ({"a": entry(0, 4, [1 << 70])}, 4, "impossible"),
        (b'{"a":{"dtype":"U8","shape":[' + b"9" * 100_000 + b'],"data_offsets":[0,1]}}', 1, "not what safetensors"),
    ],
)
def test_headers_that_lie_are_refused(header, data, reason):
    assert reason in refused(raw(header, data))


def test_random_damage_raises_only_our_errors():
    rng = random.Random(2)
    good = whole(typed(sd1(4, 4)), {"format": "pt"})
    length = len(safetensors_header(typed(sd1(4, 4)), {"format": "pt"})[0])
    outcomes = set()
    for _ in range(3000):
        data = bytearray(good[: rng.randrange(len(good))] if rng.random() < 0.3 else good)
        for _ in range(rng.randrange(1, 4)):
            if data:
                data[rng.randrange(min(len(data), length))] = rng.randrange(256)
        try:
            read(bytes(data))
            outcomes.add("read")
        except (NotMine, BrokenModel) as error:
            outcomes.add(type(error).__name__)
    assert outcomes == {"read", "NotMine", "BrokenModel"}
