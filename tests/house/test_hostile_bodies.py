"""Bodies from hell over every POST route there is: the client is told, nobody dies, nothing of the machine leaks.

The routes come from the app's own table, their bodies from its own description; a route that is added is tested.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.http.bodies import TooMuchAtOnce
from tests.support.aio import asynchronous
from tests.support.open_house import OpenHouse
from tests.support.schema_bodies import each_field_wrong, spoiled, written
from tests.support.siege import PAINTING, PICTURE, SEED, Siege, siege

ROUNDS = 30


pytestmark = pytest.mark.usefixtures("quiet_log")


@asynchronous
async def test_most_made_bodies_are_taken(tmp_path: Path) -> None:
    """The other tests mean something only when what they spoil was good."""
    async with siege(tmp_path) as attack:
        good: dict[str, int] = {}
        for path, schema in attack.posts().items():
            dice = random.Random(SEED)
            bodies = attack.bodies(path, dice)
            for _ in range(8 if schema else 0):
                answer = await attack.send(path, written(bodies.made(schema, share=0.1)))
                good[path] = good.get(path, 0) + (answer.status_code == 200)
        await attack.end()
        never = sorted(path for path, count in good.items() if count == 0)
        assert len(good) >= 25
        assert len(never) <= len(good) / 4, never


@asynchronous
async def test_spoiled_bodies(tmp_path: Path) -> None:
    async with siege(tmp_path) as attack:
        for path, schema in attack.posts(aliases=False).items():
            dice = random.Random(SEED)
            bodies = attack.bodies(path, dice)
            for _ in range(ROUNDS if schema else 4):
                await attack.send(path, spoiled(bodies.made(schema, share=0.15), dice))
        await attack.end()


@asynchronous
async def test_each_field_with_wrong_values(tmp_path: Path) -> None:
    async with siege(tmp_path) as attack:
        for path, schema in attack.posts(aliases=False).items():
            dice = random.Random(SEED)
            for name, body in each_field_wrong(attack.bodies(path, dice), schema, dice):
                await attack.send(path, body, what=name)
        await attack.end()


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "a text": b'"hi"',
    "a number": b"1e999",
    "null": b"null",
    "a list": b"[]",
    "not JSON": b"model=talker&prompt=hi",
    "cut": b'{"model": "talker", "messages": [{"role": "us',
    "deep list": b"[" * 200_000,
    "deep list, closed": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep inside": b'{"model":"talker","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "bad UTF-8": b'{"model": "\xff\xfe", "prompt": "\xc3\x28"}',
    "encoded surrogate": b'{"model": "\xed\xa0\x80"}',
    "escaped surrogate": b'{"model": "\\ud800", "prompt": "\\udc00"}',
    "UTF-16": '{"model": "talker"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"model": "talker"}',
    "NaN": b'{"model": "talker", "temperature": NaN, "top_p": Infinity, "seed": -Infinity}',
    "long number": b'{"model": "talker", "seed": ' + b"9" * 100_000 + b"}",
    "long fraction": b'{"model": "talker", "temperature": 0.' + b"3" * 100_000 + b"}",
    "same key again": b'{"model": "talker", ' + b'"model": "x", ' * 50_000 + b'"n": 1}',
    "control codes": bytes(range(32)) * 1000,
    "zeros": bytes(100_000),
}
STRANGE_BUT_JSON = {"long fraction", "same key again"}


def taken(schema: dict[str, Any]) -> set[str]:
    """Return which malformed bodies are a request to a route with this schema: unknown fields are passed over."""
    if schema.get("type") == "array":
        return {"a list"}
    return set() if "seed" in schema.get("properties", {}) else {"long number"}


@asynchronous
async def test_bodies_that_are_no_request(tmp_path: Path) -> None:
    async with siege(tmp_path) as attack:
        for path, schema in attack.posts().items():
            for what, body in MALFORMED.items():
                answer = await attack.send(path, body, what=what)
                if schema and not path.startswith(PAINTING) and what not in STRANGE_BUT_JSON | taken(schema):
                    assert 400 <= answer.status_code < 500, (path, what, answer.text[:200])
        await attack.end()


@asynchronous
async def test_forms_that_are_none(tmp_path: Path) -> None:
    kinds = ("multipart/form-data; boundary=x", "multipart/form-data", "application/x-www-form-urlencoded", "text/xml")
    part = b'--x\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    forms = [
        b"",
        b"--x",
        b"--x--\r\n",
        b"\r\n" * 1000,
        part % (b"prompt", b"", b"a boat"),
        part % (b"image", b'; filename="../../x.png"', b"no picture") + b"--x--\r\n",
        part % (b"image", b'; filename="a\r\nb"', bytes(1000)) + b"--x--\r\n",
        (part % (b"n", b"", b"1")) * 2000 + b"--x--\r\n",
        part % (b"a" * 100_000, b"", b"1") + b"--x--\r\n",
        part % (b"prompt", b"; filename*=UTF-8''%ff", b"\xff\xfe") + b"--x--\r\n",
    ]
    async with siege(tmp_path) as attack:
        for path, schema in attack.posts(aliases=False).items():
            for number, form in enumerate(forms):
                # A route that reads JSON treats all of them alike.
                for kind in kinds if not schema else kinds[number % 4 :][:1]:
                    await attack.send(path, form, what=kind, kind=kind)
        await attack.end()


def wide_fields() -> dict[str, dict[str, bytes]]:
    """Return fields, as JSON, that are wide or long in one way each; encoded once, as that takes its time."""
    message = {"role": "user", "content": "x"}
    stops = [f"s{number}" for number in range(10_000)]
    tool = {"type": "function", "function": {"name": "f"}, "name": "f"}
    fields: dict[str, dict[str, Any]] = {
        "100,000 messages": dict.fromkeys(("messages", "input"), [message] * 100_000),
        "10,000 stops": dict.fromkeys(("stop", "stop_sequences"), stops),
        "100,000 biases": {"logit_bias": {str(number): 1 for number in range(100_000)}},
        "10,000 tools": {"tools": [tool] * 10_000},
        "100,000 texts": dict.fromkeys(("prompt", "input", "documents", "content", "styles"), ["x"] * 100_000),
        "100,000 tokens": dict.fromkeys(("prompt", "input", "tokens"), [1] * 100_000),
        "10 MB in one word": dict.fromkeys(("prompt", "input", "content", "query", "system"), "x" * 10_000_000),
        "2 MB of words": dict.fromkeys(("prompt", "input", "content", "negative_prompt"), "a " * 1_000_000),
        "1,000 pictures": dict.fromkeys(("init_images", "image", "controlnet_input_images"), [PICTURE] * 1000),
    }
    return {what: {name: json.dumps(value).encode() for name, value in some.items()} for what, some in fields.items()}


def wide_bodies(path: str, attack: Siege, fields: dict[str, dict[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yield the bodies for a path: too many keys for all, and those wide fields that it has."""
    schema = attack.posts()[path]
    yield "100,000 keys", b"{" + b", ".join(b'"k%d": 0' % number for number in range(100_000)) + b"}"
    bodies = attack.bodies(path, random.Random(SEED))
    known = bodies.fields(schema)
    for what, some in fields.items():
        wide = [b'"%s": %s' % (name.encode(), value) for name, value in some.items() if name in known]
        if wide:
            made = bodies.made(schema, share=0.0)
            kept = [b'"%s": %s' % (name.encode(), written(made[name])) for name in made if name not in some]
            yield what, b"{" + b", ".join(kept + wide) + b"}"


