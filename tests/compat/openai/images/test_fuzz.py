"""Mutated bodies with a fixed seed: whatever comes in, nothing of it is the server's fault."""

import asyncio
import random
import re
from typing import Any

import httpx
import pytest

from tests.compat.openai.door import knocking
from tests.compat.openai.images.sent import card, form, hole, picture
from tests.compat.openai.test_fuzz import mutated
from tests.support.fake_images import pictures
from tests.support.fake_service import FakeService, text_card

ROUNDS = 400
LEAK = re.compile(r"0x[0-9a-f]{6,}|/home/|Traceback|site-packages")
GENERATED: dict[str, Any] = {
    "model": "paint",
    "prompt": "a cat",
    "n": 1,
    "size": "512x512",
    "quality": "low",
    "style": "vivid",
    "response_format": "url",
    "output_format": "png",
    "background": "auto",
    "partial_images": 2,
    "stream": False,
    "negative_prompt": "fog",
    "seed": 5,
    "steps": 3,
    "cfg_scale": 4.5,
    "sampler": "euler",
    "schedule": "karras",
    "user": "me",
}
TEXTS = {
    "prompt": "a cat",
    "n": "1",
    "size": "64x64",
    "strength": "0.5",
    "seed": "5",
    "stream": "false",
    "model": "paint",
}


def damaged(data: bytes, rng: random.Random, count: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    if rng.random() < 0.1:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


def a_form(rng: random.Random) -> tuple[bytes, str]:
    """Return a form with one of its parts damaged, or the whole of it."""
    kind = rng.choice(["PNG", "JPEG", "GIF", "BMP", "WEBP"])
    image, mask = picture(64, 64, kind=kind), hole()
    texts = dict(TEXTS)
    place = rng.randrange(5)
    if place == 0:
        image = damaged(image, rng, rng.randint(1, 8))
    elif place == 1:
        mask = damaged(mask, rng, rng.randint(1, 8))
    elif place == 2:
        texts[rng.choice(list(texts))] = rng.choice(["", "x", "-1", "1e999", "null", "nan", "٣", "9" * 300, "\0"])
    body, boundary = form([("image", image), ("mask", mask)], **texts)
    if place == 3:
        body = damaged(body, rng, rng.randint(1, 4))
    return body, boundary


def check(answered: httpx.Response, statuses: dict[int, int], sent: bytes) -> None:
    statuses[answered.status_code] = statuses.get(answered.status_code, 0) + 1
    assert answered.status_code in (200, 400, 404), (answered.status_code, sent)
    assert not LEAK.search(answered.text), sent
    if answered.status_code != 200:
        assert {"message", "type", "param", "code"} <= set(answered.json()["error"]), sent


def test_no_body_of_a_prompt_is_the_servers_fault() -> None:
    rng, statuses = random.Random(20_261_124), dict[int, int]()

    async def run() -> None:
        service = FakeService(card(), text_card())
        async with knocking(service) as client:
            for _ in range(ROUNDS):
                service.loop.scripts.clear()
                service.script(*pictures(1))
                sent = mutated(GENERATED, rng)
                check(await client.post("/v1/images/generations", content=sent), statuses, sent)

    asyncio.run(run())
    assert statuses[200] > ROUNDS / 20 and statuses[400] > ROUNDS / 5


@pytest.mark.parametrize("path", ["edits", "variations"])
def test_no_form_is_the_servers_fault(path: str) -> None:
    rng, statuses = random.Random(20_261_124), dict[int, int]()

    async def run() -> None:
        service = FakeService(card(), text_card())
        async with knocking(service) as client:
            for _ in range(ROUNDS):
                service.loop.scripts.clear()
                service.script(*pictures(1))
                body, boundary = a_form(rng)
                kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
                check(await client.post(f"/v1/images/{path}", content=body, headers=kind), statuses, body)

    asyncio.run(run())
    assert statuses[200] > ROUNDS / 20 and statuses[400] > ROUNDS / 20
