"""What the board shows."""

from server.core.image import ImageFinished, ImageReady, ImageStarted, Preview, StepDone
from server.core.jobs import JobId, JobState, Work
from server.core.text import ReasoningDelta, SamplingParams, TextDelta, ToolCallDelta
from server.service.board import HISTORY, Board, JobEntry
from tests.support.builders import chat, image


def entry(name: str, work: Work | None = None, now: float = 1.0) -> JobEntry:
    return JobEntry(JobId(name), work or chat("hi"), owner="me", tag=f"tag {name}", now=now)


def board_of(*entries: JobEntry) -> Board:
    board = Board()
    for one in entries:
        board.add(one)
    return board


def test_a_view_says_who_what_and_when() -> None:
    (view,) = board_of(entry("a", image(model="painter"), now=3.0)).views()
    assert (view.id, view.kind, view.model, view.owner, view.tag) == ("a", "image", "painter", "me", "tag a")
    assert (view.state, view.arrived, view.started, view.ended) == (JobState.WAITING, 3.0, None, None)
    (view,) = board_of(entry("b", chat("hi", model="talker"))).views()
    assert (view.kind, view.model) == ("text", "talker")


def test_positions_count_the_waiting_alone() -> None:
    board = board_of(*(entry(name) for name in "abcd"))
    board.running(JobId("b"), now=2.0)
    assert [(view.id, view.position) for view in board.views()] == [("a", 0), ("b", 0), ("c", 1), ("d", 2)]
    assert (board.live, board.waiting) == (4, 3)


def test_ended_jobs_follow_the_live_ones_newest_first() -> None:
    board = board_of(*(entry(name) for name in "abc"))
    board.running(JobId("a"), now=2.0)
    board.end(JobId("a"), JobState.DONE, now=5.0)
    board.end(JobId("b"), JobState.CANCELLED, now=6.0)
    views = board.views()
    assert [view.id for view in views] == ["c", "b", "a"]
    assert [(view.state, view.started, view.ended) for view in views[1:]] == [
        (JobState.CANCELLED, None, 6.0),
        (JobState.DONE, 2.0, 5.0),
    ]
    assert board.live == 1
    assert board.get(JobId("a")) is None


def test_text_counts_what_was_shown_until_it_is_begun_again() -> None:
    one = entry("a", chat("hi", max_tokens=9))
    for event in (
        TextDelta(choice=0, text="x", tokens=2),
        ToolCallDelta(choice=0, index=0, id="c", name="f", tokens=3),
        ReasoningDelta(choice=0, text="y"),
    ):
        one.note(event)
    view = one.view()
    assert (view.written, view.sampling) == (6, SamplingParams(max_tokens=9))
    one.wait_again()
    assert one.view().written == 0
    assert entry("b", image()).view().sampling is None


def test_history_is_short() -> None:
    board = Board()
    for k in range(HISTORY + 10):
        board.add(entry(str(k)))
        board.end(JobId(str(k)), JobState.DONE, now=1.0)
    assert len(board.views()) == HISTORY
    assert board.views()[0].id == str(HISTORY + 9)


def test_progress_of_a_picture() -> None:
    one = entry("a", image())
    one.note(ImageStarted(passes=4, steps=20))
    one.note(StepDone(pass_index=1, step=7, steps=20))
    one.note(Preview(pass_index=1, png=b"rough"))
    view = one.view()
    assert (view.passes, view.pass_index, view.step, view.steps, view.preview) == (4, 1, 7, 20, b"rough")
    one.note(ImageReady(index=0, seed=1, variation=0, png=b"fine", width=8, height=8))
    assert one.view().preview is None
    one.note(Preview(pass_index=2, png=b"rough"))
    one.note(ImageFinished(reason="complete"))
    assert one.view().preview is None


def test_a_job_that_waits_again_has_lost_its_progress_but_not_its_start() -> None:
    one = entry("a", image())
    board = board_of(one)
    board.running(JobId("a"), now=2.0)
    one.note(ImageStarted(passes=1, steps=20))
    one.note(StepDone(pass_index=0, step=7, steps=20))
    one.wait_again()
    assert (one.view().state, one.view().step, one.view().steps) == (JobState.WAITING, 0, 0)
    board.running(JobId("a"), now=9.0)
    assert one.view().started == 2.0


def test_a_job_in_the_history_holds_no_picture() -> None:
    one = entry("a", image())
    board = board_of(one)
    one.note(Preview(pass_index=0, png=b"rough"))
    board.end(JobId("a"), JobState.CANCELLED, now=2.0)
    assert board.views()[0].preview is None


def test_unknown_jobs_are_no_trouble() -> None:
    board = Board()
    board.running(JobId("x"), now=1.0)
    board.end(JobId("x"), JobState.DONE, now=1.0)
    assert board.views() == ()
