"""A job's events on their way to one reader."""

import asyncio

import pytest

from server.core.errors import Broken, LoadFailed, ServerError
from server.core.image import ImageStarted, Preview, StepDone
from server.core.jobs import CancelMode, Event, JobId, Loading, Waiting
from server.core.text import TextDelta, TextStarted
from server.service.stream import JobStream
from tests.support.aio import asynchronous
from tests.support.fakes import collected

JOB = JobId("job")
STARTED = TextStarted(prompt_tokens=1)


def delta(text: str) -> TextDelta:
    return TextDelta(choice=0, text=text)


class Desk:
    """A stream, and what it was asked to cancel."""

    def __init__(self) -> None:
        self.cancelled: list[tuple[JobId, CancelMode]] = []
        self.stream = JobStream(JOB, lambda job, mode: self.cancelled.append((job, mode)))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@asynchronous
async def test_events_come_in_order_then_the_end(desk: Desk) -> None:
    events: list[Event] = [Waiting(position=0), STARTED, delta("a"), delta("b")]
    for event in events:
        desk.stream.push(event)
    desk.stream.finish()
    assert await collected(desk.stream) == events
    assert await collected(desk.stream) == []


@asynchronous
async def test_a_reader_that_waits_is_woken_by_each_event(desk: Desk) -> None:
    heard: asyncio.Queue[Event] = asyncio.Queue()

    async def read() -> None:
        async for event in desk.stream:
            heard.put_nowait(event)

    reading = asyncio.create_task(read())
    for text in "abc":
        desk.stream.push(delta(text))
        assert await heard.get() == delta(text)
    desk.stream.finish()
    await reading


@asynchronous
async def test_an_error_comes_after_the_events_before_it(desk: Desk) -> None:
    desk.stream.push(STARTED)
    desk.stream.fail(Broken("no more"))
    assert await anext(desk.stream) == STARTED
    for _ in range(2):
        with pytest.raises(Broken):
            await anext(desk.stream)


@asynchronous
async def test_started_waits_for_the_engine_and_keeps_the_events(desk: Desk) -> None:
    waiting = asyncio.create_task(desk.stream.started())
    desk.stream.push(Waiting(position=3))
    desk.stream.push(Loading(model="m"))
    await asyncio.sleep(0)
    assert not waiting.done()
    desk.stream.push(STARTED)
    await waiting
    desk.stream.finish()
    assert await collected(desk.stream) == [Waiting(position=3), Loading(model="m"), STARTED]


@asynchronous
async def test_started_raises_what_came_instead(desk: Desk) -> None:
    desk.stream.push(Waiting(position=0))
    desk.stream.fail(LoadFailed("bad file"))
    with pytest.raises(LoadFailed):
        await desk.stream.started()


@asynchronous
async def test_started_is_silent_about_errors_after_the_start_and_about_an_early_end(desk: Desk) -> None:
    desk.stream.push(STARTED)
    desk.stream.fail(Broken("later"))
    await desk.stream.started()
    other = Desk().stream
    other.finish()
    await other.started()
    assert await collected(other) == []


@asynchronous
async def test_leaving_before_the_end_abandons_the_job_once(desk: Desk) -> None:
    async with desk.stream as stream:
        stream.push(delta("a"))
    await desk.stream.aclose()
    assert desk.cancelled == [(JOB, CancelMode.ABANDON)]
    desk.stream.push(delta("b"))
    desk.stream.fail(Broken("late"))
    assert await collected(desk.stream) == []


@asynchronous
async def test_leaving_after_the_end_abandons_nothing(desk: Desk) -> None:
    desk.stream.finish()
    await desk.stream.aclose()
    desk.stream.cancel(CancelMode.STOP)
    assert desk.cancelled == []


@asynchronous
async def test_leaving_wakes_a_reader_in_another_task(desk: Desk) -> None:
    reading = asyncio.create_task(collected(desk.stream))
    await asyncio.sleep(0)
    await desk.stream.aclose()
    assert await reading == []


@asynchronous
async def test_a_reader_that_is_cancelled_may_read_on(desk: Desk) -> None:
    reading = asyncio.create_task(anext(desk.stream))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    desk.stream.push(delta("a"))
    assert await anext(desk.stream) == delta("a")


@asynchronous
async def test_asking_for_an_early_end(desk: Desk) -> None:
    desk.stream.cancel(CancelMode.SKIP)
    desk.stream.cancel(CancelMode.STOP)
    assert desk.cancelled == [(JOB, CancelMode.SKIP), (JOB, CancelMode.STOP)]


@asynchronous
async def test_the_first_error_stays(desk: Desk) -> None:
    desk.stream.fail(Broken("first"))
    desk.stream.fail(Broken("second"))
    desk.stream.finish()
    with pytest.raises(ServerError, match="first"):
        await anext(desk.stream)


@asynchronous
async def test_of_unread_previews_only_the_newest_is_kept(desk: Desk) -> None:
    desk.stream.push(ImageStarted(passes=1, steps=100))
    for step in range(1, 101):
        desk.stream.push(StepDone(pass_index=0, step=step, steps=100))
        desk.stream.push(Preview(pass_index=0, png=bytes([step])))
    desk.stream.finish()
    events = await collected(desk.stream)
    assert [event.png for event in events if isinstance(event, Preview)] == [bytes([100])]
    assert sum(isinstance(event, StepDone) for event in events) == 100
