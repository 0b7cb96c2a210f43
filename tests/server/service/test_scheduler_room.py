"""Room for jobs and for the spare worker, as small plays."""

import pytest

from server.core.errors import DoesNotFit
from server.core.memory import RAM
from server.core.models import ModelId
from server.service.decisions import (
    Grown,
    Shutdown,
    SpareReady,
    SpareStarted,
    SpareWanted,
    Stage,
)
from tests.support.hall_play import Play
from tests.support.hall_world import PATIENCE_S


@pytest.fixture
def play() -> Play:
    return Play()


def test_a_job_takes_its_own_room_while_it_runs(play: Play) -> None:
    play.ready("a", held=4)
    assert play.ask("1", "a", working=3) == ["grant 1"]
    assert play.scheduler.used() == {RAM: 7}
    assert play.ask("2", "b", 3) == ["load b"]
    play.loaded("b", held=3)
    play.finished("2")
    assert play.finished("1") == []
    assert play.scheduler.used() == {RAM: 7}


def test_a_load_has_the_room_of_the_job_that_it_is_for(play: Play) -> None:
    play.ready("idle", held=4)
    assert play.ask("1", "a", 4, working=3) == ["evict idle"], "4 + 4 would fit, 4 + 4 + 3 does not"
    assert play.gone("idle") == ["load a"]
    assert play.scheduler.used() == {RAM: 7}
    assert play.loaded("a", held=4) == ["grant 1"]
    assert play.scheduler.used() == {RAM: 7}


def test_idle_models_leave_for_what_a_job_takes_and_its_own_stays(play: Play) -> None:
    play.ready("idle", held=4)
    play.ready("a", held=4)
    assert play.ask("1", "a", working=5) == ["evict idle"]
    assert play.ask("2", "a", working=1) == [], "it would fit, but the first came before"
    assert play.gone("idle") == ["grant 1"]


def test_a_job_waits_for_the_room_that_another_one_takes(play: Play) -> None:
    play.ready("a", held=2)
    play.ready("b", held=2)
    assert play.ask("1", "a", working=4) == ["grant 1"]
    assert play.ask("2", "b", working=4) == []
    assert play.finished("1") == ["grant 2"]


def test_a_job_that_takes_too_much_for_ever_is_refused_with_numbers(play: Play) -> None:
    play.ready("a", held=4)
    assert play.ask("1", "a", working=7) == [f"refuse 1 {DoesNotFit.code}"]
    error = play.refused["1"].error
    assert (error.facts["needed"], error.facts["limit"]) == (11, 10)
    assert "smaller size" in error.message
    assert play.ask("2", "b", 4, working=7) == [f"refuse 2 {DoesNotFit.code}"], "before its model is loaded"
    assert play.ask("3", "a", working=6) == ["grant 3"]


def test_a_large_job_is_not_starved_by_small_ones(play: Play) -> None:
    """Two models work all the time; the third's job needs more than ever is free while both do."""
    for model in ("a", "b", "c"):
        play.ready(model, held=1, slots=2)
    play.ask("a0", "a", working=2)
    play.ask("b0", "b", working=2)
    assert play.ask("large", "c", working=6) == []
    play.later(PATIENCE_S)
    assert play.ask("a1", "a", working=2) == [], "what is left is promised to the large one"
    assert play.ask("b1", "b", working=2) == []
    actions = play.finished("a0") + play.finished("b0")
    assert "grant large" in actions or "evict a" in actions
    while "grant large" not in actions:
        actions += [entry for model in ("a", "b") if play.stage(model) is Stage.LEAVING for entry in play.gone(model)]
    assert "grant large" in actions


def test_what_a_job_leaves_behind_counts(play: Play) -> None:
    play.ready("b", held=4)
    play.ready("a", held=2)
    assert play.on(Grown(model=ModelId("a"), held={RAM: 5})) == []
    assert play.scheduler.used() == {RAM: 9}
    assert play.on(Grown(model=ModelId("a"), held={RAM: 7})) == ["evict b"], "more than there is"
    assert play.on(Grown(model=ModelId("nobody"), held={RAM: 7})) == []


