"""Pictures that requests name by addresses: fetched before anything else, where the configuration allows it.

Without leave, addresses stay where they are and are refused in A1111's words for that feature switched off. With it,
only public addresses are asked (`server.http.fetch`).
"""

import asyncio
import base64
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from compat.a1111.encoded import check_address
from compat.a1111.refusals import Refused
from compat.a1111.settings import A1111Settings
from server.core.errors import InvalidValue
from server.http.fetch import Fetcher, check_count
from server.http.pictures import is_address

Request = TypeVar("Request", bound=msgspec.Struct)

FIELDS: Final = (
    *("init_images", "mask", "image", "imageList"),
    *("controlnet_input_images", "controlnet_images", "controlnet_masks"),
)
"""Fields of requests that hold pictures."""

KEYS: Final = ("data", "image", "mask", "input_image", "mask_image", "effective_region_mask")
"""Those of objects in them."""

SCRIPTS, UNITS = "alwayson_scripts", "controlnet"
DEEPEST = 6


class Addresses:
    """Puts pictures in the place of their addresses. Owned by the door."""

    def __init__(self, settings: A1111Settings, fetcher: Fetcher | None = None) -> None:
        self._allowed = settings.fetch_images
        self._fetcher = fetcher or Fetcher(allowed=settings.fetch_images)

    async def fetched(self, request: Request) -> Request:
        """Return the request with base64 in place of addresses.

        Raises:
            Refused: an address is a local one, or there is no picture.
            InvalidValue: there are too many.
        """
        if not self._allowed:
            return request
        changed = {name: value for name, value in _fields(request) if any(_addresses(value))}
        check_count(sum(len(list(_addresses(value))) for value in changed.values()))
        for name, value in changed.items():
            changed[name] = await self._replaced(value)
        return msgspec.structs.replace(request, **changed) if changed else request

    async def _replaced(self, value: Any) -> Any:
        urls = list(dict.fromkeys(_addresses(value)))
        files = await asyncio.gather(*(self._file(url) for url in urls))
        return _put(value, dict(zip(urls, files, strict=True)))

    async def _file(self, url: str) -> str:
        check_address(url)
        try:
            data = await self._fetcher.fetch(url, "image")
        except InvalidValue:
            raise Refused.http("Invalid image url") from None
        return base64.b64encode(data).decode("ascii")


def _fields(request: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    for name in FIELDS:
        value = getattr(request, name, None)
        if value is not None:
            yield name, value
    scripts = getattr(request, SCRIPTS, None)
    if isinstance(scripts, dict) and any(name.lower() == UNITS for name in scripts):
        yield SCRIPTS, scripts


def _inner(key: str) -> bool:
    """Tell whether what an object has under a key may hold pictures."""
    return key in KEYS or key == "args" or key.lower() == UNITS


def _addresses(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str) and is_address(value):
        yield value
    elif depth < DEEPEST and isinstance(value, list):
        for each in value:
            yield from _addresses(each, depth + 1)
    elif depth < DEEPEST and isinstance(value, dict):
        for key, each in value.items():
            if _inner(key):
                yield from _addresses(each, depth + 1)


def _put(value: Any, files: Mapping[str, str], depth: int = 0) -> Any:
    if isinstance(value, str):
        return files.get(value, value)
    if depth < DEEPEST and isinstance(value, list):
        return [_put(each, files, depth + 1) for each in value]
    if depth < DEEPEST and isinstance(value, dict):
        return {key: _put(each, files, depth + 1) if _inner(key) else each for key, each in value.items()}
    return value
