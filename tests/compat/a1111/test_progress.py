import base64
from typing import Any

import pytest

from compat.a1111 import wire
from compat.a1111.progress import Clock, Note, Notes, current, pictures_of, progress, task_progress, to_end
from server.core.jobs import CancelMode, JobId, JobState
from server.service.service import JobView

NOW = Clock(1000.0, 1_800_000_000.0)


def view(id: str = "1", **fields: Any) -> JobView:
    given = {"kind": "image", "model": "m", "state": JobState.RUNNING, "owner": "", "arrived": 980.0} | fields
    return JobView(id=JobId(id), **given)


def shown(*views: JobView, notes: Notes | None = None, image: bool = True) -> wire.ProgressAnswer:
    return progress(views, notes or Notes(), NOW, with_image=image)


def test_idle_is_zero_and_zero() -> None:
    answer = shown()
    assert (answer.progress, answer.eta_relative, answer.state.job_count) == (0.0, 0.0, 0)
    assert answer.state.job_timestamp == "0"
    after = shown(view(state=JobState.DONE, passes=2, steps=20, preview=None))
    assert (after.progress, after.state.job_count, after.state.job, after.state.job_no) == (0.0, 0, "", 2)
    assert len(after.state.job_timestamp) == 14


@pytest.mark.parametrize(
    ("fields", "share"),
    [
        ({"passes": 2, "pass_index": 0, "step": 2, "steps": 40}, 0.0225),
        ({"passes": 2, "pass_index": 1, "step": 24, "steps": 40}, 0.7975),
        ({"passes": 1, "pass_index": 0, "step": 0, "steps": 20}, 0.01),
        ({"passes": 1, "pass_index": 0, "step": 20, "steps": 20}, 0.96),
        ({"passes": 1, "pass_index": 1, "step": 0, "steps": 20}, 1.0),
        ({}, 0.01),
    ],
)
def test_the_originals_formula(fields: dict[str, Any], share: float) -> None:
    assert shown(view(started=990.0, **fields)).progress == pytest.approx(share)


def test_time_to_go_is_counted_from_the_start() -> None:
    answer = shown(view(started=990.0, passes=1, step=10, steps=18))
    assert answer.progress == pytest.approx(0.51)
    assert answer.eta_relative == pytest.approx(10 / 0.51 - 10)


def test_a_waiting_job_has_those_before_it_still_to_go_too() -> None:
    ended = [view(str(n), state=JobState.DONE, started=900.0, ended=900.0 + 10 * n) for n in (1, 2)]
    first, second = (view(str(9 + n), state=JobState.WAITING, position=n) for n in (0, 1))
    assert shown(first, *ended).eta_relative == pytest.approx(15)
    assert shown(second, *ended).eta_relative == pytest.approx(30)
    assert shown(first).eta_relative == pytest.approx(20 / 0.01 - 20), (
        "by the original's formula where nothing is known"
    )


def test_a_job_that_waits_for_its_model_is_neither_idle_nor_counted() -> None:
    answer = shown(view(state=JobState.WAITING))
    assert (answer.progress, answer.state.job_count, answer.state.job) == (0.01, -1, "scripts_txt2img")


def test_names_of_batches() -> None:
    notes = Notes()
    notes.put(JobId("1"), Note(batches=3, passes_per_batch=2))
    assert shown(view(passes=6, pass_index=3), notes=notes).state.job == "Batch 2 out of 3"
    assert shown(view(passes=1)).state.job == "scripts_txt2img"


def test_the_preview_is_left_out_on_request() -> None:
    running = view(passes=1, preview=b"png")
    assert shown(running).current_image == base64.b64encode(b"png").decode()
    assert shown(running, image=False).current_image is None


def test_flags_belong_to_the_job_that_was_ended() -> None:
    notes = Notes()
    notes.ended(JobId("1"), CancelMode.STOP)
    notes.ended(JobId("2"), CancelMode.SKIP)
    first, second, third = (shown(view(id, passes=1), notes=notes).state for id in "123")
    assert (first.interrupted, first.skipped) == (True, False)
    assert (second.interrupted, second.skipped) == (False, True)
    assert (third.interrupted, third.skipped) == (False, False)


def test_which_job_is_meant() -> None:
    waiting, running = view("1", state=JobState.WAITING), view("2")
    past, text = view("3", state=JobState.DONE), view("4", kind="text")
    assert current([waiting, running, past]) is running
    assert current([waiting, past]) is waiting
    assert current([past]) is None
    assert to_end([waiting, running, view("5")]) == [running, view("5")]
    assert to_end([waiting, view("6", state=JobState.WAITING)]) == [waiting]
    assert to_end([past]) == []
    assert pictures_of([waiting, text], "") == [waiting]


def test_with_keys_everyone_sees_his_own() -> None:
    mine, other = view("1", owner="me"), view("2", owner="you")
    assert pictures_of([mine, other], "me") == [mine]
    assert pictures_of([mine, other], "") == [mine, other]


def asked(**fields: Any) -> wire.TaskProgressRequest:
    return wire.TaskProgressRequest(**{"id_task": "t"} | fields)


def test_progress_by_task_id() -> None:
    running = view(tag="t", started=990.0, passes=1, step=11, steps=20, preview=b"png")
    answer = task_progress([running], asked(), Notes(), NOW)
    assert (answer.active, answer.queued, answer.completed, answer.textinfo) == (True, False, False, None)
    assert answer.progress == pytest.approx(0.5)
    assert answer.eta == pytest.approx(10)
    assert answer.live_preview == "data:image/png;base64," + base64.b64encode(b"png").decode()
    again = task_progress([running], asked(id_live_preview=answer.id_live_preview), Notes(), NOW)
    assert (again.live_preview, again.id_live_preview) == (None, answer.id_live_preview)
    assert task_progress([running], asked(live_preview=False), Notes(), NOW).live_preview is None


QUEUED = view("0", state=JobState.WAITING)
SECOND = view(tag="t", state=JobState.WAITING, position=1)


@pytest.mark.parametrize(
    ("views", "id", "active", "queued", "completed", "text"),
    [
        ([], "t", False, False, False, "Waiting..."),
        ([view(tag="t", state=JobState.DONE)], "t", False, False, True, "Waiting..."),
        ([view(tag="t", state=JobState.DONE)], None, False, False, False, "Waiting..."),
        ([view(tag="", state=JobState.DONE)], "", False, False, False, "Waiting..."),
        ([QUEUED, SECOND], "t", False, True, False, "In queue: 2/2"),
    ],
)
def test_tasks_that_do_not_run(
    views: list[JobView], id: str | None, active: bool, queued: bool, completed: bool, text: str
) -> None:
    answer = task_progress(views, asked(id_task=id), Notes(), NOW)
    assert (answer.active, answer.queued, answer.completed, answer.textinfo) == (active, queued, completed, text)
    assert (answer.progress, answer.eta, answer.live_preview) == (None, None, None)


def test_old_notes_are_forgotten() -> None:
    notes = Notes()
    for number in range(1000):
        notes.put(JobId(str(number)), Note(batches=2))
    assert notes.get(JobId("0")) == Note()
    assert notes.get(JobId("999")) == Note(batches=2)
