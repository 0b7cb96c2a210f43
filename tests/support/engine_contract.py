"""What every engine must keep, fake or real. A test module derives a class from `EngineContract` and gives it

- a fixture `engine`: a freshly loaded engine (closed by the fixture),
- a fixture `work`: work that takes several steps,
- a fixture `foreign_work`: work of a kind that the engine does not do.
"""

from collections.abc import Iterable

import msgspec
import pytest

from server.core.errors import ServerError
from server.core.image import ImageFinished, ImageReady, ImageRequest, ImageStarted, StepDone
from server.core.jobs import CancelMode, Event, JobDone, JobEvent, JobFailed, JobId, Outcome, Work
from server.core.text import TextDelta, TextFinished, TextStarted
from server.engines.base import Engine
from server.workers.framing import encode, from_child
from server.workers.protocol import Outcomes

ONE, TWO = JobId("one"), JobId("two")
MANY_STEPS = 100_000


def finish(engine: Engine) -> list[Outcome]:
    """Step until the engine is idle and return what came out, as it would arrive in the parent."""
    items: list[Outcome] = []
    for _ in range(MANY_STEPS):
        if engine.is_idle():
            return items
        items += travelled(engine.step())
    raise AssertionError("the engine does not come to rest")


def travelled(items: list[Outcome]) -> list[Outcome]:
    """Return outcomes after a journey through the process border."""
    (message,) = from_child().feed(bytes(encode(Outcomes(items=items))))
    assert isinstance(message, Outcomes)
    return message.items


def step_until(engine: Engine, *kinds: type[Event]) -> list[Outcome]:
    """Step until an event of one of these kinds came out."""
    items: list[Outcome] = []
    while not any(isinstance(event, kinds) for event in events_of(items)):
        assert not engine.is_idle(), f"the engine came to rest without {kinds}"
        items += engine.step()
    return items


def events_of(items: Iterable[Outcome], job: JobId | None = None) -> list[Event]:
    """Return the events among outcomes, of all jobs or of one."""
    return [item.event for item in items if isinstance(item, JobEvent) and job in (None, item.job)]


def without_times(events: Iterable[Event]) -> list[Event]:
    """Return events without what a clock has a part in."""
    return [
        msgspec.structs.replace(event, prompt_ms=0.0, predicted_ms=0.0) if isinstance(event, TextFinished) else event
        for event in events
    ]


def check_ends_once(items: list[Outcome], job: JobId) -> None:
    """Check that a job has exactly one end and that nothing of it follows."""
    own = [item for item in items if item.job == job]
    ends = [k for k, item in enumerate(own) if isinstance(item, JobDone | JobFailed)]
    assert ends == [len(own) - 1], f"{job} must end once and last: {own}"


def check_order(events: list[Event], work: Work) -> None:
    """Check that the events of a complete job come in the order that the core's types promise."""
    if isinstance(work, ImageRequest):
        _check_pictures(events, work)
    else:
        _check_text(events, choices=work.choices * (len(work.prompts) if hasattr(work, "prompts") else 1))


def _check_text(events: list[Event], choices: int) -> None:
    assert isinstance(events[0], TextStarted)
    assert events[0].prompt_tokens > 0
    for choice in range(choices):
        own = [event for event in events if isinstance(event, TextDelta | TextFinished) and event.choice == choice]
        ends = [k for k, event in enumerate(own) if isinstance(event, TextFinished)]
        assert ends == [len(own) - 1]
        deltas = [event for event in own if isinstance(event, TextDelta)]
        assert all(delta.text for delta in deltas), "a delta is never empty"
        assert isinstance(own[-1], TextFinished)
        assert own[-1].usage.completion_tokens >= sum(delta.tokens for delta in deltas)
        assert own[-1].usage.prompt_tokens > 0
    others = [e for e in events[1:] if not isinstance(e, TextDelta | TextFinished)]
    assert not others
    assert {e.choice for e in events[1:] if isinstance(e, TextDelta | TextFinished)} == set(range(choices))


