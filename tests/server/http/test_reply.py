import asyncio

import pytest

from server.http.reply import Reply, send_reply, to_response
from tests.support.asgi import Exchange


def sent(reply: Reply) -> Exchange:
    exchange = Exchange()
    asyncio.run(send_reply(reply, exchange.send))
    return exchange


def test_a_reply_goes_out_whole() -> None:
    done = sent(Reply(status=418, body=b'{"a":1}', headers={"Retry-After": "5"}))
    assert (done.status, done.body, done.complete) == (418, b'{"a":1}', True)
    assert done.headers == {"content-type": "application/json", "content-length": "7", "retry-after": "5"}


def test_no_content_has_neither_type_nor_length() -> None:
    assert sent(Reply(status=204, body=b"", headers={"Allow": "GET"})).headers == {"allow": "GET"}


@pytest.mark.parametrize("reply", [Reply(status=404, body=b"x", media_type="text/plain", headers={"x-a": "b"})])
def test_litestar_sends_the_same(reply: Reply) -> None:
    response = to_response(reply)
    assert (response.status_code, response.content, response.media_type) == (404, b"x", "text/plain")
    assert response.headers["x-a"] == "b"
