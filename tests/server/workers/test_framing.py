"""Frames survive any cut, and nothing but a ProtocolError comes out of nonsense."""

import random

import msgspec
import pytest

from server.core.errors import ErrorData, ProtocolError
from server.core.image import ImageReady
from server.core.jobs import CancelMode, JobDone, JobEvent, JobFailed, JobId
from server.core.memory import RAM, Footprint
from server.core.models import LoadedFacts, TextSettings
from server.core.text import TextDelta
from server.workers import framing
from server.workers.framing import LENGTH_BYTES, MAX_FRAME, encode, from_child, from_parent
from server.workers.protocol import (
    Cancel,
    Down,
    Hello,
    Load,
    Loaded,
    LoadProgress,
    NotLoaded,
    Outcomes,
    Run,
    Stop,
    Up,
)
from tests.support.builders import card, chat, completion, image

JOB = JobId("job")

DOWN: list[Down] = [
    Load(card=card(), settings=TextSettings()),
    Run(job=JOB, work=chat("hé", "ja", "日本")),
    Run(job=JOB, work=completion("a", (1, 2))),
    Run(job=JOB, work=image(hires_steps=3)),
    Cancel(job=JOB, mode=CancelMode.SKIP),
    Stop(),
]
UP: list[Up] = [
    Hello(protocol=1, pid=2),
    LoadProgress(fraction=0.5),
    Loaded(facts=LoadedFacts(slots=2, footprint=Footprint(resident={RAM: 7}))),
    NotLoaded(error=ErrorData(code="load_failed", message="no", facts={"model": "m", "close": ["a"], "n": None})),
    Outcomes(
        items=[
            JobEvent(JOB, TextDelta(choice=0, text="é")),
            JobEvent(JOB, ImageReady(index=0, seed=1, variation=2, png=bytes(range(256)), width=1, height=1)),
            JobDone(JOB),
            JobFailed(JOB, ErrorData(code="broken", message="")),
        ]
    ),
]


def test_messages_come_back_as_they_went() -> None:
    assert list(from_parent().feed(b"".join(map(encode, DOWN)))) == DOWN
    assert list(from_child().feed(b"".join(map(encode, UP)))) == UP


def test_one_byte_at_a_time() -> None:
    reader = from_child()
    arrived = [message for byte in b"".join(map(encode, UP)) for message in reader.feed(bytes([byte]))]
    assert arrived == UP


def test_a_cut_at_each_place() -> None:
    data = bytes(b"".join(map(encode, DOWN)))
    for cut in range(len(data) + 1):
        reader = from_parent()
        assert [*reader.feed(data[:cut]), *reader.feed(data[cut:])] == DOWN


def test_messages_before_nonsense_are_not_lost() -> None:
    reader = from_child()
    arrived = []
    with pytest.raises(ProtocolError):
        arrived.extend(reader.feed(bytes(encode(UP[0])) + b"\x00\x00\x00\x01\xc1"))
    arrived2 = []
    with pytest.raises(ProtocolError):
        for message in from_child().feed(bytes(encode(UP[0])) + b"\x00\x00\x00\x01\xc1"):
            arrived2.append(message)
    assert arrived == arrived2 == [UP[0]]


def test_a_large_picture_travels_and_one_over_the_limit_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_FRAME", 100_000)

    def picture(size: int) -> Outcomes:
        ready = ImageReady(index=0, seed=1, variation=2, png=b"\x01" * size, width=1, height=1)
        return Outcomes(items=[JobEvent(JOB, ready)])

    frame = bytes(encode(picture(99_000)))
    reader = from_child()
    arrived = [message for at in range(0, len(frame), 1000) for message in reader.feed(frame[at : at + 1000])]
    assert arrived == [picture(99_000)]
    with pytest.raises(ProtocolError, match="100000"):
        encode(picture(100_000))


def test_an_announced_length_over_the_limit_is_refused_before_it_arrives() -> None:
    with pytest.raises(ProtocolError):
        list(from_child().feed((MAX_FRAME + 1).to_bytes(LENGTH_BYTES, "big")))


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_text_that_is_not_unicode_cannot_be_sent(text: str) -> None:
    with pytest.raises(ProtocolError):
        encode(Outcomes(items=[JobEvent(JOB, TextDelta(choice=0, text=text))]))


def test_a_number_over_64_bits_cannot_be_sent() -> None:
    with pytest.raises(ProtocolError):
        encode(Run(job=JOB, work=image(seed=2**70)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        b"\x81\xa4type\xa2\xff\xfe",
        b"\x81\xa4type\xa5hello",
        msgspec.msgpack.encode({"type": "hello", "protocol": "x", "pid": 1}),
        msgspec.msgpack.encode({"type": "unknown"}),
        msgspec.msgpack.encode([1, 2, 3]),
        msgspec.msgpack.encode(None),
    ],
)
def test_bodies_that_are_no_message(body: bytes) -> None:
    frame = len(body).to_bytes(LENGTH_BYTES, "big") + body
    for reader in (from_child(), from_parent()):
        with pytest.raises(ProtocolError):
            list(reader.feed(frame))


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_give_messages_or_a_protocol_error(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(200):
        data = dice.randbytes(dice.randrange(60))
        framed = len(data).to_bytes(LENGTH_BYTES, "big") + data
        for reader in (from_child(), from_parent()):
            try:
                list(reader.feed(data if dice.random() < 0.3 else framed))
            except ProtocolError:
                continue


@pytest.mark.parametrize("seed", range(20))
def test_spoiled_frames_give_messages_or_a_protocol_error(seed: int) -> None:
    dice = random.Random(seed)
    frames = [bytes(encode(message)) for message in [*DOWN, *UP]]
    for _ in range(200):
        data = bytearray(dice.choice(frames))
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        for reader in (from_child(), from_parent()):
            try:
                list(reader.feed(bytes(data)))
            except ProtocolError:
                continue
