"""The gate before all doors: what is refused before anything is routed or parsed, and what every answer carries.

Plain ASGI, outermost. In: host names and pages that are not ours, malformed or oversized requests, packed bodies.
Out: a request id, the headers that browsers heed, CORS for pages that may read. OPTIONS is answered here, without a
key. A streamed answer costs one plain function call a chunk.
"""

import itertools
import logging
import re
import secrets
import time
from typing import Any

import msgspec
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Receive, Send

from server.http.bodies import BodyLimits
from server.http.heads import Head, Refused, announced_length, read_head
from server.http.origins import HostRule, OriginRule, split_host
from server.http.passage import Passage
from server.http.reply import Reply, ReplyTo, send_reply

logger = logging.getLogger(__name__)

MIB = 1024 * 1024
PREFLIGHT_AGE_S = 600
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

_SAFE_METHODS = ("GET", "HEAD")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9_, -]{1,2048}")


class GateRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate lets through.

    `bound` is the address the server listens on, `machine` the machine's name; `hosts` and `origins` are let in, too.
    `keyed`: every call needs an API key. `body_limits` are bytes by path prefix, `body_limit` holds elsewhere,
    `bytes_in_flight` for all requests together. A body may pause for `body_idle_s`. `timed` are path prefixes whose
    answers tell how long they took.
    """

    bound: str = "127.0.0.1"
    machine: str = ""
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    keyed: bool = False
    body_limits: dict[str, int] = {}
    body_limit: int = MIB
    bytes_in_flight: int = 1024 * MIB
    body_idle_s: float = 60.0
    timed: tuple[str, ...] = ()


class Gate:
    """The ASGI app to serve: `app` behind the rules. `reply_to` words the refusals, all of them HTTPExceptions."""

    def __init__(self, app: ASGIApp, *, reply_to: ReplyTo, rules: GateRules | None = None) -> None:
        rules = rules or GateRules()
        self._app = app
        self._reply_to = reply_to
        self._hosts = HostRule(bound=rules.bound, machine=rules.machine, allowed=rules.hosts)
        self._origins = OriginRule(allowed=rules.origins, keyed=rules.keyed)
        self._timed = rules.timed
        self.bodies = BodyLimits(
            rules.body_limits,
            otherwise=rules.body_limit,
            in_flight=rules.bytes_in_flight,
            idle_s=rules.body_idle_s,
        )
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request; what is not HTTP passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        head: Head = {}
        passage = Passage(receive, send, self.bodies)
        refusal: HTTPException | None = None
        try:
            self._admit(scope, head, passage)
        except HTTPException as error:
            refusal = error
        passage.request_id = request_id = self._request_id(head)
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        if scope["path"].startswith(self._timed):
            passage.began = began
        if refusal is not None:
            await self._refuse(scope["path"], refusal, head, passage)
        elif scope["method"] == "OPTIONS":
            await send_reply(_options(head), passage.send)
        else:
            try:
                await self._app(scope, passage.receive, passage.send)
            finally:
                passage.close()

    def _admit(self, scope: Any, head: Head, passage: Passage) -> None:
        read_head(scope["headers"], head)
        length = announced_length(head)
        host = head.get(b"host", b"").decode("latin-1")
        self._check_host(host)
        self._check_page(scope["method"], head, host)
        passage.origin = head.get(b"origin")
        if length == 0:
            return
        encoding = head.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"identity", b""):
            raise Refused(415, "packed bodies are not accepted; send it without Content-Encoding")
        passage.limit = self.bodies.limit(scope["path"])
        if length is not None:
            self.bodies.check_announced(length, passage.limit)

    def _check_host(self, header: str) -> None:
        host = split_host(header)
        if host is None:
            raise Refused(400, "the Host header is missing or malformed")
        if not self._hosts.allows(host):
            text = f"this server does not answer to the name {host}; to let it, add it to allowed_hosts in [server]"
            raise Refused(403, text)

    def _check_page(self, method: str, head: Head, host: str) -> None:
        origin = head.get(b"origin")
        if origin is not None and not self._origins.allows(origin.decode("latin-1"), host):
            text = "pages of this origin may not use the server; to let them, add it to allowed_origins in [server]"
            raise Refused(403, text)
        if head.get(b"sec-fetch-site") != b"cross-site":
            return
        # A link may lead here; a foreign form, picture or script may not.
        navigates = head.get(b"sec-fetch-mode") == b"navigate"
        if method not in _SAFE_METHODS if navigates else origin is None:
            raise Refused(403, "requests from other sites are refused")

    async def _refuse(self, path: str, error: HTTPException, head: Head, passage: Passage) -> None:
        logger.info("refused %d %r: %s", error.status_code, path, error.detail)
        trusted = not (isinstance(error, Refused) and error.closes)
        has_body = b"transfer-encoding" in head or head.get(b"content-length", b"0") != b"0"
        if not trusted or has_body:
            # Who waits for "100 Continue" sends no body that would have to be taken off the wire.
            passage.cut(linger=trusted and b"expect" not in head)
        reply = self._reply_to(path, error)
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        headers |= {name.lower(): value for name, value in reply.headers.items()}
        await send_reply(msgspec.structs.replace(reply, headers=headers), passage.send)

    def _request_id(self, head: Head) -> bytes:
        given = head.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return f"{self._prefix}-{next(self._numbers):x}".encode()


def _options(head: Head) -> Reply:
    """Answer OPTIONS, a preflight or a plain one; the request has been admitted."""
    headers = {"Allow": METHODS}
    if b"origin" in head and b"access-control-request-method" in head:
        headers = {"Access-Control-Allow-Methods": METHODS, "Access-Control-Max-Age": str(PREFLIGHT_AGE_S)}
        wanted = head.get(b"access-control-request-headers", b"")
        if _HEADER_NAMES.fullmatch(wanted):
            headers["Access-Control-Allow-Headers"] = wanted.decode()
        if head.get(b"access-control-request-private-network") == b"true":
            headers["Access-Control-Allow-Private-Network"] = "true"
    return Reply(status=204, body=b"", headers=headers)
