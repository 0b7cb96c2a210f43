import asyncio
import http.client
import socket
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from litestar import Litestar, Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.params import JSONBody
from litestar.types import ASGIApp

from server.http import house
from server.http.disconnect import unless_disconnected
from server.http.gate import Gate, GateRules
from server.http.reply import Reply
from server.http.sse import event_stream
from tests.support.asgi import Exchange, ask, http_scope
from tests.support.live_server import address, exchange, live_server

KIB = 1024
RULES = GateRules(body_limits={"/big": 64 * KIB, "/small": KIB}, body_limit=100, timed=("/timed",), body_idle_s=5)
FOREIGN_PAGES = ["http://evil.com", "https://evil.com:7860", "null", "http://localhost.evil.com", "file://"]


class App:
    """An ASGI app that reads the whole body, if any, and answers with its length."""

    def __init__(self) -> None:
        self.calls = 0
        self.state: dict[str, Any] = {}
        self.held = -1
        self.gate: Gate | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.state = scope.get("state", {})
        if scope["type"] != "http":
            return
        length, more = 0, True
        while more:
            message = await receive()
            length += len(message.get("body", b""))
            more = message.get("more_body", False)
        self.held = self.gate.bodies.held if self.gate else -1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": str(length).encode()})


def reply_to(path: str, error: Exception) -> Reply:
    made = house.reply(error)
    return msgspec.structs.replace(made, headers={**made.headers, "x-worded-for": path})


def make(rules: GateRules = RULES) -> tuple[Gate, App]:
    app = App()
    gate = Gate(app, reply_to=reply_to, rules=rules)
    app.gate = gate
    return gate, app


def call(
    path: str = "/small",
    method: str = "GET",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    body: Sequence[bytes] = (b"",),
    rules: GateRules = RULES,
) -> tuple[Exchange, App]:
    gate, app = make(rules)
    done = asyncio.run(ask(gate, http_scope(path, method, headers), body))
    assert gate.bodies.held == 0, "bytes of a finished request are given back"
    return done, app


def sent(length: int, **more: str) -> dict[str, str]:
    return {"content-length": str(length), **{name.replace("_", "-"): value for name, value in more.items()}}


class TestHost:
    @pytest.mark.parametrize(
        "host", ["evil.com", "localhost.evil.com", "192.168.1.5", "127.0.0.1.evil.com:7860", "2130706433"]
    )
    def test_a_foreign_name_is_refused_with_the_option_to_set(self, host: str) -> None:
        done, app = call(headers={"host": host})
        assert (done.status, app.calls) == (403, 0)
        assert b"allowed_hosts" in done.body

    @pytest.mark.parametrize("host", ["", "x/health?", "a b", "localhost,evil.com", "user@localhost", "\u00e4"])
    def test_a_malformed_name_is_400(self, host: str) -> None:
        done, app = call(headers={"host": host})
        assert (done.status, app.calls) == (400, 0)

    def test_two_names_are_400(self) -> None:
        done, app = call(headers=[("host", "localhost"), ("host", "evil.com")])
        assert (done.status, app.calls) == (400, 0)

    def test_no_name_is_400(self) -> None:
        scope = http_scope()
        scope["headers"] = []
        gate, app = make()
        assert asyncio.run(ask(gate, scope)).status == 400
        assert app.calls == 0

    def test_forwarded_names_are_not_believed(self) -> None:
        headers = {"host": "evil.com", "x-forwarded-host": "localhost", "forwarded": "host=localhost"}
        assert call(headers=headers)[0].status == 403

    @pytest.mark.parametrize(
        "host", ["localhost:7860", "127.0.0.1", "[::1]:7860", "a.localhost", "b.local", "host.docker.internal"]
    )
    def test_local_names_pass(self, host: str) -> None:
        assert call(headers={"host": host})[0].status == 200


