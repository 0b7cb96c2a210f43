"""Swap storms and full queues over HTTP: fake engines in real worker processes."""

import asyncio
import random
from pathlib import Path

import httpx
import pytest

from server.core.memory import MIB
from tests.support.aio import asynchronous
from tests.support.open_house import (
    OpenHouse,
    chat_body,
    endless_body,
    is_picture_of,
    keep_book,
    open_house,
    painter,
    picture_body,
    said,
    talker,
)

BUDGET_MB = 1000
CLIENTS = 5
EACH = 20
QUEUE = 50
CROWD = 200


@asynchronous
async def test_a_storm_over_four_models_stays_under_budget_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = keep_book(monkeypatch)
    cards = [talker(tmp_path, name, resident_mb=300) for name in ("ann", "bob")]
    cards += [painter(tmp_path, name, resident_mb=500) for name in ("klee", "marc")]
    async with open_house(tmp_path, *cards, budget_mb=BUDGET_MB) as house:
        await asyncio.gather(*(_visitor(house, number) for number in range(CLIENTS)))
        await house.none_live()
        jobs = await house.jobs()
        assert {job["state"] for job in jobs} == {"done"}
        limits = (await house.client.get("/hearth/v1/memory")).json()
        assert limits["used"]["ram"] <= limits["limits"]["ram"] == BUDGET_MB * MIB
    assert max(book.used) <= BUDGET_MB * MIB
    assert max(book.uncounted) <= 0, "a load began while an evicted model's process still lived"
    assert set(book.loads) == {"ann", "bob", "klee", "marc"}
    assert len(book.loads) > 4, "nothing was swapped"


async def _visitor(house: OpenHouse, number: int) -> None:
    """Make one request after the other, to any of the models, and check each answer."""
    dice = random.Random(number)
    async with house.another() as client:
        for count in range(EACH):
            name = dice.choice(("ann", "bob", "klee", "marc"))
            text = f"visitor {number} asks for {count} things"
            if name in ("klee", "marc"):
                answer = await client.post("/sdapi/v1/txt2img", json=picture_body(text, name, seed=count))
                assert is_picture_of(answer, text, count)
            elif dice.random() < 0.5:
                answer = await client.post("/v1/chat/completions", json=chat_body(text, name))
                assert answer.json()["choices"][0]["message"]["content"] == text
            else:
                answer = await client.post("/v1/chat/completions", json=chat_body(text, name, stream=True))
                assert said(answer.text.splitlines()) == text


@asynchronous
async def test_a_crowd_in_front_of_one_model_is_all_answered(tmp_path: Path) -> None:
    async with open_house(tmp_path, talker(tmp_path)) as house:
        bodies = [chat_body(f"number {k} of the crowd") for k in range(CROWD)]
        answers = await asyncio.gather(*(house.client.post("/v1/chat/completions", json=body) for body in bodies))
        contents = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
        assert contents == [f"number {k} of the crowd" for k in range(CROWD)]


@asynchronous
async def test_what_does_not_fit_into_the_queue_is_refused_with_a_time_to_come_back(tmp_path: Path) -> None:
    cards = (talker(tmp_path, slots=1, step_ms=1), painter(tmp_path))
    async with open_house(tmp_path, *cards, queue_limit=QUEUE) as house, house.another() as first:
        async with first.stream("POST", "/v1/chat/completions", json=endless_body()) as busy:
            assert busy.status_code == 200
            crowd = [
                asyncio.create_task(house.client.post("/v1/chat/completions", json=chat_body(f"number {k}")))
                for k in range(CROWD)
            ]
            await _until_done(crowd, CROWD - QUEUE)
            assert len(await house.jobs("waiting")) == QUEUE
            picture = await house.client.post("/sdapi/v1/txt2img", json=picture_body("a boat"))
            assert picture.status_code == 429
            assert 1 <= int(picture.headers["retry-after"]) <= 60
        answers = await asyncio.gather(*crowd)
    done = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(done), len(refused)) == (QUEUE, CROWD - QUEUE)
    for answer in refused:
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.json()["error"]["code"] == "queue_full"


async def _until_done(tasks: list["asyncio.Task[httpx.Response]"], count: int) -> None:
    pending = set(tasks)
    while len(tasks) - len(pending) < count:
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


@asynchronous
async def test_a_model_that_can_never_fit_is_refused_with_numbers(tmp_path: Path) -> None:
    cards = (talker(tmp_path, "huge", resident_mb=900), talker(tmp_path, "little", resident_mb=50))
    async with open_house(tmp_path, *cards, budget_mb=500) as house:
        answer = await house.client.post("/v1/chat/completions", json=chat_body("hello", "huge"))
        assert answer.status_code == 507
        assert answer.headers["x-should-retry"] == "false"
        error = answer.json()["error"]
        assert error["code"] == "insufficient_memory"
        assert "500.0 MiB" in error["message"]
        answer = await house.client.post("/v1/chat/completions", json=chat_body("hello", "little"))
        assert answer.status_code == 200
