"""The child's loop, run inside the test over a scripted link, and what its process may import."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from server.core.errors import BadRequest, Broken, InvalidValue, LoadFailed, OutOfMemory, ProtocolError
from server.core.jobs import CancelMode, JobDone, JobId, Outcome, Work
from server.core.memory import Footprint
from server.core.models import ImageSettings, LoadedFacts, ModelCard, Runtime, TextSettings
from server.core.text import TextDelta, TextStarted
from server.workers import child as child_module
from server.workers.child import Child
from server.workers.link import LinkClosed
from server.workers.protocol import (
    PROTOCOL,
    Cancel,
    Down,
    Hello,
    Load,
    Loaded,
    LoadProgress,
    NotLoaded,
    Outcomes,
    Run,
    Stop,
    Up,
    Warm,
    Warmed,
)
from tests.support.builders import card, chat, endless, image
from tests.support.fakes import image_model, text_model
from tests.support.inline import InlineLink

ONE, TWO = JobId("one"), JobId("two")


def load(model: ModelCard) -> Load:
    return Load(card=model, settings=TextSettings())


class StopWhenDone:
    """Answers with Stop once so many jobs have ended, so that a scripted child comes to its end."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._ended: set[JobId] = set()

    def __call__(self, message: Up) -> Iterable[Down]:
        if isinstance(message, Outcomes):
            self._ended |= {item.job for item in message.items if not hasattr(item, "event")}
        return [Stop()] if len(self._ended) == self._jobs else []


def run(*script: Down, jobs: int = 0) -> InlineLink:
    link = InlineLink(script, StopWhenDone(jobs) if jobs else lambda _: ())
    Child(link).main()
    return link


def test_its_first_words(tmp_path: Path) -> None:
    link = run(load(text_model(tmp_path, slots=3)), Stop())
    hello, *progress, loaded = link.up
    assert isinstance(hello, Hello)
    assert hello.protocol == PROTOCOL
    assert all(isinstance(message, LoadProgress) for message in progress)
    assert isinstance(loaded, Loaded)
    assert loaded.facts.slots == 3


def test_a_spare_warms_up_and_then_takes_a_model(tmp_path: Path) -> None:
    link = run(Warm(runtime=Runtime.FAKE_IMAGE), load(image_model(tmp_path)), Stop())
    hello, warmed, *_, loaded = link.up
    assert isinstance(hello, Hello)
    assert isinstance(warmed, Warmed)
    assert warmed.held > 0
    assert isinstance(loaded, Loaded)


def test_a_spare_whose_libraries_are_broken_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(child_module.WARMERS, Runtime.FAKE_IMAGE, "server.engines.no_such_module:warm")
    with pytest.raises(ModuleNotFoundError):
        run(Warm(runtime=Runtime.FAKE_IMAGE), Stop())


def test_it_serves_jobs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    link = run(load(text_model(tmp_path)), Run(job=ONE, work=chat("a b")), Run(job=TWO, work=chat("c")), jobs=2)
    assert link.ended_well() == {ONE, TWO}
    assert isinstance(link.events(ONE)[0], TextStarted)


def test_one_frame_a_step_for_all_jobs(tmp_path: Path) -> None:
    link = run(load(text_model(tmp_path)), Run(job=ONE, work=chat("a")), Run(job=TWO, work=chat("a")), jobs=2)
    frames = [message.items for message in link.up if isinstance(message, Outcomes)]
    assert [{item.job for item in items} for items in frames] == [{ONE, TWO}] * len(frames)


def test_a_refused_job_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    link = run(load(text_model(tmp_path)), Run(job=ONE, work=image()), Run(job=TWO, work=chat("c")), jobs=2)
    assert link.failure(ONE).code == InvalidValue.code
    assert link.ended_well() == {TWO}


def test_cancel_is_seen_between_steps(tmp_path: Path) -> None:
    def once_it_speaks(message: Up) -> Iterable[Down]:
        if isinstance(message, Outcomes):
            item = message.items[-1]
            if isinstance(item, JobDone):
                return [Stop()]
            if isinstance(getattr(item, "event", None), TextDelta):
                return [Cancel(job=ONE, mode=CancelMode.ABANDON)]
        return []

    link = InlineLink([load(text_model(tmp_path, context=10**6)), Run(job=ONE, work=endless())], once_it_speaks)
    Child(link).main()
    assert len(link.outcomes()) == 3  # started, one word, done


