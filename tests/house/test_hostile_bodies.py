"""Bodies from hell over every POST route there is: the client is told, nobody dies, nothing of the machine leaks.

The routes come from the app's own table, their bodies from its own description; a route that is added is tested.
"""

import asyncio
import base64
import contextlib
import json
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.doors import ALIASES
from server.engines.fake import png as colour_png
from tests.support.aio import asynchronous
from tests.support.fakes import text_model
from tests.support.open_house import OpenHouse, open_house, painter
from tests.support.schema_bodies import (
    Bodies,
    Description,
    described,
    described_posts,
    each_field_wrong,
    spoiled,
    written,
)

SEED = 20_240_601
ROUNDS = 30
SLOWEST_S = 10.0
LEAK = re.compile(r"0x[0-9a-f]{6,}|/home/|/tmp/|Traceback|site-packages|\.py\b")
PICTURE = base64.b64encode(colour_png(16, 16, (1, 2, 3))).decode()
WISHES: dict[str, Any] = {
    "documents": ["a", "b"],
    "input": "a b c",
    "init_images": [PICTURE],
    "image": PICTURE,
    "mask": None,
    "logit_bias": {"5": -1},
    "width": 16,
    "height": 16,
    "steps": 1,
    "n_iter": 1,
    "batch_size": 1,
    "enable_hr": False,
    "override_settings": {},
    "alwayson_scripts": {},
    "max_tokens": 5,
    "n_predict": 5,
    "n": 1,
    "best_of": 1,
    "ignore_eos": False,
    "messages": [{"role": "user", "content": "hi"}],
}
PAINTING = ("/sdapi", "/v1/images", "/internal")


def well_formed(door: str, answer: httpx.Response) -> bool:
    """Tell whether an error answer is in the words of its door."""
    told = answer.json()
    if door == "a1111":
        problems = told.get("detail")
        listed = isinstance(problems, list) and all({"loc", "msg", "type"} <= set(one) for one in problems)
        plain = set(told) == {"detail"} and isinstance(problems, str)
        return listed or plain or {"error", "detail", "body", "errors"} <= set(told)
    error = told["error"]
    wanted = {
        "openai": {"message", "type", "param", "code"},
        "anthropic": {"type", "message"},
        "llama_server": {"code", "message", "type"},
        "hearth": {"code", "message"},
    }[door]
    return wanted <= set(error) and isinstance(error["message"], str) and bool(error["message"])


@dataclass
class Siege:
    """Sends bodies to a house and writes down whatever is not as it should be."""

    house: OpenHouse
    description: Description
    complaints: list[str] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def posts(self, *, aliases: bool = True) -> dict[str, dict[str, Any]]:
        """Return all POST paths with their described bodies; `aliases` are further names of routes."""
        found = described_posts(self.house.house.litestar, self.description)
        if not aliases:
            return found
        return found | {alias: found[meant] for alias, meant in ALIASES.items() if meant in found}

    def bodies(self, path: str, dice: random.Random) -> Bodies:
        """Return a maker of bodies that name a model of the kind that the path is for."""
        model = "painter" if path.startswith(PAINTING) else "talker"
        return Bodies(self.description, dice, {**WISHES, "model": model})

    def door(self, path: str) -> str:
        """Return the name of the door that words the refusals of a path."""
        meant = ALIASES.get(path, path)
        return next((dialect.name for dialect in self.house.house.dialects if dialect.answers(meant)), "hearth")

    async def send(self, path: str, body: bytes, *, what: str = "", kind: str = "application/json") -> httpx.Response:
        """Send one body, judge the answer and return it."""
        began = time.monotonic()
        there = path.replace("{job}", "nobody")
        answer = await self.house.client.post(there, content=body, headers={"content-type": kind})
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        for fault in self._faults(path, answer, time.monotonic() - began):
            self.complaints.append(f"{fault}: POST {path} {what} {body[:300]!r} -> {answer.text[:300]}")
        return answer

    def _faults(self, path: str, answer: httpx.Response, seconds: float) -> Iterator[str]:
        documented = {501} if self.door(path) in ("a1111", "openai") else set()
        if answer.status_code >= 500 and answer.status_code not in documented:
            yield f"status {answer.status_code}"
        if answer.status_code >= 400 and not well_formed(self.door(path), answer):
            yield "not in the words of the door"
        if answer.status_code >= 400 and LEAK.search(answer.text):
            yield "leak"
        if seconds > SLOWEST_S:
            yield f"took {seconds:.0f} s"

    async def end(self) -> None:
        """Fail with all complaints; the workers still answer, and nothing is left of what was asked."""
        assert not self.complaints, f"{len(self.complaints)} complaints\n" + "\n".join(self.complaints[:25])
        await self.house.none_live()
        for path, body in (
            ("/v1/chat/completions", {"model": "talker", "messages": [{"role": "user", "content": "still here"}]}),
            ("/sdapi/v1/txt2img", {"prompt": "p", "steps": 1, "width": 16, "height": 16}),
        ):
            answer = await self.house.client.post(path, json=body)
            assert answer.status_code == 200, answer.text


@contextlib.asynccontextmanager
async def siege(folder: Path) -> AsyncIterator[Siege]:
    """Open a house with a talker and a painter, both loaded."""
    async with open_house(folder, text_model(folder, context=512), painter(folder)) as house:
        under_siege = Siege(house, described(house.house.litestar))
        await under_siege.end()
        yield under_siege


@pytest.fixture(autouse=True)
def quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No worker may die and nothing unexpected may happen: all of that is logged as an error."""
    caplog.set_level(logging.ERROR)
    yield
    wrong = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not wrong, [record.getMessage() + str(record.exc_info or "") for record in wrong[:5]]


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


@asynchronous
async def test_bodies_that_are_no_request(tmp_path: Path) -> None:
    async with siege(tmp_path) as attack:
        for path, schema in attack.posts().items():
            for what, body in MALFORMED.items():
                answer = await attack.send(path, body, what=what)
                if schema and not path.startswith(PAINTING) and what not in STRANGE_BUT_JSON:
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