@asynchronous
async def test_wide_and_long_bodies_are_told_in_good_time_and_others_are_not_held_up(tmp_path: Path) -> None:
    waits: list[float] = []

    async def watch(house: OpenHouse, over: Callable[[], bool]) -> None:
        async with house.another() as client:
            while not over():
                began = time.monotonic()
                assert (await client.get("/health")).status_code == 200
                waits.append(time.monotonic() - began)
                await asyncio.sleep(0.01)

    fields = wide_fields()
    async with siege(tmp_path) as attack:
        ended = False
        watching = asyncio.create_task(watch(attack.house, lambda: ended))
        for path in attack.posts(aliases=False):
            for what, body in wide_bodies(path, attack, fields):
                await attack.send(path, body, what=what)
        ended = True
        await watching
        await attack.end()
    assert sorted(waits)[len(waits) * 99 // 100] < 2.0


@asynchronous
async def test_a_busy_gate_is_told_in_the_words_of_each_door(tmp_path: Path) -> None:
    busy = TooMuchAtOnce(detail="too much is under way", headers={"Retry-After": "7"})
    async with siege(tmp_path) as attack:
        for path in attack.posts():
            told = attack.house.house.reply_to(path, busy)
            assert told.status == 503, path
            assert b"too much is under way" in told.body, path
            assert b"internal" not in told.body.lower(), path
            sent = [value for name, value in told.headers.items() if name.lower() == "retry-after"]
            assert sent == ["7"], path
