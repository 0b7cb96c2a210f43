"""Pictures by address: only public ones, bounded, and what comes must look like one."""

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from server.core.errors import InvalidValue, Unsupported
from server.http.fetch import Address, Fetcher, is_public
from tests.support.aio import asynchronous

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
HERE = ipaddress.ip_address("127.0.0.1")

Answer = Callable[[str], bytes | None]


def told(body: bytes = PNG, *, status: str = "200 OK", kind: str = "image/png", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


class Site:
    """A little server on this machine; `asked` are the heads of the requests that it had."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[str] = []
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        answer = self._answer(head.split(" ")[1])
        with contextlib.suppress(ConnectionError):  # the other side leaves when it has seen enough
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def site(answer: Answer) -> AsyncIterator[Site]:
    made = Site(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await asyncio.gather(*made.tasks)


def names(**known: str) -> Callable[[str, int], object]:
    async def resolving(host: str, _: int) -> Sequence[Address]:
        found = known.get(host.replace(".", "_"))
        if found is None:
            raise OSError("no such name")
        return [ipaddress.ip_address(text) for text in found.split()]

    return resolving


def fetcher(**settings: object) -> Fetcher:
    """Return one for which this machine is a public place named pictures.org."""
    defaults: dict[str, object] = {
        "allowed": True,
        "resolving": names(pictures_org="127.0.0.1", inside_org="10.0.0.1", two_org="127.0.0.1 10.0.0.1"),
        "public": lambda address: address == HERE,
    }
    return Fetcher(**(defaults | settings))  # type: ignore[arg-type]


@asynchronous
async def test_a_picture_is_fetched() -> None:
    async with site(lambda _: told()) as here:
        assert await fetcher().fetch(f"http://pictures.org:{here.port}/a%20b.png?x=1#part", "p") == PNG
        (head,) = here.asked
    assert head.startswith("GET /a%20b.png?x=1 HTTP/1.1\r\n")
    assert f"host: pictures.org:{here.port}\r\n" in head.lower()
    assert "cookie" not in head.lower() and "authorization" not in head.lower()


@asynchronous
async def test_nothing_is_fetched_without_leave() -> None:
    async with site(lambda _: told()) as here:
        with pytest.raises(Unsupported, match="fetch_images"):
            await fetcher(allowed=False).fetch(f"http://pictures.org:{here.port}/", "p")
        assert not here.asked


@pytest.mark.parametrize(
    "url",
    [
        "http://inside.org/a.png",
        "http://two.org/a.png",
        "http://unknown.org/a.png",
        "http://user:word@pictures.org/",
        "http://user@pictures.org/",
        "http:///a.png",
        "http://pictures.org:99999/",
        "http://[::1/a.png",
        "ftp://pictures.org/a.png",
        "http://pictures.org/a b.png",
        "http://pictures.org/ä.png",
        "http://pictures.org/a\r\nx: y",
    ],
)
@asynchronous
async def test_places_where_nobody_goes(url: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        await fetcher().fetch(url, "messages[0].content[0].image_url")
    assert refused.value.fact("param") == "messages[0].content[0].image_url"
    assert "10.0.0.1" not in refused.value.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (told(status="404 Not Found"), "404"),
        (told(status="206 Partial Content"), "206"),
        (told(kind="text/html"), "not a picture"),
        (told(b"<svg xmlns='http://www.w3.org/2000/svg'/>", kind="image/svg+xml"), "not a picture"),
        (told(b"", kind="image/png"), "not a picture"),
        (told(PNG + bytes(2000)), "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n" + PNG + bytes(5000), "more than 1000 bytes"),
        (told()[:-50], "could not be fetched"),
        (told(more="content-encoding: gzip\r\n"), "compressed"),
        (b"this is no answer\r\n\r\n", "could not be fetched"),
        (b"", "could not be fetched"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000 + b"\r\n", "could not be fetched"),
    ],
)
@asynchronous
async def test_answers_that_are_no_pictures(answer: bytes, words: str) -> None:
    async with site(lambda _: answer) as here:
        with pytest.raises(InvalidValue, match=words):
            await fetcher(most_bytes=1000).fetch(f"http://pictures.org:{here.port}/", "p")


@asynchronous
async def test_silence_ends() -> None:
    async with site(lambda _: None) as here:
        with pytest.raises(InvalidValue, match="within"):
            await fetcher(most_seconds=0.2).fetch(f"http://pictures.org:{here.port}/", "p")


@asynchronous
async def test_redirects_are_followed_and_checked_anew() -> None:
    def answer(target: str) -> bytes:
        match target:
            case "/there":
                return told(b"", status="302 Found", more="location: /here.png\r\n")
            case "/inside":
                return told(b"", status="302 Found", more="location: http://inside.org/here.png\r\n")
            case "/file":
                return told(b"", status="302 Found", more="location: file:///etc/passwd\r\n")
            case "/round":
                return told(b"", status="307 Temporary Redirect", more="location: /round\r\n")
        return told()

    async with site(answer) as here:
        base = f"http://pictures.org:{here.port}"
        assert await fetcher().fetch(f"{base}/there", "p") == PNG
        for target, words in (("inside", "public"), ("file", "http or https"), ("round", "too often")):
            with pytest.raises(InvalidValue, match=words):
                await fetcher().fetch(f"{base}/{target}", "p")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
        ("2002:a00:1::1", False),
    ],
)
def test_public_addresses(address: str, expected: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is expected