class TestPages:
    @pytest.mark.parametrize("origin", FOREIGN_PAGES)
    @pytest.mark.parametrize(
        "kind",
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"],
    )
    def test_a_foreign_page_cannot_make_anything_happen(self, origin: str, kind: str) -> None:
        done, app = call("/small", "POST", sent(2, origin=origin, content_type=kind), [b"{}"])
        assert (done.status, app.calls) == (403, 0)
        assert "access-control-allow-origin" not in done.headers

    @pytest.mark.parametrize("origin", FOREIGN_PAGES)
    def test_a_foreign_page_cannot_read(self, origin: str) -> None:
        done, app = call(headers={"origin": origin})
        assert (done.status, app.calls) == (403, 0)
        assert b"allowed_origins" in done.body

    @pytest.mark.parametrize(
        ("method", "mode", "status"),
        [
            ("GET", "navigate", 200),
            ("HEAD", "navigate", 200),
            ("POST", "navigate", 403),
            ("GET", "no-cors", 403),
            ("POST", "no-cors", 403),
            ("GET", "", 403),
        ],
    )
    def test_another_site_may_link_here_and_nothing_else(self, method: str, mode: str, status: int) -> None:
        done, app = call("/small", method, {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode})
        assert (done.status, app.calls) == (status, status == 200)

    @pytest.mark.parametrize("site", ["same-origin", "same-site", "none"])
    def test_what_the_browser_calls_our_own_passes(self, site: str) -> None:
        assert call(headers={"sec-fetch-site": site, "sec-fetch-mode": "cors"})[0].status == 200

    @pytest.mark.parametrize(
        "origin", ["http://localhost:3000", "http://[::1]:1", "tauri://localhost", "http://127.0.0.1:7860"]
    )
    def test_a_local_page_may_read(self, origin: str) -> None:
        done, _ = call(headers={"origin": origin, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"})
        assert done.status == 200
        assert done.headers["access-control-allow-origin"] == origin
        assert done.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in done.headers

    def test_a_form_of_another_site_is_refused_even_with_keys(self) -> None:
        """A browser adds remembered Basic credentials to a form; a script would have to know them."""
        headers = sent(2, origin="http://evil.com", sec_fetch_site="cross-site", sec_fetch_mode="navigate")
        done, app = call("/small", "POST", headers, [b"{}"], GateRules(keyed=True))
        assert (done.status, app.calls) == (403, 0)

    @pytest.mark.parametrize("origin", FOREIGN_PAGES)
    def test_with_keys_every_page_may_ask_but_never_with_credentials(self, origin: str) -> None:
        done, _ = call(headers={"origin": origin}, rules=GateRules(keyed=True))
        assert done.status == 200
        assert done.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in done.headers

    def test_programs_send_neither_header_and_pass_with_any_type(self) -> None:
        headers = sent(2, content_type="application/x-www-form-urlencoded", user_agent="curl/8")
        assert call("/small", "POST", headers, [b"{}"])[0].body == b"2"


class TestOptions:
    def test_a_plain_one_is_answered_on_any_path_without_a_key(self) -> None:
        done, app = call("/v1/images/generations", "OPTIONS", rules=GateRules(keyed=True))
        assert (done.status, app.calls) == (204, 0)
        assert "POST" in done.headers["allow"]
        assert "content-length" not in done.headers

    @pytest.mark.parametrize("origin", ["http://localhost:3000", "app://x"])
    def test_a_preflight_of_a_local_page(self, origin: str) -> None:
        headers = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type, x-stainless-lang",
            "access-control-request-private-network": "true",
        }
        done, app = call("/small", "OPTIONS", headers)
        assert (done.status, app.calls) == (204, 0)
        assert done.headers["access-control-allow-origin"] == origin
        assert done.headers["access-control-allow-headers"] == headers["access-control-request-headers"]
        assert "POST" in done.headers["access-control-allow-methods"]
        assert done.headers["access-control-allow-private-network"] == "true"
        assert "access-control-allow-credentials" not in done.headers

    @pytest.mark.parametrize("origin", FOREIGN_PAGES)
    def test_a_preflight_of_a_foreign_page_is_refused(self, origin: str) -> None:
        headers = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-private-network": "true",
        }
        done, _ = call("/small", "OPTIONS", headers)
        assert done.status == 403
        assert not [name for name in done.headers if name.startswith("access-control")]

    def test_header_names_are_only_echoed_when_they_are_names(self) -> None:
        headers = {
            "origin": "http://localhost",
            "access-control-request-method": "GET",
            "access-control-request-headers": "a\x01b",
        }
        assert "access-control-allow-headers" not in call("/", "OPTIONS", headers)[0].headers

    def test_private_network_is_only_granted_when_asked_for(self) -> None:
        headers = {"origin": "http://localhost", "access-control-request-method": "GET"}
        assert "access-control-allow-private-network" not in call("/", "OPTIONS", headers)[0].headers


