"""Jobs between arrival and end."""

import asyncio

import pytest

from server.core.errors import Broken
from server.core.image import ImageReady, ImageStarted, StepDone
from server.core.jobs import Event, JobId, JobState, Work
from server.core.models import ModelId
from server.core.text import TextDelta, TextFinished, TextStarted, Usage
from server.service.board import Board, JobEntry
from server.service.live import MAX_TRIES, LiveJob, LiveJobs
from server.service.stream import JobStream
from tests.support.aio import asynchronous
from tests.support.builders import card, chat, image
from tests.support.fakes import collected

STARTED = TextStarted(prompt_tokens=1)


def live(name: str = "a", work: Work | None = None) -> LiveJob:
    entry = JobEntry(JobId(name), work or chat("hi"), owner="", tag="", now=0.0)
    job = LiveJob(entry, card(), JobStream(JobId(name), lambda *_: None))
    job.tries = 1
    return job


@pytest.mark.parametrize(
    ("events", "again"),
    [
        ([], True),
        ([STARTED], True),
        ([ImageStarted(passes=1, steps=2), StepDone(pass_index=0, step=1, steps=2)], True),
        ([STARTED, TextDelta(choice=0, text="a")], False),
        ([STARTED, TextFinished(choice=0, reason="stop", usage=Usage())], False),
        ([ImageReady(index=0, seed=1, variation=0, png=b"", width=8, height=8)], False),
    ],
)
def test_what_has_spoken_is_not_done_again(events: list[Event], again: bool) -> None:
    job = live()
    for event in events:
        job.take(event)
    assert job.may_try_again() is again


def test_what_was_asked_to_end_or_was_tried_often_is_not_done_again() -> None:
    job = live()
    job.ending = True
    assert not job.may_try_again()
    job = live()
    job.tries = MAX_TRIES
    assert not job.may_try_again()


@asynchronous
async def test_the_start_is_told_once_even_when_the_job_is_done_twice() -> None:
    job = live(work=image())
    for _ in range(2):
        job.take(ImageStarted(passes=1, steps=2))
        job.take(StepDone(pass_index=0, step=1, steps=2))
    job.stream.finish()
    events = await collected(job.stream)
    assert [type(event) for event in events] == [ImageStarted, StepDone, StepDone]


@asynchronous
async def test_the_jobs_of_a_model_in_a_state() -> None:
    jobs = LiveJobs(Board())
    for name in "abc":
        jobs.add(live(name))
    one = jobs.get(JobId("b"))
    assert one is not None
    one.entry.state = JobState.RUNNING
    assert [job.id for job in jobs.of(ModelId("talker"), JobState.WAITING)] == ["a", "c"]
    assert jobs.of(ModelId("other"), JobState.WAITING) == []
    assert len(jobs) == 3
    assert JobId("a") in jobs


@asynchronous
async def test_ending_one_ends_its_stream_its_deadline_and_its_place_on_the_board() -> None:
    board = Board()
    jobs = LiveJobs(board)
    one, two = live("a"), live("b")
    jobs.add(one)
    jobs.add(two)
    one.deadline = asyncio.get_running_loop().call_later(1000, lambda: None)
    jobs.end(one, JobState.FAILED, 1.0, Broken("no"))
    assert one.deadline.cancelled()
    with pytest.raises(Broken):
        await collected(one.stream)
    ended = asyncio.create_task(jobs.all_ended())
    await asyncio.sleep(0)
    assert not ended.done()
    jobs.end(two, JobState.DONE, 1.0)
    await ended
    assert await collected(two.stream) == []
    assert [view.state for view in board.views()] == [JobState.DONE, JobState.FAILED]
