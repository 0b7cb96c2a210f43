"""A hub of one's own on loopback: listings, HEAD and GET with ranges, redirects to storage, and faults on demand."""

import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

COMMIT = "1" * 40


class FakeHub:
    """Serves `files` (path -> bytes) as one repository `org/repo`; a context manager.

    `large` files have a SHA-256 in the listing, others git's blob hash. `body` may change or cut what is sent;
    `redirect` may send a download elsewhere. `seen` holds method, path, Range and Authorization of every request.
    """

    def __init__(self, files: dict[str, bytes], *, repo: str = "org/repo", large: bool = True) -> None:
        self.files = files
        self.repo = repo
        self.large = large
        self.commit = COMMIT
        self.listed_sizes = True
        self.ranges = True
        self.status: Callable[[str], int | None] = lambda path: None
        self.retry_after: str | None = None
        self.body: Callable[[str, bytes], bytes] = lambda path, data: data
        self.redirect: Callable[[str], str | None] = lambda path: None
        self.seen: list[tuple[str, str, str | None, str | None]] = []
        hub = self

        class Handler(_Handler):
            owner = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def downloads(self) -> list[str | None]:
        """Return the Range of every GET of a file."""
        return [span for method, path, span, _ in self.seen if method == "GET" and "/resolve/" in path]

    def listing(self) -> dict[str, Any]:
        siblings = []
        for path, data in self.files.items():
            entry: dict[str, Any] = {"rfilename": path}
            if self.listed_sizes:
                entry |= {"size": len(data), "blobId": blob(data)}
                if self.large:
                    entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        return {"id": self.repo, "modelId": self.repo, "sha": self.commit, "private": False, "siblings": siblings}


def blob(data: bytes) -> str:
    """Return git's name of a blob."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    owner: FakeHub
    protocol_version = "HTTP/1.0"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, *, head: bool) -> None:
        hub, path = self.owner, self.path.partition("?")[0]
        hub.seen.append((self.command, path, self.headers.get("Range"), self.headers.get("Authorization")))
        status = hub.status(path)
        if status is not None:
            self._send(status, b"{}", {"Retry-After": hub.retry_after} if hub.retry_after else {}, head=head)
        elif path == f"/api/models/{hub.repo}":
            self._send(200, json.dumps(hub.listing()).encode(), {"Content-Type": "application/json"}, head=head)
        elif path.startswith(f"/{hub.repo}/resolve/{hub.commit}/"):
            self._file(path.split(f"/resolve/{hub.commit}/", 1)[1], head=head)
        else:
            self._send(404, b'{"error":"Repository not found"}', {}, head=head)

    def _file(self, name: str, *, head: bool) -> None:
        hub = self.owner
        data = hub.files.get(name)
        if data is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, head=head)
            return
        tag = hashlib.sha256(data).hexdigest() if hub.large else blob(data)
        facts = {"ETag": f'"{tag}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
        if hub.large:
            facts |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(data))}
        target = hub.redirect(name)
        if target is not None:
            self._send(302, b"", {**facts, "Location": target}, head=head)
            return
        sent, status, start = hub.body(name, data), 200, 0
        span = self.headers.get("Range")
        if span is not None and hub.ranges:
            start = int(span.removeprefix("bytes=").rstrip("-"))
            status = 206
            facts["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(status, sent[start:], facts, head=head, length=len(data) - start)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], *, head: bool, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if not head:
            self.wfile.write(body)