def test_what_cannot_travel_fails_its_own_job_alone(tmp_path: Path) -> None:
    bad, good = chat("a fault:surrogate:1 c d"), chat("a b c d")
    link = run(load(text_model(tmp_path)), Run(job=ONE, work=bad), Run(job=TWO, work=good), jobs=2)
    failures = [item for item in link.outcomes(ONE) if not hasattr(item, "event")]
    assert failures[0].error.code == ProtocolError.code  # type: ignore[union-attr]
    assert link.ended_well() >= {TWO}


def test_the_parent_may_go_at_any_time(tmp_path: Path) -> None:
    with pytest.raises(LinkClosed):
        run()
    with pytest.raises(LinkClosed):
        run(load(text_model(tmp_path)))


def test_stop_before_any_load_ends_it() -> None:
    assert [type(message) for message in run(Stop()).up] == [Hello]


def test_a_second_load_is_an_error(tmp_path: Path) -> None:
    model = text_model(tmp_path)
    with pytest.raises(ProtocolError):
        run(load(model), load(model))


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"fail_load": "bad tensor"}, LoadFailed.code), ({"fault": "oom", "while_loading": True}, OutOfMemory.code)],
)
def test_what_the_engine_says_of_a_failed_load_goes_up(tmp_path: Path, settings: dict[str, object], code: str) -> None:
    last = run(load(text_model(tmp_path, **settings))).up[-1]
    assert isinstance(last, NotLoaded)
    assert last.error.code == code


def test_an_unexpected_error_in_a_load_is_told_without_its_details(tmp_path: Path) -> None:
    last = run(load(text_model(tmp_path, fault="raise", while_loading=True))).up[-1]
    assert isinstance(last, NotLoaded)
    assert last.error.code == LoadFailed.code
    assert "RuntimeError" in last.error.message
    assert "told to" not in last.error.message


def test_a_card_without_runtime_cannot_be_loaded() -> None:
    last = run(load(card(runtime=None))).up[-1]
    assert isinstance(last, NotLoaded)
    assert last.error.code == LoadFailed.code


def test_an_engine_that_breaks_in_a_step_ends_the_child(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        run(load(text_model(tmp_path)), Run(job=ONE, work=chat("fault:raise")))


def test_a_picture_job_that_breaks_fails_alone(tmp_path: Path) -> None:
    model = Load(card=image_model(tmp_path), settings=ImageSettings())
    link = run(model, Run(job=ONE, work=image("fault:raise")), Run(job=TWO, work=image()), jobs=2)
    assert link.failure(ONE).code == Broken.code
    assert link.ended_well() == {TWO}


class Stubborn:
    """An engine that raises what nobody expects when it is given a job."""

    facts = LoadedFacts(slots=1, footprint=Footprint())

    def __init__(self) -> None:
        self.closed = 0

    def load(self, *_: object) -> "Stubborn":
        return self

    def submit(self, job: JobId, work: Work) -> None:
        raise BadRequest("no") if work.model == "no" else ZeroDivisionError

    def step(self) -> list[Outcome]:
        return []

    def cancel(self, job: JobId, mode: CancelMode) -> None: ...

    def is_idle(self) -> bool:
        return True

    def close(self) -> None:
        self.closed += 1


def test_an_unexpected_error_at_submission_fails_the_job_and_the_engine_is_closed_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Stubborn()
    monkeypatch.setattr(child_module, "_loader", lambda _: engine)
    link = run(load(card()), Run(job=ONE, work=chat("x")), Run(job=TWO, work=chat("x", model="no")), jobs=2)
    assert (link.failure(ONE).code, link.failure(TWO).code) == (Broken.code, BadRequest.code)
    assert engine.closed == 1


def test_its_process_starts_light() -> None:
    heavy = "{'asyncio', 'litestar', 'uvicorn', 'torch', 'llama_cpp', 'numpy', 'PIL', 'diffusers', 'transformers'}"
    code = f"import server.workers.child, sys; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "[]"
