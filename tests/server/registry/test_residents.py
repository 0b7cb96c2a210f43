"""Residents with real workers: loads, departures and deaths, each told once and in order."""

import asyncio
from pathlib import Path

import pytest

from server.core.errors import LoadFailed
from server.core.jobs import CancelMode, JobDone, JobId, Outcome
from server.core.models import ModelId, TextSettings
from server.registry.residents import Residents
from tests.support.aio import asynchronous
from tests.support.builders import chat
from tests.support.fakes import text_model

TALKER = ModelId("talker")
JOB = JobId("job")


class Hall:
    """Hears what residents tell."""

    def __init__(self) -> None:
        self.outcomes: asyncio.Queue[tuple[ModelId, Outcome]] = asyncio.Queue()
        self.deaths: asyncio.Queue[tuple[ModelId, str, list[str]]] = asyncio.Queue()
        self.residents = Residents(on_outcomes=self._heard, on_death=self._died, stop_grace_s=5.0)

    def _heard(self, model: ModelId, items: list[Outcome]) -> None:
        for item in items:
            self.outcomes.put_nowait((model, item))

    def _died(self, model: ModelId, how: str, tail: list[str]) -> None:
        self.deaths.put_nowait((model, how, tail))


@asynchronous
async def test_a_job_on_a_loaded_model(tmp_path: Path) -> None:
    hall = Hall()
    facts = await hall.residents.load(text_model(tmp_path, slots=2), TextSettings())
    assert facts.slots == 2
    hall.residents.run(TALKER, JOB, chat("a"))
    while (await hall.outcomes.get()) != (TALKER, JobDone(JOB)):
        pass
    assert await hall.residents.leave(TALKER)
    assert hall.residents.get(TALKER) is None
    assert hall.deaths.empty()


@asynchronous
async def test_a_departure_that_was_asked_for_is_no_death(tmp_path: Path) -> None:
    hall = Hall()
    await hall.residents.load(text_model(tmp_path), TextSettings())
    hall.residents.watch(TALKER)
    assert await hall.residents.leave(TALKER)
    assert not await hall.residents.leave(TALKER)
    assert hall.deaths.empty()


@asynchronous
async def test_a_death_is_told_with_how_and_the_last_lines(tmp_path: Path) -> None:
    hall = Hall()
    await hall.residents.load(text_model(tmp_path), TextSettings())
    hall.residents.watch(TALKER)
    hall.residents.run(TALKER, JOB, chat("fault:abort"))
    model, how, tail = await hall.deaths.get()
    assert (model, how) == (TALKER, "killed by SIGABRT")
    assert any("fake fault: abort" in line for line in tail)
    assert hall.residents.get(TALKER) is None


@asynchronous
async def test_a_death_before_anybody_watches_is_told_when_somebody_does(tmp_path: Path) -> None:
    hall = Hall()
    await hall.residents.load(text_model(tmp_path), TextSettings())
    resident = hall.residents.get(TALKER)
    assert resident is not None
    hall.residents.kill(TALKER)
    await resident.worker.stop()
    assert hall.deaths.empty()
    hall.residents.watch(TALKER)
    assert hall.deaths.get_nowait()[:2] == (TALKER, "killed by SIGKILL")


@asynchronous
async def test_leaving_while_loading_ends_the_load(tmp_path: Path) -> None:
    hall = Hall()
    model = text_model(tmp_path, fault="hang", while_loading=True)
    hall.residents = Residents(on_outcomes=lambda *_: None, on_death=lambda *_: None, stop_grace_s=0.05)
    loading = asyncio.create_task(hall.residents.load(model, TextSettings()))
    while hall.residents.get(TALKER) is None:
        await asyncio.sleep(0)
    assert await hall.residents.leave(TALKER)
    with pytest.raises(LoadFailed):
        await loading
    assert hall.residents.get(TALKER) is None


@asynchronous
async def test_a_death_after_a_departure_in_mid_load_is_still_told(tmp_path: Path) -> None:
    hall = Hall()
    loading = asyncio.create_task(hall.residents.load(text_model(tmp_path, load_ms=20), TextSettings()))
    while hall.residents.get(TALKER) is None:
        await asyncio.sleep(0)
    await hall.residents.leave(TALKER)
    await asyncio.gather(loading, return_exceptions=True)
    await hall.residents.load(text_model(tmp_path), TextSettings())
    hall.residents.watch(TALKER)
    hall.residents.kill(TALKER)
    assert (await hall.deaths.get())[0] == TALKER


@asynchronous
async def test_a_cancelled_load_leaves_no_process(tmp_path: Path) -> None:
    hall = Hall()
    model = text_model(tmp_path, fault="hang", while_loading=True)
    loading = asyncio.create_task(hall.residents.load(model, TextSettings()))
    while hall.residents.get(TALKER) is None:
        await asyncio.sleep(0)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    assert loading.cancelled()
    assert hall.residents.get(TALKER) is None


@asynchronous
async def test_a_failed_load_leaves_nothing_and_may_be_repeated(tmp_path: Path) -> None:
    hall = Hall()
    with pytest.raises(LoadFailed):
        await hall.residents.load(text_model(tmp_path, fail_load="no"), TextSettings())
    assert hall.residents.get(TALKER) is None
    await hall.residents.load(text_model(tmp_path), TextSettings())
    await hall.residents.close()
    assert hall.residents.get(TALKER) is None
    assert hall.deaths.empty()


@asynchronous
async def test_absent_models_are_no_trouble() -> None:
    hall = Hall()
    hall.residents.run(TALKER, JOB, chat("a"))
    hall.residents.cancel(TALKER, JOB, CancelMode.STOP)
    hall.residents.kill(TALKER)
    hall.residents.watch(TALKER)
    assert not await hall.residents.leave(TALKER)
    await hall.residents.close()


@asynchronous
async def test_closing_ends_all_workers(tmp_path: Path) -> None:
    hall = Hall()
    await asyncio.gather(*(hall.residents.load(text_model(tmp_path, name), TextSettings()) for name in ("a", "b", "c")))
    for name in ("a", "b", "c"):
        hall.residents.watch(ModelId(name))
    await hall.residents.close()
    assert hall.deaths.empty()
