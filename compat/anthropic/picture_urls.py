"""Pictures that messages name by addresses: fetched before anything else, each put in the place of its address.

Without leave to fetch, the request is refused.
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from compat.anthropic import wire
from server.http.fetch import Fetcher, check_count

_ADDRESS = "url"


def name_pictures(messages: Sequence[wire.Message]) -> bool:
    """Tell whether messages name pictures by addresses."""
    return _count(messages) > 0


def _count(messages: Sequence[wire.Message]) -> int:
    return sum(_named(block) for message in messages for block in _blocks(message.content))


async def with_pictures(messages: Sequence[wire.Message], fetcher: Fetcher) -> list[wire.Message]:
    """Return messages with their pictures in the place of the addresses.

    Raises:
        InvalidValue: a picture cannot be had, or there are too many.
        Unsupported: fetching is not allowed.
    """
    check_count(_count(messages))
    return [
        msgspec.structs.replace(message, content=await _fetched(message.content, f"messages[{index}].content", fetcher))
        for index, message in enumerate(messages)
    ]


async def _fetched(
    content: str | list[wire.Block] | None, where: str, fetcher: Fetcher
) -> str | list[wire.Block] | None:
    if not isinstance(content, list) or not any(map(_named, content)):
        return content
    places = [f"{where}[{index}]" for index in range(len(content))]
    found = await asyncio.gather(*map(_block, content, places, [fetcher] * len(content)), return_exceptions=True)
    return [_or_raise(block) for block in found]


async def _block(block: wire.Block, at: str, fetcher: Fetcher) -> wire.Block:
    if isinstance(block.content, list):
        return msgspec.structs.replace(block, content=await _fetched(block.content, f"{at}.content", fetcher))
    if not _named(block) or block.source is None:
        return block
    data = await fetcher.fetch(block.source.url or "", f"{at}.source.url")
    source = wire.Source(type="base64", data=base64.b64encode(data).decode("ascii"))
    return msgspec.structs.replace(block, source=source)


def _or_raise(result: Any) -> wire.Block:
    if isinstance(result, wire.Block):
        return result
    raise result


def _named(block: wire.Block) -> int:
    """Return how many addresses a block and those in it name."""
    named = block.type == "image" and block.source is not None and block.source.type == _ADDRESS
    return named + sum(map(_named, _blocks(block.content)))


def _blocks(content: str | list[wire.Block] | None) -> list[wire.Block]:
    return content if isinstance(content, list) else []
