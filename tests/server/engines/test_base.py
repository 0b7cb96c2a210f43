"""OneAtATime: a generator per job becomes submit and step."""

from collections.abc import Iterator

import pytest

from server.core.errors import BadImage, Broken, InvalidValue, OutOfMemory
from server.core.image import ImageFinished, StepDone
from server.core.jobs import CancelMode, Event, JobDone, JobEvent, JobFailed, JobId, Outcome, Work
from server.core.memory import Footprint
from server.core.models import LoadedFacts
from server.engines.base import JobControl, OneAtATime
from tests.support.builders import image

ONE, TWO, THREE = JobId("one"), JobId("two"), JobId("three")


def step(number: int) -> StepDone:
    return StepDone(pass_index=0, step=number, steps=9)


class Painter(OneAtATime):
    """Yields as many steps as asked for; the model's name says what goes wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = LoadedFacts(slots=1, footprint=Footprint())
        self.closed: list[str] = []

    def check(self, work: Work) -> None:
        if work.model == "refused":
            raise InvalidValue.of("model", "no")

    def run(self, work: Work, control: JobControl) -> Iterator[Event]:
        try:
            for number in range(1, 4):
                if control.stopped:
                    yield ImageFinished(reason="stopped")
                    return
                if control.take_skip():
                    continue
                yield step(number)
                self._harm(work.model)
        finally:
            self.closed.append(work.model)
            if work.model == "messy":
                raise RuntimeError("cannot clean up")

    def _harm(self, name: str) -> None:
        if name == "bad":
            raise BadImage("the mask is broken", param="mask")
        if name == "bug":
            raise ZeroDivisionError
        if name == "big":
            raise MemoryError


@pytest.fixture
def engine() -> Painter:
    return Painter()


def rest(engine: Painter) -> list[Outcome]:
    items: list[Outcome] = []
    while not engine.is_idle():
        items += engine.step()
    return items


def test_jobs_run_one_after_the_other(engine: Painter) -> None:
    engine.submit(ONE, image())
    engine.submit(TWO, image())
    assert rest(engine) == [
        *(JobEvent(ONE, step(n)) for n in (1, 2, 3)),
        JobDone(ONE),
        *(JobEvent(TWO, step(n)) for n in (1, 2, 3)),
        JobDone(TWO),
    ]


def test_one_event_a_step(engine: Painter) -> None:
    engine.submit(ONE, image())
    assert [len(engine.step()) for _ in range(4)] == [1, 1, 1, 1]
    assert engine.step() == []


def test_a_refused_job_never_starts(engine: Painter) -> None:
    with pytest.raises(InvalidValue):
        engine.submit(ONE, image(model="refused"))
    assert engine.is_idle()


@pytest.mark.parametrize(("name", "error"), [("bad", BadImage), ("bug", Broken), ("big", OutOfMemory)])
def test_an_error_fails_its_job_and_the_next_one_runs(engine: Painter, name: str, error: type[Broken]) -> None:
    engine.submit(ONE, image(model=name))
    engine.submit(TWO, image())
    items = rest(engine)
    (failed,) = [item for item in items if isinstance(item, JobFailed)]
    assert (failed.job, failed.error.code) == (ONE, error.code)
    assert "ZeroDivision" not in failed.error.message
    assert items[-1] == JobDone(TWO)


def test_abandoning_the_current_job_closes_its_generator_at_once(engine: Painter) -> None:
    engine.submit(ONE, image(model="a"))
    engine.submit(TWO, image(model="b"))
    engine.step()
    engine.cancel(ONE, CancelMode.ABANDON)
    assert engine.closed == ["a"]
    assert not engine.is_idle()
    assert rest(engine)[0] == JobDone(ONE)
    assert engine.closed == ["a", "b"]


def test_a_generator_that_cannot_clean_up_harms_nobody(engine: Painter) -> None:
    engine.submit(ONE, image(model="messy"))
    engine.submit(TWO, image())
    engine.step()
    engine.cancel(ONE, CancelMode.ABANDON)
    items = rest(engine)
    assert items[0] == JobDone(ONE)
    assert items[-1] == JobDone(TWO)


def test_abandoning_a_waiting_job(engine: Painter) -> None:
    for job in (ONE, TWO, THREE):
        engine.submit(job, image(model=job))
    engine.cancel(TWO, CancelMode.ABANDON)
    items = rest(engine)
    assert [item for item in items if item.job == TWO] == [JobDone(TWO)]
    assert engine.closed == ["one", "three"]


def test_stop_reaches_the_current_and_the_waiting_job(engine: Painter) -> None:
    engine.submit(ONE, image())
    engine.submit(TWO, image())
    engine.step()
    engine.cancel(ONE, CancelMode.STOP)
    engine.cancel(TWO, CancelMode.STOP)
    stopped = ImageFinished(reason="stopped")
    assert rest(engine) == [JobEvent(ONE, stopped), JobDone(ONE), JobEvent(TWO, stopped), JobDone(TWO)]


def test_skip_is_taken_once(engine: Painter) -> None:
    engine.submit(ONE, image())
    engine.step()
    engine.cancel(ONE, CancelMode.SKIP)
    assert rest(engine) == [JobEvent(ONE, step(3)), JobDone(ONE)]


def test_a_skip_does_not_take_back_a_stop(engine: Painter) -> None:
    engine.submit(ONE, image())
    engine.step()
    engine.cancel(ONE, CancelMode.STOP)
    engine.cancel(ONE, CancelMode.SKIP)
    assert rest(engine) == [JobEvent(ONE, ImageFinished(reason="stopped")), JobDone(ONE)]


def test_abandon_after_stop_still_abandons(engine: Painter) -> None:
    engine.submit(ONE, image())
    engine.step()
    engine.cancel(ONE, CancelMode.STOP)
    engine.cancel(ONE, CancelMode.ABANDON)
    assert rest(engine) == [JobDone(ONE)]


@pytest.mark.parametrize("mode", list(CancelMode))
def test_cancelling_what_is_not_there(engine: Painter, mode: CancelMode) -> None:
    engine.cancel(ONE, mode)
    engine.submit(ONE, image())
    rest(engine)
    engine.cancel(ONE, mode)
    assert engine.is_idle()


def test_close_ends_the_current_generator_and_forgets_all(engine: Painter) -> None:
    engine.submit(ONE, image(model="a"))
    engine.submit(TWO, image(model="b"))
    engine.step()
    engine.cancel(TWO, CancelMode.ABANDON)
    engine.close()
    engine.close()
    assert engine.closed == ["a"]
    assert engine.is_idle()


def test_a_plain_iterator_will_do(engine: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "run", lambda work, control: iter([step(1), step(2)]))
    engine.submit(ONE, image())
    engine.step()
    engine.cancel(ONE, CancelMode.ABANDON)
    assert rest(engine) == [JobDone(ONE)]
