"""Pictures that conversations name by addresses."""

import msgspec
import pytest

from compat.openai import wire
from compat.openai.picture_urls import address_in, name_pictures, with_pictures
from compat.openai.responses.wire import Item
from server.core.errors import InvalidValue
from server.http.pictures import data_url
from tests.support.aio import asynchronous

ADDRESS = "https://example.org/a.png"
INLINE = "data:image/png;base64,cGljdHVyZQ=="


class Fetcher:
    """Has what stands at some addresses, and notes what was asked for."""

    def __init__(self, **known: bytes) -> None:
        self._known = known
        self.asked: list[tuple[str, str]] = []

    async def fetch(self, url: str, param: str) -> bytes:
        self.asked.append((url, param))
        name = url.rsplit("/", 1)[-1].removesuffix(".png")
        if name not in self._known:
            raise InvalidValue.of(param, "nothing is there")
        return self._known[name]


def messages(*parts: dict[str, object]) -> list[wire.Message]:
    return msgspec.convert([{"role": "user", "content": list(parts)}], list[wire.Message])


def shown(address: object) -> dict[str, object]:
    return {"type": "image_url", "image_url": address}


@asynchronous
async def test_addresses_become_pictures() -> None:
    fetcher = Fetcher(a=b"AAA")
    given = messages({"type": "text", "text": "x"}, shown(INLINE), shown({"url": ADDRESS, "detail": "low"}))
    (told,) = await with_pictures(given, ["messages[0]"], fetcher)  # type: ignore[arg-type]
    assert isinstance(told.content, list)
    assert [part.image_url for part in told.content] == [None, INLINE, data_url(b"AAA")]
    assert fetcher.asked == [(ADDRESS, "messages[0].content[2].image_url")]


@asynchronous
async def test_one_that_is_not_there_is_named() -> None:
    given = messages(shown(ADDRESS), shown("https://example.org/b.png"))
    with pytest.raises(InvalidValue) as refused:
        await with_pictures(given, ["messages[7]"], Fetcher(a=b"A"))  # type: ignore[arg-type]
    assert refused.value.fact("param") == "messages[7].content[1].image_url"


@asynchronous
async def test_items_have_pictures_in_contents_and_outputs() -> None:
    part = {"type": "input_image", "image_url": ADDRESS}
    given = msgspec.convert(
        [{"role": "user", "content": [part]}, {"type": "function_call_output", "output": [part]}, {"role": "user"}],
        list[Item],
    )
    assert name_pictures(given)
    told = await with_pictures(given, ["input[0]", "input[1]", "input[2]"], Fetcher(a=b"A"))  # type: ignore[arg-type]
    assert not name_pictures(told)
    assert told[2] == given[2]


def test_what_needs_no_fetching() -> None:
    assert not name_pictures(messages(shown(INLINE), {"type": "text", "text": ADDRESS}))
    assert not name_pictures(msgspec.convert([{"role": "user", "content": "x"}], list[wire.Message]))


@pytest.mark.parametrize("given", [None, "", wire.ImageUrl("")])
def test_a_picture_without_an_address(given: wire.ImageUrl | str | None) -> None:
    with pytest.raises(InvalidValue, match="Missing"):
        address_in(given, "p")


@asynchronous
async def test_too_many_addresses_are_refused_before_one_is_asked() -> None:
    fetcher = Fetcher(a=b"A")
    with pytest.raises(InvalidValue, match="65"):
        await with_pictures(messages(*[shown(ADDRESS)] * 65), ["messages[0]"], fetcher)  # type: ignore[arg-type]
    assert not fetcher.asked
