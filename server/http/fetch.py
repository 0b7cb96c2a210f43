"""Fetches pictures by their addresses, for requests that name some. Off unless the configuration allows it.

A request must not become a way into this machine or its network. So a name is resolved here, every address that it has
must be a public one, and the connection goes to an address that was checked; each redirect is checked anew. What comes
is bounded in bytes and in time and must look like a picture.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import h11

from server.core.errors import InvalidValue, Unsupported
from server.core.text import MOST_PICTURES
from server.http.pictures import NOT_FETCHED

MOST_BYTES = 20 * 1024 * 1024
MOST_SECONDS = 15.0
MOST_REDIRECTS = 3
AT_ONCE = 4

_CHUNK = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""Returns the addresses of a host name; raises OSError."""


class Refused(Exception):
    """Why a picture is not fetched, as the end of a sentence that begins with the field's name."""


class _Place(NamedTuple):
    scheme: str
    host: str
    port: int
    target: str


def is_public(address: Address) -> bool:
    """Tell whether an address is on the open internet, also in the ways in which IPv6 writes IPv4 addresses."""
    inner: Address | None = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None and not is_public(inner):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host as the system knows them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(entry[4][0]).split("%", 1)[0]) for entry in found]


class Fetcher:
    """Fetches pictures, or refuses to when it is not `allowed`. `resolving` and `public` can be replaced by tests."""

    def __init__(
        self,
        *,
        allowed: bool,
        resolving: Resolve = resolve,
        public: Callable[[Address], bool] = is_public,
        most_bytes: int = MOST_BYTES,
        most_seconds: float = MOST_SECONDS,
    ) -> None:
        self._allowed = allowed
        self._resolve = resolving
        self._public = public
        self._most_bytes = most_bytes
        self._most_seconds = most_seconds
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._secure: ssl.SSLContext | None = None

    async def fetch(self, url: str, param: str) -> bytes:
        """Return the file at an address.

        Raises:
            Unsupported: fetching is not allowed.
            InvalidValue: there is no picture that may be had; the text says why, without details of networks.
        """
        if not self._allowed:
            raise Unsupported.of(param, f"'{param}': {NOT_FETCHED}")
        try:
            async with asyncio.timeout(self._most_seconds), self._gate:
                return await self._followed(url)
        except Refused as error:
            raise InvalidValue.of(param, f"'{param}' {error}") from None
        except TimeoutError:
            raise InvalidValue.of(param, f"'{param}' was not fetched within {self._most_seconds:g} s") from None
        except (OSError, h11.ProtocolError):
            raise InvalidValue.of(param, f"'{param}' could not be fetched") from None

    async def _followed(self, url: str) -> bytes:
        for _ in range(MOST_REDIRECTS + 1):
            place = _parsed(url)
            async with self._connected(place) as (reader, writer):
                answer = await _ask(place, reader, writer, self._most_bytes)
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer.location)
        raise Refused("is redirected too often")

    @contextlib.asynccontextmanager
    async def _connected(self, place: _Place) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        addresses = await self._resolve(place.host, place.port)
        if not addresses or not all(map(self._public, addresses)):
            raise Refused("is not a public address")
        reader, writer = await self._connect(place, addresses)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _connect(
        self, place: _Place, addresses: Sequence[Address]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        secure = self._tls() if place.scheme == "https" else None
        name = place.host if secure else None
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(str(address), place.port, ssl=secure, server_hostname=name)
        return await asyncio.open_connection(str(addresses[-1]), place.port, ssl=secure, server_hostname=name)

    def _tls(self) -> ssl.SSLContext:
        if self._secure is None:
            self._secure = ssl.create_default_context()
        return self._secure


def check_count(addresses: int) -> None:
    """Raise InvalidValue when one request names more pictures than it can have."""
    if addresses > MOST_PICTURES:
        text = f"a request can have {MOST_PICTURES} pictures, not {addresses}"
        raise InvalidValue.of("messages", text)


class _Elsewhere(NamedTuple):
    location: str


def _parsed(url: str) -> _Place:
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".").encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        raise Refused("is not a valid address") from None
    if parts.scheme not in _PORTS or not host or parts.username is not None:
        raise Refused("must be an http or https address without a user name")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii() or not target.isprintable() or " " in target:
        raise Refused("is not a valid address; letters beyond ASCII must be percent-encoded")
    return _Place(parts.scheme, host, port or _PORTS[parts.scheme], target)


async def _ask(
    place: _Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most_bytes: int
) -> bytes | _Elsewhere:
    connection = h11.Connection(h11.CLIENT)
    shown = f"[{place.host}]" if ":" in place.host else place.host
    host = shown if place.port == _PORTS[place.scheme] else f"{shown}:{place.port}"
    headers = [("host", host), ("user-agent", "hearth"), ("accept", "image/*"), ("connection", "close")]
    request = h11.Request(method="GET", target=place.target, headers=headers)
    writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    await writer.drain()
    response = await _response(connection, reader)
    if response.status_code in _REDIRECTS:
        return _Elsewhere(_header(response, b"location"))
    _check(response, most_bytes)
    return await _body(connection, reader, most_bytes)


async def _response(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Response:
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Response):
            return event
        elif not isinstance(event, h11.InformationalResponse):
            raise Refused("could not be fetched")


def _check(response: h11.Response, most_bytes: int) -> None:
    if response.status_code != 200:
        raise Refused(f"was answered {response.status_code}")
    if not _header(response, b"content-type").casefold().startswith(_TYPES):
        raise Refused("is not a picture")
    if _header(response, b"content-encoding") not in ("", "identity"):
        raise Refused("comes compressed, which was not asked for")
    length = _header(response, b"content-length")
    if length.isdigit() and int(length) > most_bytes:
        raise Refused(f"has more than {most_bytes} bytes")


async def _body(connection: h11.Connection, reader: asyncio.StreamReader, most_bytes: int) -> bytes:
    data = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Data):
            data += event.data
            if len(data) > most_bytes:
                raise Refused(f"has more than {most_bytes} bytes")
        else:
            break
    if not isinstance(event, h11.EndOfMessage) or not _looks_like_picture(bytes(data[:16])):
        raise Refused("is not a picture")
    return bytes(data)


def _looks_like_picture(head: bytes) -> bool:
    return head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _header(response: h11.Response, name: bytes) -> str:
    value: bytes = next((value for key, value in response.headers if key == name), b"")
    return value.decode("latin-1").strip()
