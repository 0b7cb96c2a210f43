"""Several clients at the A1111 door: options that change under a running picture, and whose progress is whose."""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from tests.support.aio import asynchronous
from tests.support.open_house import OpenHouse, is_picture_of, open_house, painter, picture_body
from tests.support.waiting import eventually

A1111 = "/sdapi/v1"
KEYS = ("anna-has-this-key", "bert-has-this-key")


async def progress(client: httpx.AsyncClient) -> dict[str, Any]:
    told: dict[str, Any] = (await client.get(f"{A1111}/progress")).json()
    return told


async def working(client: httpx.AsyncClient) -> dict[str, Any]:
    """Wait until a client's progress tells of a second step and return it."""

    async def told() -> dict[str, Any]:
        now = await progress(client)
        return now if now["state"]["sampling_step"] > 0 else {}

    return await eventually(told)


async def choose(house: OpenHouse, name: str) -> None:
    answer = await house.client.post(f"{A1111}/options", json={"sd_model_checkpoint": name})
    assert answer.status_code == 200, answer.text


async def chosen(house: OpenHouse) -> str:
    options = (await house.client.get(f"{A1111}/options")).json()
    return str(options["sd_model_checkpoint"]).partition(".")[0]


def plain(prompt: str, **fields: Any) -> dict[str, Any]:
    """Return a request that names no checkpoint: the chosen one is meant."""
    body = picture_body(prompt, **fields)
    del body["override_settings"]
    return body


@asynchronous
async def test_another_checkpoint_is_chosen_while_a_picture_is_made(tmp_path: Path) -> None:
    async with open_house(tmp_path, painter(tmp_path, "klee", step_ms=20), painter(tmp_path, "marc")) as house:
        await choose(house, "klee")
        making = asyncio.create_task(house.client.post(f"{A1111}/txt2img", json=plain("a boat", steps=60, seed=1)))
        await working(house.client)
        await choose(house, "marc")
        assert await chosen(house) == "marc"
        following = await house.client.post(f"{A1111}/txt2img", json=plain("a boat", seed=1))
        assert '"sd_model_name": "marc"' in following.json()["info"]
        made = await making
        assert '"sd_model_name": "klee"' in made.json()["info"]
        assert is_picture_of(made, "a boat", 1)
        assert await chosen(house) == "marc"


@asynchronous
async def test_a_choice_that_has_no_room_waits_for_the_running_picture(tmp_path: Path) -> None:
    cards = [painter(tmp_path, name, resident_mb=500, step_ms=20) for name in ("klee", "marc")]
    async with open_house(tmp_path, *cards, budget_mb=700) as house:
        await choose(house, "klee")
        making = asyncio.create_task(house.client.post(f"{A1111}/txt2img", json=plain("a boat", steps=40, seed=1)))
        await working(house.client)
        choosing = asyncio.create_task(choose(house, "marc"))
        assert await chosen(house) == "klee", "not applied before it is loaded"
        await choosing
        assert making.done(), "the running picture is not harmed"
        assert is_picture_of(await making, "a boat", 1)
        assert await chosen(house) == "marc"


@asynchronous
async def test_a_choice_that_fails_changes_nothing(tmp_path: Path) -> None:
    cards = (painter(tmp_path, "klee"), painter(tmp_path, "rotten", fail_load="it is spoilt"))
    async with open_house(tmp_path, *cards) as house:
        await choose(house, "klee")
        for name, status in (("rotten", 503), ("nobody", 404)):
            body = {"sd_model_checkpoint": name, "send_seed": False}
            answer = await house.client.post(f"{A1111}/options", json=body)
            assert answer.status_code == status
            options = (await house.client.get(f"{A1111}/options")).json()
            assert options["sd_model_checkpoint"].startswith("klee")
            assert options["send_seed"] is True