class TestBodies:
    @pytest.mark.parametrize(
        ("path", "limit"),
        [("/small", KIB), ("/small/x", KIB), ("/big/x", 64 * KIB), ("/smaller", 100), ("/bigx", 100), ("/", 100)],
    )
    def test_each_path_has_its_limit(self, path: str, limit: int) -> None:
        assert call(path, "POST", sent(limit), [b"x" * limit])[0].body == str(limit).encode()
        done, app = call(path, "POST", sent(limit + 1), [b""])
        assert (done.status, app.calls) == (413, 0)
        assert done.headers["connection"] == "close"
        assert str(limit).encode() in done.body

    @pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "GZIP", "zstd", "aes"])
    def test_packed_bodies_are_refused(self, encoding: str) -> None:
        done, app = call("/small", "POST", sent(2, content_encoding=encoding), [b"{}"])
        assert (done.status, app.calls) == (415, 0)

    @pytest.mark.parametrize("encoding", ["identity", "", " Identity "])
    def test_unpacked_ones_pass(self, encoding: str) -> None:
        assert call("/small", "POST", sent(2, content_encoding=encoding), [b"{}"])[0].status == 200

    @pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "1_000", "+5", " ", "9" * 30])
    def test_a_length_that_is_none_is_400(self, length: str) -> None:
        done, app = call("/small", "POST", {"content-length": length}, [b""])
        assert (done.status, app.calls) == (400, 0)

    def test_two_kinds_of_length_are_400_and_the_end(self) -> None:
        done, app = call("/small", "POST", sent(4, transfer_encoding="chunked"), [b"0\r\n\r\n"])
        assert (done.status, app.calls) == (400, 0)
        assert done.headers["connection"] == "close"

    def test_a_chunked_body_is_cut_at_the_limit(self) -> None:
        gate, _ = make()
        scope = http_scope("/small", "POST", {"transfer-encoding": "chunked"})
        with pytest.raises(HTTPException) as caught:
            asyncio.run(ask(gate, scope, [b"x" * 600] * 3))
        assert caught.value.status_code == 413
        assert gate.bodies.held == 0

    def test_bodies_of_all_requests_have_one_budget(self) -> None:
        rules = msgspec.structs.replace(RULES, bytes_in_flight=100 * KIB)

        async def scenario() -> tuple[int, Exchange, Exchange, int]:
            go_on, inside = asyncio.Event(), asyncio.Event()

            async def slow(scope: Any, receive: Any, send: Any) -> None:
                await receive()
                inside.set()
                await go_on.wait()
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b""})

            gate = Gate(slow, reply_to=reply_to, rules=rules)
            body = b"x" * (60 * KIB)
            scope = http_scope("/big", "POST", sent(len(body)))
            first = asyncio.create_task(ask(gate, scope, [body]))
            await inside.wait()
            held = gate.bodies.held
            refused = await ask(gate, http_scope("/big", "POST", sent(len(body))), [body])
            go_on.set()
            await first
            after = await ask(gate, http_scope("/big", "POST", sent(len(body))), [body])
            return held, refused, after, gate.bodies.held

        held, refused, after, left = asyncio.run(scenario())
        assert held == 60 * KIB
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) > 0
        assert after.status == 200
        assert left == 0

    def test_a_body_that_stops_coming_is_given_up(self) -> None:
        rules = msgspec.structs.replace(RULES, body_idle_s=0.01)
        caught: list[HTTPException] = []

        async def reader(scope: Any, receive: Any, send: Any) -> None:
            try:
                while True:
                    await receive()
            except HTTPException as error:
                caught.append(error)
                await send({"type": "http.response.start", "status": error.status_code, "headers": []})
                await send({"type": "http.response.body", "body": b""})

        class Stalled(Exchange):
            async def receive(self) -> dict[str, Any]:
                if self._chunks:
                    return {"type": "http.request", "body": self._chunks.pop(0), "more_body": True}
                return await super().receive()

        async def scenario() -> Exchange:
            done = Stalled([b"x"])
            gate = Gate(reader, reply_to=reply_to, rules=rules)
            await asyncio.wait_for(gate(http_scope("/small", "POST", sent(10)), done.receive, done.send), 5)
            return done

        done = asyncio.run(scenario())
        assert [error.status_code for error in caught] == [408]
        assert done.headers["connection"] == "close"

    def test_waiting_for_the_client_to_leave_has_no_limit(self) -> None:
        """Once the body is there, `receive` is the server's own: it waits for a hang-up as long as it takes."""

        async def patient(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0.05)
            assert not waiting.done()
            waiting.cancel()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        gate = Gate(patient, reply_to=reply_to, rules=msgspec.structs.replace(RULES, body_idle_s=0.01))
        assert asyncio.run(ask(gate, http_scope())).status == 200