def _check_pictures(events: list[Event], work: ImageRequest) -> None:
    assert isinstance(events[0], ImageStarted)
    assert isinstance(events[-1], ImageFinished)
    passes = events[0].passes
    steps = [(event.pass_index, event.step) for event in events if isinstance(event, StepDone)]
    assert steps == sorted(set(steps)), "steps only go up"
    assert {index for index, _ in steps} <= set(range(passes))
    pictures = [event for event in events if isinstance(event, ImageReady)]
    assert [picture.index for picture in pictures] == list(range(work.batches * work.batch_size))
    for picture in pictures:
        assert picture.png.startswith(b"\x89PNG\r\n\x1a\n")
        assert int.from_bytes(picture.png[16:20], "big") == picture.width
        assert int.from_bytes(picture.png[20:24], "big") == picture.height


class EngineContract:
    """The contract, as tests."""

    def test_rests_until_there_is_work(self, engine: Engine) -> None:
        assert engine.is_idle()
        assert engine.step() == []
        assert engine.facts.slots >= 1

    def test_a_job_has_its_events_in_order_and_one_end(self, engine: Engine, work: Work) -> None:
        engine.submit(ONE, work)
        assert not engine.is_idle()
        items = finish(engine)
        check_ends_once(items, ONE)
        assert isinstance(items[-1], JobDone)
        check_order(events_of(items), work)

    def test_the_same_work_gives_the_same_answer(self, engine: Engine, work: Work) -> None:
        engine.submit(ONE, work)
        once = without_times(events_of(finish(engine)))
        engine.submit(TWO, work)
        again = without_times(events_of(finish(engine)))
        assert [e for e in once if not isinstance(e, TextFinished)] == [
            e for e in again if not isinstance(e, TextFinished)
        ]

    def test_two_jobs_do_not_mix(self, engine: Engine, work: Work) -> None:
        engine.submit(ONE, work)
        engine.submit(TWO, work)
        items = finish(engine)
        for job in (ONE, TWO):
            check_ends_once(items, job)
            check_order(events_of(items, job), work)

    def test_wrong_work_is_refused_and_leaves_nothing(self, engine: Engine, foreign_work: Work) -> None:
        with pytest.raises(ServerError):
            engine.submit(ONE, foreign_work)
        assert engine.is_idle()

    @pytest.mark.parametrize("mode", list(CancelMode))
    def test_cancelling_an_unknown_job_does_nothing(self, engine: Engine, mode: CancelMode) -> None:
        engine.cancel(JobId("nobody"), mode)
        assert engine.is_idle()

    def test_an_abandoned_job_ends_without_another_event(self, engine: Engine, work: Work) -> None:
        engine.submit(ONE, work)
        step_until(engine, TextDelta, StepDone)
        engine.cancel(ONE, CancelMode.ABANDON)
        assert [item for item in finish(engine) if item.job == ONE] == [JobDone(ONE)]

    def test_a_job_abandoned_at_once_ends_too(self, engine: Engine, work: Work) -> None:
        engine.submit(ONE, work)
        engine.submit(TWO, work)
        engine.cancel(TWO, CancelMode.ABANDON)
        items = finish(engine)
        assert [item for item in items if item.job == TWO] == [JobDone(TWO)]
        check_order(events_of(items, ONE), work)

    def test_a_stopped_job_hands_over_what_is_there(self, engine: Engine, work: Work) -> None:
        engine.submit(ONE, work)
        step_until(engine, TextDelta, StepDone)
        engine.cancel(ONE, CancelMode.STOP)
        items = finish(engine)
        check_ends_once(items, ONE)
        last = events_of(items)[-1]
        assert isinstance(last, TextFinished | ImageFinished)
        assert last.reason in ("cancelled", "stopped")

    def test_a_cancelled_job_leaves_room_for_the_next(self, engine: Engine, work: Work) -> None:
        engine.submit(ONE, work)
        step_until(engine, TextDelta, StepDone)
        engine.cancel(ONE, CancelMode.ABANDON)
        engine.submit(TWO, work)
        check_order(events_of(finish(engine), TWO), work)

    def test_close_may_be_called_twice_and_in_mid_job(self, engine: Engine, work: Work) -> None:
        engine.submit(ONE, work)
        engine.step()
        engine.close()
        engine.close()