@asynchronous
async def test_options_posted_from_many_sides_end_as_one_of_them(tmp_path: Path) -> None:
    async with open_house(tmp_path, *(painter(tmp_path, name) for name in ("klee", "marc", "macke"))) as house:
        wishes = [{"sd_model_checkpoint": name, "sd_vae": name} for name in ("klee", "marc", "macke") * 6]
        answers = await asyncio.gather(*(house.client.post(f"{A1111}/options", json=wish) for wish in wishes))
        assert {(answer.status_code, answer.text) for answer in answers} == {(200, "null")}
        options = (await house.client.get(f"{A1111}/options")).json()
        assert options["sd_model_checkpoint"].partition(".")[0] == options["sd_vae"], "each post is applied as a whole"
        saved = next((tmp_path / "state").glob("*options*.json")).read_text()
        assert f'"sd_vae": "{options["sd_vae"]}"' in saved


@asynchronous
async def test_each_client_sees_and_ends_its_own_picture(tmp_path: Path) -> None:
    cards = [painter(tmp_path, name, step_ms=20) for name in ("klee", "marc")]
    async with (
        open_house(tmp_path, *cards, keys=KEYS) as house,
        house.another(KEYS[0]) as anna,
        house.another(KEYS[1]) as bert,
    ):
        body = picture_body("a boat", "klee", steps=1000, seed=1)
        annas = asyncio.create_task(anna.post(f"{A1111}/txt2img", json=body))
        body = picture_body("a tree", "marc", steps=900, seed=2)
        berts = asyncio.create_task(bert.post(f"{A1111}/txt2img", json=body))
        seen = await asyncio.gather(working(anna), working(bert))
        assert [told["state"]["sampling_steps"] for told in seen] == [1000, 900]
        owners = {job["owner"] for job in await house.jobs()}
        assert len(owners) == 1, "the side door shows a key its own jobs"
        assert (await anna.post(f"{A1111}/interrupt")).json() == {}
        assert is_picture_of(await annas, "a boat", 1)
        assert (await progress(anna))["state"]["interrupted"] is True
        still = await progress(bert)
        assert still["state"]["interrupted"] is False
        assert still["state"]["job_count"] == 1
        await bert.post(f"{A1111}/interrupt")
        assert is_picture_of(await berts, "a tree", 2)
        idle = await progress(bert)
        assert (idle["progress"], idle["state"]["job_count"]) == (0, 0)


@asynchronous
async def test_without_keys_progress_is_of_the_oldest_picture(tmp_path: Path) -> None:
    async with open_house(tmp_path, painter(tmp_path, step_ms=20)) as house:
        bodies = (picture_body("a boat", steps=100, seed=1), picture_body("a tree", steps=30, seed=2))
        first = asyncio.create_task(house.client.post(f"{A1111}/txt2img", json=bodies[0]))
        assert (await working(house.client))["state"]["sampling_steps"] == 100
        second = asyncio.create_task(house.client.post(f"{A1111}/txt2img", json=bodies[1]))
        await house.job_in("waiting")
        assert (await progress(house.client))["state"]["sampling_steps"] == 100
        await house.client.post(f"{A1111}/interrupt")
        assert is_picture_of(await first, "a boat", 1)
        assert (await working(house.client))["state"]["sampling_steps"] == 30, "the next one is not interrupted"
        assert is_picture_of(await second, "a tree", 2)


@asynchronous
async def test_a_task_is_followed_by_the_id_that_its_client_gave(tmp_path: Path) -> None:
    async with open_house(tmp_path, painter(tmp_path, step_ms=20)) as house:
        body = picture_body("a boat", steps=60, force_task_id="task(me)")
        making = asyncio.create_task(house.client.post(f"{A1111}/txt2img", json=body))
        await working(house.client)

        async def told(task: str) -> dict[str, Any]:
            answer = await house.client.post("/internal/progress", json={"id_task": task})
            state: dict[str, Any] = answer.json()
            return state

        mine, other = await told("task(me)"), await told("task(other)")
        assert mine["active"] is True
        assert 0 < mine["progress"] < 1
        assert other["active"] is False
        await making
        assert (await told("task(me)"))["completed"] is True
