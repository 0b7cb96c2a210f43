"""Pictures that conversations name by addresses: fetched before anything else, each put in the place of its address.

What is converted and remembered then holds the picture itself; without leave to fetch, the request is refused.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from compat.openai.wire import ImageUrl
from server.core.errors import InvalidValue
from server.http.fetch import Fetcher, check_count
from server.http.pictures import data_url, is_address

Turn = TypeVar("Turn", bound=msgspec.Struct)
"""A message or an item: a struct with parts in `content` or in `output`."""

_FIELDS = ("content", "output")


def address_in(given: ImageUrl | str | None, param: str) -> str:
    """Return the URL of a picture; raise InvalidValue when there is none."""
    url = given.url if isinstance(given, ImageUrl) else given
    if not url:
        raise InvalidValue.of(param, f"Missing required parameter: '{param}'.")
    return url


def name_pictures(turns: Sequence[msgspec.Struct]) -> bool:
    """Tell whether messages or items name pictures by addresses."""
    return _count(turns) > 0


def _count(turns: Sequence[msgspec.Struct]) -> int:
    return sum(_address(part) is not None for turn in turns for field in _FIELDS for part in _parts(turn, field))


async def with_pictures(turns: Sequence[Turn], where: Sequence[str], fetcher: Fetcher) -> list[Turn]:
    """Return messages or items with their pictures in the place of the addresses; `where` are their paths.

    Raises:
        InvalidValue: a picture cannot be had, or there are too many.
        Unsupported: fetching is not allowed.
    """
    check_count(_count(turns))
    return [await _turn(turn, path, fetcher) for turn, path in zip(turns, where, strict=True)]


async def _turn(turn: Turn, path: str, fetcher: Fetcher) -> Turn:
    changed: dict[str, list[Any]] = {}
    for field in _FIELDS:
        parts = _parts(turn, field)
        if any(_address(part) is not None for part in parts):
            params = [f"{path}.{field}[{index}].image_url" for index in range(len(parts))]
            fetched = await asyncio.gather(*map(_part, parts, params, [fetcher] * len(parts)), return_exceptions=True)
            changed[field] = [_or_raise(result) for result in fetched]
    return msgspec.structs.replace(turn, **changed) if changed else turn


def _or_raise(result: Any) -> Any:
    if isinstance(result, BaseException):
        raise result
    return result


async def _part(part: Any, param: str, fetcher: Fetcher) -> Any:
    url = _address(part)
    if url is None:
        return part
    return msgspec.structs.replace(part, image_url=data_url(await fetcher.fetch(url, param)))


def _parts(turn: msgspec.Struct, field: str) -> list[Any]:
    found = getattr(turn, field, None)
    return found if isinstance(found, list) else []


def _address(part: Any) -> str | None:
    given = getattr(part, "image_url", None)
    url = given.url if isinstance(given, ImageUrl) else given
    return url if isinstance(url, str) and is_address(url) else None
