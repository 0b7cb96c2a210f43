import asyncio
from typing import Any

import msgspec
import pytest
from litestar import Litestar, post
from litestar.params import JSONBody

from server.core.errors import InvalidValue
from server.http.house import answer
from server.http.json_body import MAX_UNKNOWN, JsonBody, ignored_header, reading, refuse_ignored
from tests.support.asgi import Exchange, ask, http_scope


class Asked(msgspec.Struct):
    size: int = 0
    kind: str | None = msgspec.field(default=None, name="type")


def put(body: bytes) -> tuple[Exchange, list[tuple[str, ...]]]:
    seen: list[tuple[str, ...]] = []

    @post("/", status_code=200, request_class=reading(Asked))
    async def handler(data: JSONBody[Asked], request: JsonBody) -> dict[str, Any]:
        seen.append(request.ignored)
        return {"size": data.size, "kind": data.kind}

    app = Litestar([handler], exception_handlers={Exception: answer}, logging_config=None, openapi_config=None)
    scope = http_scope("/", "POST", {"content-type": "application/json"})
    return asyncio.run(ask(app, scope, (body,))), seen


def test_the_struct_is_read_and_unread_fields_are_noted_unless_off() -> None:
    exchange, seen = put(b'{"size":3,"type":"x","odd":1,"no":null,"off":false,"none":[],"zero":0}')
    assert exchange.body == b'{"size":3,"kind":"x"}'
    assert seen == [("odd", "zero")]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"size":"3"}', b'{"size":1.5}', b'"\xff"', b"[" * 50_000, b'{"a":"\\ud800"'],
)
def test_wrong_bodies_are_the_callers_fault(body: bytes) -> None:
    assert put(body)[0].status == 400


def test_too_many_unknown_fields() -> None:
    many = {f"f{number}": 1 for number in range(MAX_UNKNOWN + 1)}
    assert put(msgspec.json.encode(many))[0].status == 400
    del many["f0"]
    assert put(msgspec.json.encode(many))[0].status == 200


def test_names_in_the_header_cannot_break_it() -> None:
    assert ignored_header(["a", "b.c", "x\r\ny: z", "é", ""]) == {"x-hearth-ignored": "a, b.c"}
    assert ignored_header([]) == {}
    assert len(ignored_header(str(number) for number in range(1000))["x-hearth-ignored"].split(", ")) == 64


def test_strictness() -> None:
    refuse_ignored(["a"], strict=False)
    refuse_ignored([], strict=True)
    with pytest.raises(InvalidValue) as caught:
        refuse_ignored(["a"], strict=True)
    assert caught.value.fact("param") == "a"