def test_a_spare_is_started_when_nothing_goes_on_and_there_is_room(play: Play) -> None:
    play.ready("a", held=6)
    wanted = SpareWanted(runtime="image", need={RAM: 3})
    play.ask("1", "a")
    assert play.on(wanted) == [], "a job runs"
    play.finished("1")
    assert play.on(SpareWanted(runtime="image", need={RAM: 5})) == [], "no room, and nobody leaves for it"
    assert play.on(wanted) == ["warm 1"]
    assert play.scheduler.used() == {RAM: 9}
    assert play.on(wanted) == [], "there is one"


@pytest.mark.parametrize(("room", "kept", "held"), [(2, 2, 5), (2, 3, 3), (9, 0, 3)])
def test_it_has_memory_ready_where_that_leaves_room_for_jobs(play: Play, room: int, kept: int, held: int) -> None:
    play.ready("a", held=3)
    assert play.on(SpareWanted(runtime="image", need={RAM: 3}, room=room, kept={RAM: kept})) == ["warm 1"]
    assert play.scheduler.used() == {RAM: 3 + held}


def test_a_model_is_loaded_into_the_spare_of_its_runtime(play: Play) -> None:
    play.spare(3)
    assert play.ask("1", "text", 4, runtime="text") == ["load text"]
    assert play.loaded("text") == ["grant 1"]
    assert play.ask("2", "a", 6, runtime="image") == ["load a into spare"], "what the spare holds becomes the model's"
    assert play.scheduler.used() == {RAM: 10}
    assert play.spare_gone(1) == [], "it is none any more"
    assert play.scheduler.used() == {RAM: 10}


def test_a_spare_that_has_no_process_yet_takes_no_model(play: Play) -> None:
    assert play.on(SpareWanted(runtime="image", need={RAM: 3})) == ["warm 1"]
    assert play.ask("1", "a", 4, runtime="image") == ["load a"]
    assert play.scheduler.used() == {RAM: 7}


def test_the_spare_goes_before_any_model(play: Play) -> None:
    play.ready("idle", held=4)
    play.spare(3)
    assert play.ask("1", "text", 6, runtime="text") == ["cool 1"]
    assert play.later(1) == []
    assert play.spare_gone() == ["load text"]
    assert play.stage("idle") is Stage.READY


def test_the_spare_goes_for_a_job(play: Play) -> None:
    play.ready("a", held=4)
    play.spare(3)
    assert play.ask("1", "a", working=5) == ["cool 1"]
    assert play.ask("2", "a", working=5) == []
    assert play.spare_gone() == ["grant 1"]


def test_a_spare_that_is_larger_than_expected_is_shed(play: Play) -> None:
    play.ready("a", held=6)
    assert play.on(SpareWanted(runtime="image", need={RAM: 3})) == ["warm 1"]
    play.on(SpareStarted(1))
    assert play.on(SpareReady(number=1, held={RAM: 5})) == ["cool 1"]


def test_spares_that_die_are_given_up(play: Play) -> None:
    for number in (1, 2, 3):
        assert play.on(SpareWanted(runtime="image", need={RAM: 3})) == [f"warm {number}"]
        assert play.spare_gone(number, died=True) == []
        assert play.scheduler.used() == {}
    assert play.on(SpareWanted(runtime="image", need={RAM: 3})) == []


def test_late_news_of_an_earlier_spare_changes_nothing(play: Play) -> None:
    play.spare(3)
    assert play.ask("1", "a", 4, runtime="image") == ["load a into spare"]
    play.loaded("a")
    play.finished("1")
    assert play.on(SpareWanted(runtime="image", need={RAM: 3})) == ["warm 2"]
    play.on(SpareReady(number=1, held={RAM: 9}))
    play.spare_gone(1, died=True)
    assert play.scheduler.used() == {RAM: 7}


def test_a_shutdown_ends_the_spare(play: Play) -> None:
    play.spare(3)
    assert play.on(Shutdown()) == ["cool 1"]
    assert play.on(SpareWanted(runtime="image", need={RAM: 3})) == []
