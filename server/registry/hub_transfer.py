"""Talk to the hub and carry one file over: redirects watched, partial files resumed, content verified.

One opener for everything: the token goes to the hub's own host alone, and a redirect may lead to the hub's hosts alone.
"""

import fcntl
import hashlib
import http.client
import json
import logging
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import urlsplit

import msgspec

from server.core.errors import CannotServe, InvalidValue, NotNow, ServerError, UnknownModel
from server.registry.hub_choice import RemoteFile

logger = logging.getLogger(__name__)

HUB = "https://huggingface.co"
HUB_DOMAINS = ("huggingface.co", "hf.co")
CHUNK = 1024 * 1024
STALL_S = 30.0
TRIES = 5
LONGEST_PAUSE_S = 60.0
MAX_LISTING = 64 * 1024 * 1024
BROKEN_CONNECTION = (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException)

Progress = Callable[[int, int, str], None]
"""Told the bytes that are there, the bytes of the whole file, and its name."""
Pause = Callable[[float], None]


class HubSource(msgspec.Struct, frozen=True):
    """Where the hub is, and the token that it may see."""

    endpoint: str = HUB
    token: str | None = None


class HubClient:
    """Requests to one hub. Blocks; every method raises core errors alone."""

    def __init__(self, source: HubSource, *, pause: Pause = time.sleep) -> None:
        place = urlsplit(source.endpoint)
        if place.scheme not in ("http", "https") or not place.hostname or place.username:
            raise InvalidValue.of("endpoint", "the hub's address must be an http or https URL")
        self.endpoint = source.endpoint.rstrip("/")
        self._source = source
        self._pause = pause
        self._opener = _opener(place.scheme, place.netloc, local=place.hostname in ("127.0.0.1", "::1", "localhost"))

    def json(self, path: str) -> Any:
        """Return a JSON answer of the hub's API."""
        with self._asking(path), self._open(f"{self.endpoint}{path}", {}) as answer:
            return json.loads(answer.read(MAX_LISTING))

    def facts(self, url: str) -> Mapping[str, str]:
        """Return the headers that the hub gives for a file, lower-case; redirects to storage are not followed."""
        request = urllib.request.Request(url, method="HEAD", headers=self._headers(url))
        with self._asking(url):
            try:
                with self._opener.open(request, timeout=STALL_S) as answer:
                    return {name.lower(): value for name, value in answer.headers.items()}
            except urllib.error.HTTPError as error:
                if error.code not in (301, 302, 303, 307, 308):
                    raise
                error.close()
                return {name.lower(): value for name, value in error.headers.items()}

    def fetch(self, url: str, file: RemoteFile, partial: Path, progress: Progress) -> None:
        """Have the whole file at `partial`, going on where an earlier attempt ended, verified.

        Raises:
            NotNow: the hub cannot be reached, or another process fetches the same file.
            CannotServe: the content is wrong twice, the disk is full, or the hub redirects elsewhere.
        """
        size = file.size or 0
        with self._asking(file.path), _locked(partial) as out:
            for attempt in (1, 2):
                digests = _Digests(file)
                self._fill(url, file, out, digests, progress)
                if digests.agree(out.tell()):
                    out.flush()
                    os.fsync(out.fileno())
                    return
                logger.warning("%s: attempt %d arrived damaged", file.path, attempt)
                out.seek(0)
                out.truncate()
                progress(0, size, file.name)
        partial.unlink(missing_ok=True)
        raise CannotServe(f"{file.path!r} arrived damaged twice: its checksum is not the one that the hub lists")

    def _fill(self, url: str, file: RemoteFile, out: BinaryIO, digests: "_Digests", progress: Progress) -> None:
        """Read until the file has its size. Gives up after some tries in which nothing arrived."""
        size = file.size or 0
        digests.begin(out, size)
        left = TRIES
        while out.tell() < size:
            before = out.tell()
            progress(before, size, file.name)
            wait = self._read_some(url, size, out, digests, lambda done: progress(done, size, file.name))
            left = TRIES if out.tell() > before else left - 1
            if left == 0:
                raise NotNow(f"{file.path!r} does not arrive; what is there is kept, try again later", retry_after=60)
            if out.tell() < size:
                self._pause(wait if wait is not None else float(2 ** (TRIES - left)))
        progress(size, size, file.name)

    def _read_some(
        self, url: str, size: int, out: BinaryIO, digests: "_Digests", told: Callable[[int], None]
    ) -> float | None:
        """Read what one answer gives; return how long the hub asks to wait, None when it does not."""
        start = out.tell()
        try:
            with self._open(url, {"Range": f"bytes={start}-"} if start else {}) as answer:
                if start and not _continues(answer, start):
                    out.seek(0)
                    out.truncate()
                    digests.restart()
                while out.tell() < size and (data := answer.read(min(CHUNK, size - out.tell()))):
                    out.write(data)
                    digests.update(data)
                    told(out.tell())
        except urllib.error.HTTPError as error:
            if error.code not in (408, 416, 429) and error.code < 500:
                raise
            error.close()
            if error.code == 416:
                out.seek(0)
                out.truncate()
                digests.restart()
            return _retry_after(error.headers.get("Retry-After"))
        except BROKEN_CONNECTION as error:
            logger.info("%s: the connection broke: %s", urlsplit(url).path, error)
        return None

    def _open(self, url: str, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(url, headers={**self._headers(url), **headers})
        return self._opener.open(request, timeout=STALL_S)

    def _headers(self, url: str) -> dict[str, str]:
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, not marked so

        same = urlsplit(url).netloc == urlsplit(self.endpoint).netloc
        token = self._source.token if same and self._source.token else False
        return {**build_hf_headers(token=token, library_name="hearth"), "Accept-Encoding": "identity"}

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn the errors of the library into ours."""
        try:
            yield
        except urllib.error.HTTPError as error:
            error.close()
            raise _refusal(error.code, what) from error
        except BROKEN_CONNECTION as error:
            raise NotNow(f"the hub at {self.endpoint} cannot be reached: {error}", retry_after=60) from error
        except (ValueError, RecursionError) as error:
            raise CannotServe(f"the hub's answer for {what!r} is not JSON") from error
        except OSError as error:
            raise CannotServe(f"{what!r} could not be written: {error.strerror}") from error


class _Digests:
    """Hashes of what has arrived, as the hub names files: SHA-256 of large ones, git's blob hash of small ones."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self.restart()

    def restart(self) -> None:
        self._sha256 = hashlib.sha256()
        self._blob = hashlib.sha1(f"blob {self._file.size or 0}\0".encode(), usedforsecurity=False)

    def begin(self, out: BinaryIO, size: int) -> None:
        """Take in what an earlier attempt left; leave the file at its end."""
        out.seek(0, os.SEEK_END)
        if out.tell() > size:
            out.truncate(0)
        out.seek(0)
        while data := out.read(CHUNK):
            self.update(data)

    def update(self, data: bytes) -> None:
        self._sha256.update(data)
        self._blob.update(data)

    def agree(self, size: int) -> bool:
        if size != self._file.size:
            return False
        if self._file.sha256:
            return self._sha256.hexdigest() == self._file.sha256
        return not self._file.blob or self._blob.hexdigest() == self._file.blob


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Lets redirects lead to the hub's own hosts alone, and keeps the token from all but the first."""

    def __init__(self, scheme: str, netloc: str) -> None:
        self._scheme = scheme
        self._netloc = netloc

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        place = urlsplit(newurl)
        home = place.netloc == self._netloc and place.scheme == self._scheme
        host = (place.hostname or "").lower()
        if not home and not (place.scheme == "https" and _is_hubs(host)):
            raise CannotServe(f"the hub redirects to {host[:200]!r}, which is not one of its hosts")
        if req.get_method() == "HEAD":
            return None
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and not home:
            request.remove_header("Authorization")
        return request


def _opener(scheme: str, netloc: str, *, local: bool) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_Redirects(scheme, netloc)]
    if local:
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _is_hubs(host: str) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in HUB_DOMAINS)


def _continues(answer: Any, start: int) -> bool:
    """Tell whether an answer goes on at `start`, as asked; a server may send the whole file instead."""
    return answer.status == 206 and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {start}-")


def _retry_after(text: str | None) -> float | None:
    return min(float(text), LONGEST_PAUSE_S) if text is not None and text.isdigit() else None


def _refusal(code: int, what: str) -> ServerError:
    if code in (401, 403):
        return CannotServe(
            f"the hub does not give {what!r} to everyone: set HF_TOKEN, and accept the model's terms there"
        )
    if code == 404:
        return UnknownModel(f"the hub has no {what!r}", model=what, close=[])
    if code == 429 or code >= 500:
        return NotNow(f"the hub answers {code} for {what!r}; try again later", retry_after=60)
    return CannotServe(f"the hub answers {code} for {what!r}")


@contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    """Open a partial file for one process alone."""
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("a+b") as out:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield out
    except BlockingIOError as error:
        raise NotNow("another process is fetching this file already", retry_after=60) from error
