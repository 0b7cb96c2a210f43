"""A client that leaves frees its slot at once, wherever its job is: fakes that would go on for minutes."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx

from tests.support.aio import asynchronous
from tests.support.open_house import (
    OpenHouse,
    chat_body,
    endless_body,
    is_picture_of,
    open_house,
    painter,
    picture_body,
    talker,
)
from tests.support.waiting import eventually

CHAT = "/v1/chat/completions"
PAINT = "/sdapi/v1/txt2img"
SLOW = {"slots": 1, "step_ms": 5}


async def asks(house: OpenHouse, path: str, body: dict[str, Any]) -> None:
    """Ask with a client of its own, for an answer that is not expected to come."""
    async with house.another() as client:
        await client.post(path, json=body)


async def leaves(asking: "asyncio.Task[None]") -> None:
    """Hang up."""
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking


async def answers_at_once(house: OpenHouse) -> None:
    """Ask the one-slot fakes something short: they can answer only when nothing else is on them."""
    await house.none_live()
    answer = await house.client.post(CHAT, json=chat_body("short"))
    assert answer.json()["choices"][0]["message"]["content"] == "short"


@asynchronous
async def test_while_its_model_loads(tmp_path: Path) -> None:
    async with open_house(tmp_path, talker(tmp_path, load_ms=1500, **SLOW)) as house:
        asking = asyncio.create_task(asks(house, CHAT, chat_body("one", ignore_eos=True)))
        await house.job_in("waiting")
        await leaves(asking)
        assert (await house.job_in("cancelled"))[0]["started_ago"] is None
        await answers_at_once(house)


@asynchronous
async def test_in_the_queue(tmp_path: Path) -> None:
    async with open_house(tmp_path, talker(tmp_path, **SLOW)) as house:
        first = asyncio.create_task(asks(house, CHAT, endless_body()))
        await house.job_in("running")
        plain = asyncio.create_task(asks(house, CHAT, chat_body("two", ignore_eos=True)))
        streamed = asyncio.create_task(asks(house, CHAT, endless_body()))
        await house.job_in("waiting", 2)
        await leaves(plain)
        (left,) = await house.job_in("waiting")
        assert left["position"] == 0
        await leaves(streamed)
        await house.job_in("waiting", 0)
        assert len(await house.jobs("running")) == 1, "the one in front goes on"
        await leaves(first)
        await answers_at_once(house)


@asynchronous
async def test_before_the_first_word(tmp_path: Path) -> None:
    async with open_house(tmp_path, talker(tmp_path, slots=1, step_ms=200)) as house:
        for body in (chat_body("long", ignore_eos=True), endless_body()):
            asking = asyncio.create_task(asks(house, CHAT, body))
            await house.job_in("running")
            await leaves(asking)
            await house.none_live()
        assert [job["state"] for job in await house.jobs()] == ["cancelled", "cancelled"]
        await answers_at_once(house)


@asynchronous
async def test_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    async with open_house(tmp_path, talker(tmp_path, **SLOW)) as house, house.another() as client:
        async with client.stream("POST", CHAT, json=endless_body()) as stream:
            words = 0
            async for line in stream.aiter_lines():
                words += '"content"' in line
                if words == 5:
                    break
        await answers_at_once(house)


@asynchronous
async def test_in_the_middle_of_a_plain_answer(tmp_path: Path) -> None:
    async with open_house(tmp_path, talker(tmp_path, **SLOW)) as house:
        for path, body in (
            (CHAT, chat_body("long", ignore_eos=True)),
            ("/v1/completions", {"model": "talker", "prompt": "long", "max_tokens": -1, "ignore_eos": True}),
        ):
            asking = asyncio.create_task(asks(house, path, body))
            await house.job_in("running")
            await leaves(asking)
            await answers_at_once(house)


@asynchronous
async def test_in_the_middle_of_a_picture(tmp_path: Path) -> None:
    async with open_house(tmp_path, painter(tmp_path, step_ms=20), talker(tmp_path)) as house:
        asking = asyncio.create_task(asks(house, PAINT, picture_body("a slow boat", steps=1000)))
        await _step_of(house, 2)
        waiting = asyncio.create_task(house.client.post(PAINT, json=picture_body("a quick boat", seed=5)))
        await house.job_in("waiting")
        await leaves(asking)
        assert is_picture_of(await waiting, "a quick boat", 5)
        states = [job["state"] for job in await house.jobs()]
        assert sorted(states) == ["cancelled", "done"]


@asynchronous
async def test_a_crowd_that_leaves(tmp_path: Path) -> None:
    """Half of a full house leaves at the same moment; the others get their answers."""
    async with open_house(tmp_path, talker(tmp_path, slots=4, step_ms=5)) as house:
        leaving = [asyncio.create_task(asks(house, CHAT, endless_body())) for _ in range(20)]
        await house.job_in("waiting", 16)
        staying = [asyncio.create_task(house.client.post(CHAT, json=chat_body(f"stays {k}"))) for k in range(20)]
        await house.job_in("waiting", 36)
        await asyncio.gather(*(leaves(asking) for asking in leaving))
        answers: list[httpx.Response] = await asyncio.gather(*staying)
        said = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
        assert said == [f"stays {k}" for k in range(20)]
        await house.none_live()


async def _step_of(house: OpenHouse, least: int) -> None:
    """Wait until A1111's progress tells of that many steps."""

    async def reached() -> bool:
        told = (await house.client.get("/sdapi/v1/progress")).json()
        return bool(told["state"]["sampling_step"] >= least)

    await eventually(reached)