class TestHead:
    def test_many_or_long_headers_are_431(self) -> None:
        many = {f"x-{number}": "1" for number in range(100)}
        assert call(headers=many)[0].status == 431
        assert call(headers={"x": "y" * 64 * KIB})[0].status == 431
        few = {f"x-{number}": "1" * 500 for number in range(99)}
        assert call(headers=few)[0].status == 200


ANSWERS = [
    ("/small", "GET", {}, 200),
    ("/small", "GET", {"host": "evil.com"}, 403),
    ("/small", "GET", {"host": ""}, 400),
    ("/small", "POST", {"content-length": "5000"}, 413),
    ("/small", "OPTIONS", {}, 204),
]


class TestAnswers:
    @pytest.mark.parametrize(("path", "method", "headers", "status"), ANSWERS)
    def test_each_has_an_id_and_the_headers_that_browsers_heed(
        self, path: str, method: str, headers: dict[str, str], status: int
    ) -> None:
        done, _ = call(path, method, headers)
        assert done.status == status
        assert done.headers["x-request-id"]
        assert done.headers["x-content-type-options"] == "nosniff"
        assert done.headers["content-security-policy"].startswith("default-src 'none'")
        assert done.headers["vary"] == "Origin"

    @pytest.mark.parametrize(("path", "method", "headers", "status"), ANSWERS)
    def test_a_sane_id_of_the_client_is_kept(
        self, path: str, method: str, headers: dict[str, str], status: int
    ) -> None:
        done, _ = call(path, method, {**headers, "x-request-id": "req_Ab-1.2:3"})
        assert done.headers["x-request-id"] == "req_Ab-1.2:3"

    @pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", "a\x00", "\u00e4"])
    def test_another_one_is_replaced(self, given: str) -> None:
        done, app = call(headers={"x-request-id": given})
        assert done.headers["x-request-id"] not in ("", given)
        assert app.state["request_id"] == done.headers["x-request-id"]

    def test_ids_differ(self) -> None:
        gate, _ = make()
        ids = {asyncio.run(ask(gate, http_scope())).headers["x-request-id"] for _ in range(50)}
        assert len(ids) == 50

    def test_an_app_may_set_its_own_policy(self) -> None:
        async def page(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-security-policy", b"default-src 'self'")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

        done = asyncio.run(ask(Gate(page, reply_to=reply_to), http_scope()))
        names = [name for name, _ in done.sent[0]["headers"]]
        assert names.count(b"content-security-policy") == 1
        assert done.headers["content-security-policy"] == "default-src 'self'"

    def test_time_is_told_where_asked_for(self) -> None:
        assert 0 <= float(call("/timed/x")[0].headers["x-process-time"]) < 5
        assert "x-process-time" not in call("/small")[0].headers

    def test_refusals_are_worded_by_the_door(self) -> None:
        done, _ = call("/small", headers={"host": "evil.com"})
        assert done.headers["x-worded-for"] == "/small"

    @pytest.mark.parametrize("kind", ["lifespan", "websocket"])
    def test_what_is_not_http_passes(self, kind: str) -> None:
        gate, app = make()
        asyncio.run(gate({"type": kind}, None, None))  # type: ignore[arg-type]
        assert app.calls == 1


def door() -> Gate:
    """Litestar behind the gate, as the house is."""

    @post("/small", status_code=200)
    async def take(data: JSONBody[dict[str, Any]]) -> dict[str, int]:
        return {"keys": len(data)}

    @get("/free")
    async def free() -> str:
        return "free"

    def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        return house.answer(request, error)

    app = Litestar(
        [take, free],
        exception_handlers={Exception: answer},
        request_max_body_size=None,
        logging_config=None,
        openapi_config=None,
    )
    return Gate(app, reply_to=reply_to, rules=RULES)


PARSERS = pytest.mark.parametrize("parser", ["h11", "httptools"])


@PARSERS
class TestWire:
    def test_a_chunked_body_over_the_limit_gets_its_answer(self, parser: str) -> None:
        """The client writes all of it before it reads: the answer must not be lost in a reset."""
        chunk = b"x" * 65536
        with live_server(door(), http=parser) as base:
            client = http.client.HTTPConnection(*address(base), timeout=10)
            client.request(
                "POST", "/small", iter([chunk] * 100), encode_chunked=True, headers={"transfer-encoding": "chunked"}
            )
            answer = client.getresponse()
            body = answer.read()
            client.close()
        assert answer.status == 413
        assert msgspec.json.decode(body)["error"]["code"] == "body_too_large"
        assert answer.headers["connection"] == "close"

    def test_an_announced_one_too(self, parser: str) -> None:
        body = b"x" * (8 * 1024 * KIB)
        with live_server(door(), http=parser) as base:
            client = http.client.HTTPConnection(*address(base), timeout=10)
            client.request("POST", "/small", body)
            answer = client.getresponse()
            answer.read()
            client.close()
        assert answer.status == 413

    def test_who_waits_for_a_go_ahead_is_told_at_once(self, parser: str) -> None:
        head = b"POST /small HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n\r\n"
        with live_server(door(), http=parser) as base:
            answer = exchange(base, head, timeout=3)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"100 Continue" not in answer

    def test_a_smuggled_request_is_never_answered(self, parser: str) -> None:
        hidden = b"GET /free HTTP/1.1\r\nHost: localhost\r\n\r\n"
        request = (
            b"POST /small HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" % (len(hidden) + 12)
        )
        with live_server(door(), http=parser) as base:
            answer = exchange(base, request + hidden)
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.count(b"HTTP/1.1") == 1
        assert b"free" not in answer

    def test_a_refused_body_does_not_become_the_next_request(self, parser: str) -> None:
        hidden = b"GET /free HTTP/1.1\r\nHost: localhost\r\n\r\n"
        head = b"POST /small HTTP/1.1\r\nHost: evil.com\r\nContent-Length: %d\r\n\r\n" % len(hidden)
        with live_server(door(), http=parser) as base:
            answer = exchange(base, head + hidden)
        assert answer.startswith(b"HTTP/1.1 403")
        assert answer.count(b"HTTP/1.1") == 1

    def test_a_refusal_without_a_body_keeps_the_connection(self, parser: str) -> None:
        bad = b"GET /free HTTP/1.1\r\nHost: evil.com\r\n\r\n"
        good = b"GET /free HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with live_server(door(), http=parser) as base, socket.create_connection(address(base), timeout=5) as client:
            client.sendall(bad)
            first = client.recv(65536)
            client.sendall(good)
            rest = b""
            while data := client.recv(65536):
                rest += data
        assert first.startswith(b"HTTP/1.1 403")
        assert rest.startswith(b"HTTP/1.1 200")

    def test_an_ordinary_request_is_answered(self, parser: str) -> None:
        with live_server(door(), http=parser) as base:
            client = http.client.HTTPConnection(*address(base), timeout=10)
            statuses = []
            for _ in range(3):  # on one connection
                client.request("POST", "/small", b'{"a":1}', headers={"content-type": "application/json"})
                answer = client.getresponse()
                statuses.append((answer.status, answer.read()))
            client.close()
        assert statuses == [(200, b'{"keys":1}')] * 3

    @pytest.mark.parametrize("body", [b"[" * 1000, b"\xff\xfe", b'{"a":', b""])
    def test_a_body_that_breaks_the_parser_is_the_clients_fault(self, parser: str, body: bytes) -> None:
        with live_server(door(), http=parser) as base:
            client = http.client.HTTPConnection(*address(base), timeout=10)
            client.request("POST", "/small", body, headers={"content-type": "application/json"})
            status = client.getresponse().status
            client.close()
        assert 400 <= status < 500


@PARSERS
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_hanging_up_is_noticed_through_the_gate(parser: str, method: bytes) -> None:
    """A streamed answer ends, and the work for a plain one is cancelled."""
    began, ended = threading.Event(), threading.Event()

    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    @get("/small")
    async def stream() -> ASGIApp:
        async def frames() -> AsyncIterator[bytes]:
            await work()
            yield b""

        return event_stream(frames())

    @post("/small")
    async def plain(request: Request[Any, Any, Any], data: JSONBody[dict[str, Any]]) -> None:
        await unless_disconnected(request, work())

    app = Litestar(
        [stream, plain],
        exception_handlers={Exception: house.answer},
        logging_config=None,
        openapi_config=None,
    )
    gate = Gate(app, reply_to=reply_to, rules=RULES)
    with live_server(gate, http=parser) as base:
        with socket.create_connection(address(base), timeout=5) as client:
            client.sendall(method + b" /small HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
            assert began.wait(5)
            assert not ended.is_set()
        assert ended.wait(5)
    assert gate.bodies.held == 0
