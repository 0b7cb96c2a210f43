from typing import Any

import msgspec
import pytest

from server.core.errors import InvalidValue, LoadFailed, QueueFull
from server.http.refusals import body_error, delay, sentence


class Inner(msgspec.Struct):
    size: int


class Body(msgspec.Struct):
    items: list[Inner]


def told(body: bytes) -> InvalidValue:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)) as caught:
        msgspec.json.decode(body, type=Body)
    return body_error(caught.value)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"{}", "items", "Missing required parameter: 'items'."),
        (b'{"items":[{}]}', "items[0].size", "Missing required parameter: 'items[0].size'."),
        (b'{"items":[{"size":"x"}]}', "items[0].size", "Invalid value for 'items[0].size': expected `int`, got `str`."),
        (b"[]", None, "The request body has the wrong type: expected `object`, got `array`."),
        (b"{", None, "The request body is not valid JSON."),
    ],
)
def test_a_decoders_complaint_in_words(body: bytes, param: str | None, words: str) -> None:
    error = told(body)
    assert (error.fact("param"), error.message) == (param, words)


def test_other_complaints() -> None:
    assert "deeply" in body_error(RecursionError()).message
    assert "UTF-8" in body_error(UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")).message


def test_a_sentence_has_no_folders_of_the_machine_but_those_that_the_caller_named() -> None:
    assert sentence(LoadFailed("cannot map /srv/models/x.gguf at 0xdeadbeef00")) == "cannot map x.gguf at 0x..."
    assert sentence(InvalidValue("no /srv/models/x")) == "no /srv/models/x"


@pytest.mark.parametrize(("facts", "told_"), [({}, "5"), ({"retry_after": 0.2}, "1"), ({"retry_after": 900}, "60")])
def test_delays_are_bounded(facts: dict[str, Any], told_: str) -> None:
    assert delay(QueueFull("full", **facts), 5) == told_
    assert delay(None, 7) == "7"
