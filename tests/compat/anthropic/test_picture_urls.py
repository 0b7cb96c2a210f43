"""Pictures that messages name by addresses."""

import base64
from typing import Any

import pytest

from compat.anthropic.picture_urls import name_pictures, with_pictures
from server.core.errors import InvalidValue
from tests.compat.anthropic.door import request
from tests.support.aio import asynchronous

ADDRESS = "https://example.org/a.png"
NAMED = {"type": "image", "source": {"type": "url", "url": ADDRESS}}
INLINE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


class Fetcher:
    """Finds a picture at one address alone, and notes what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def fetch(self, url: str, param: str) -> bytes:
        self.asked.append((url, param))
        if url != ADDRESS:
            raise InvalidValue.of(param, "nothing is there")
        return b"picture"


def messages(*contents: Any) -> Any:
    return request(messages=[{"role": "user", "content": content} for content in contents]).messages


@asynchronous
async def test_addresses_become_pictures() -> None:
    fetcher = Fetcher()
    result = {"type": "tool_result", "tool_use_id": "t", "content": [INLINE, NAMED]}
    given = messages("text", [INLINE, NAMED], [result, {"type": "text", "text": "x"}])
    assert name_pictures(given)
    told = await with_pictures(given, fetcher)  # type: ignore[arg-type]
    assert not name_pictures(told)
    assert told[0] == given[0]
    assert told[1].content[0] == given[1].content[0]
    assert base64.b64decode(told[1].content[1].source.data) == b"picture"
    assert base64.b64decode(told[2].content[0].content[1].source.data) == b"picture"
    assert [param for _, param in fetcher.asked] == [
        "messages[1].content[1].source.url",
        "messages[2].content[0].content[1].source.url",
    ]


@asynchronous
async def test_one_that_is_not_there_is_named() -> None:
    gone = {"type": "image", "source": {"type": "url", "url": "https://example.org/gone.png"}}
    with pytest.raises(InvalidValue) as refused:
        await with_pictures(messages([NAMED, gone]), Fetcher())  # type: ignore[arg-type]
    assert refused.value.fact("param") == "messages[0].content[1].source.url"


def test_what_needs_no_fetching() -> None:
    assert not name_pictures(messages("text", [INLINE], [{"type": "text", "text": ADDRESS}]))
