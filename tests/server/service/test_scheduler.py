"""The scheduler's rules as small plays, and random plays that must keep its promises. Time is made up."""

import pytest

from server.core.errors import DoesNotFit, LoadFailed, ShuttingDown
from server.core.jobs import JobId
from server.core.memory import RAM
from server.core.models import ModelId
from server.service.decisions import (
    Shutdown,
    Stage,
    Tick,
    Withdrawn,
    Worn,
)
from tests.support.hall_play import Play
from tests.support.hall_world import FAILED, PATIENCE_S, World


@pytest.fixture
def play() -> Play:
    return Play()


def test_a_first_request_loads_and_is_granted_when_the_model_is_ready(play: Play) -> None:
    assert play.ask("1", "a") == ["load a"]
    assert play.ask("2", "a") == []
    assert play.loaded("a", slots=2) == ["grant 1", "grant 2"]


def test_slots_are_given_in_order_of_arrival(play: Play) -> None:
    play.ready("a", slots=2)
    assert play.ask("1", "a") == ["grant 1"]
    assert play.ask("2", "a") == ["grant 2"]
    assert play.ask("3", "a") == []
    assert play.ask("4", "a") == []
    assert play.finished("2") == ["grant 3"]
    assert play.finished("1") == ["grant 4"]


def test_owners_take_turns_and_each_keeps_its_order(play: Play) -> None:
    play.ready("a")
    for job in ("a1", "a2", "a3", "a4"):
        play.ask(job, "a", owner="anna")
    for job in ("b1", "b2"):
        play.ask(job, "a", owner="bert")
    order = ["a1"]
    while granted := play.finished(order[-1]):
        order.append(granted[0].removeprefix("grant "))
    assert order == ["a1", "b1", "a2", "b2", "a3", "a4"]


def test_a_crowd_of_one_owner_holds_another_up_for_one_job_at_most(play: Play) -> None:
    play.ready("a", slots=2)
    for number in range(50):
        play.ask(f"anna {number}", "a", owner="anna")
    play.ask("bert", "a", owner="bert")
    assert play.finished("anna 0") == ["grant bert"]
    assert play.finished("bert") == ["grant anna 2"]


def test_a_crowd_on_one_model_holds_another_owners_model_up_for_no_longer_than_patience(play: Play) -> None:
    play.ready("a", held=6)
    for number in range(50):
        play.ask(f"anna {number}", "a", 6, owner="anna")
    play.ask("bert", "b", 6, owner="bert")
    assert play.later(PATIENCE_S + 1) == []
    assert play.finished("anna 0") == ["evict a"]
    assert play.gone("a") == ["load b"]
    assert play.loaded("b", held=6) == ["grant bert"]


def test_a_model_that_was_loaded_for_one_owner_is_not_taken_away_unused(play: Play) -> None:
    play.ready("c", slots=2, held=4)
    play.ask("a1", "a", 6, owner="anna")
    play.ask("b1", "b", 6, owner="bert")
    assert play.ask("a2", "c", owner="anna") == ["grant a2"]
    assert play.loaded("a", held=6) == ["grant a1"], "though it is the other's turn now"


def test_a_job_that_is_done_again_is_before_the_later_ones_of_its_owner(play: Play) -> None:
    play.ready("a")
    play.ask("a1", "a", owner="anna")
    play.now += 1
    play.ask("a2", "a", owner="anna")
    play.ask("b1", "a", owner="bert")
    play.gone("a", died=True)
    play.ask("a1", "a", owner="anna", since=play.now - 1)
    order = play.loaded("a")
    while granted := play.finished(order[-1].removeprefix("grant ")):
        order += granted
    assert order == ["grant b1", "grant a1", "grant a2"]


def test_a_model_without_a_figure_for_its_slots_has_one(play: Play) -> None:
    play.ask("1", "a")
    assert play.loaded("a", slots=0) == ["grant 1"]


def test_what_can_never_fit_is_refused_with_numbers(play: Play) -> None:
    assert play.ask("1", "a", 11) == [f"refuse 1 {DoesNotFit.code}"]
    error = play.refused["1"].error
    assert (error.facts["needed"], error.facts["limit"], error.facts["pool"]) == (11, 10, RAM)
    assert play.ask("2", "b", 1, gpu=1) == [f"refuse 2 {DoesNotFit.code}"], "no such pool"


def test_two_models_that_fit_load_at_the_same_time(play: Play) -> None:
    assert play.ask("1", "a", 5) == ["load a"]
    assert play.ask("2", "b", 5) == ["load b"]


def test_room_is_made_by_the_oldest_use_and_the_load_waits_until_it_is_back(play: Play) -> None:
    play.ready("a")
    play.ready("b")
    assert play.ask("1", "c", 4) == ["evict a"]
    assert play.stage("a") is Stage.LEAVING
    assert play.later(1) == []
    assert play.gone("a") == ["load c"]


def test_a_use_makes_a_model_younger(play: Play) -> None:
    play.ready("a")
    play.ready("b")
    play.now += 1
    play.ask("1", "a")
    play.finished("1")
    assert play.ask("2", "c", 4) == ["evict b"]


def test_running_jobs_are_never_killed_for_a_newcomer(play: Play) -> None:
    play.ready("a", held=8)
    play.ask("1", "a")
    assert play.ask("2", "b", 8) == []
    assert play.later(100) == []
    assert play.finished("1") == ["evict a"]
    assert play.gone("a") == ["load b"]


def test_nobody_is_evicted_when_that_would_not_suffice(play: Play) -> None:
    play.ready("a", held=4)
    play.ready("b", held=6)
    play.ask("1", "b")
    assert play.ask("2", "c", 8) == []
    assert play.stage("a") is Stage.READY


def test_a_job_for_a_leaving_model_waits_and_loads_it_again(play: Play) -> None:
    play.ready("a", held=8)
    assert play.ask("1", "b", 8) == ["evict a"]
    assert play.ask("2", "a", 8) == []
    assert play.gone("a") == ["load b"]
    assert play.loaded("b", held=8) == ["grant 1"]
    assert play.finished("1") == ["evict b"]
    assert play.gone("b") == ["load a"]


def test_loads_wait_behind_a_load_that_waits_but_grants_do_not(play: Play) -> None:
    play.ready("a", slots=2, held=8)
    play.ask("1", "a")
    assert play.ask("2", "b", 8) == []
    assert play.ask("3", "c", 1) == [], "it would fit, but 2 came before"
    assert play.ask("4", "a") == ["grant 4"]


def test_impatience_stops_later_jobs_on_the_model_in_the_way(play: Play) -> None:
    play.ready("a", slots=2, held=8)
    play.ask("1", "a")
    play.ask("2", "b", 8)
    play.later(PATIENCE_S - 0.1)
    assert play.ask("3", "a") == ["grant 3"]
    play.later(0.1)
    assert play.ask("4", "a") == []
    assert play.finished("1") == []
    assert play.finished("3") == ["evict a"]
    assert play.gone("a") == ["load b"]
    assert play.loaded("b", held=8) == ["grant 2"]
    assert play.finished("2") == ["evict b"]
    assert play.gone("b") == ["load a"]
    assert play.loaded("a", held=8) == ["grant 4"]


def test_impatience_spares_models_that_are_not_in_the_way(play: Play) -> None:
    play.ready("small", slots=2, held=2)
    play.ready("a", slots=2, held=8)
    play.ask("1", "a")
    play.ask("2", "small")
    play.ask("3", "b", 8)
    play.later(PATIENCE_S)
    assert play.ask("4", "small") == ["grant 4"]


def test_two_busy_models_do_not_take_turns_in_being_spared(play: Play) -> None:
    """Whichever was used last used to be spared, so neither ever became idle."""
    play.ready("a", slots=2, held=5)
    play.ready("b", slots=2, held=5)
    for job, model in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b")):
        assert play.ask(job, model) == [f"grant {job}"]
    assert play.ask("starving", "c", 5) == []
    play.later(PATIENCE_S)
    done = False
    running = {"a": ["a1", "a2"], "b": ["b1", "b2"]}
    for turn in range(20):
        for model in ("a", "b"):
            play.now += 1
            newcomer = f"{model} {turn}"
            actions = play.ask(newcomer, model)
            running[model] += [newcomer] if f"grant {newcomer}" in actions else []
            if running[model]:
                actions = play.finished(running[model].pop(0))
                granted = [action.removeprefix("grant ") for action in actions if action.startswith("grant")]
                for job in granted:
                    running[job.split()[0]].append(job)
                done = done or any(action.startswith("evict") for action in actions)
    assert done, "room is made for the one that starves"


def test_pinned_models_stay(play: Play) -> None:
    play.ready("a", held=6, pinned=True)
    assert play.ask("1", "b", 5) == [f"refuse 1 {DoesNotFit.code}"]
    assert "pinned" in play.refused["1"].error.message
    assert play.ask("2", "b", 4) == ["load b"]


def test_a_pinned_model_that_is_leaving_is_waited_for(play: Play) -> None:
    play.ready("a", held=6, pinned=True)
    assert play.unload("a") == ["evict a"]
    assert play.ask("1", "b", 5) == []
    assert play.gone("a") == ["load b"]


def test_a_withdrawn_job_is_neither_granted_nor_loaded_for(play: Play) -> None:
    play.ready("a", held=8)
    play.ask("1", "a")
    play.ask("2", "b", 8)
    play.on(Withdrawn(JobId("2")))
    assert play.finished("1") == []
    assert play.later(10) == []


def test_an_impatient_job_that_is_withdrawn_holds_nobody_back(play: Play) -> None:
    play.ready("a", held=8)
    play.ask("1", "a")
    play.ask("2", "b", 8)
    play.later(PATIENCE_S)
    play.ask("3", "a")
    play.on(Withdrawn(JobId("2")))
    assert play.finished("1") == ["grant 3"]


def test_a_failed_load_is_told_to_all_who_wait_and_pauses(play: Play) -> None:
    play.ask("1", "a")
    play.ask("2", "a")
    assert play.failed("a") == [f"refuse 1 {FAILED.code}", f"refuse 2 {FAILED.code}"]
    assert play.refused["2"].error.facts["retry_after"] == 1
    assert play.ask("3", "a") == [f"refuse 3 {LoadFailed.code}"]
    assert play.ask("4", "b") == ["load b"], "others are not concerned"
    play.later(1)
    assert play.ask("5", "a") == ["load a"]
    play.failed("a")
    assert play.refused["5"].error.facts["retry_after"] == 2


def test_the_first_crash_is_forgiven_at_once_and_the_next_makes_jobs_wait(play: Play) -> None:
    play.ready("a")
    play.ask("1", "a")
    play.ask("2", "a")
    assert play.gone("a", died=True) == ["load a"]
    assert play.loaded("a") == ["grant 2"]
    assert play.gone("a", died=True) == []
    assert play.ask("3", "a") == []
    assert play.ask("4", "b") == ["load b"], "a pause blocks nobody else"
    assert play.later(0.9) == []
    assert play.later(0.1) == ["load a"]


def test_many_crashes_refuse(play: Play) -> None:
    play.ready("a")
    for _ in range(6):
        play.gone("a", died=True)
        play.ask("x", "a")
        play.on(Withdrawn(JobId("x")))
        if play.stage("a"):
            play.loaded("a")
    assert play.ask("1", "a") == [f"refuse 1 {LoadFailed.code}"]
    assert "killed" in play.refused["1"].error.message


def test_a_job_that_is_done_again_takes_its_old_place(play: Play) -> None:
    play.ready("a")
    play.now = 10
    play.ask("1", "a")
    play.now = 11
    play.ask("2", "a")
    play.gone("a", died=True)
    assert play.ask("1", "a", since=10) == []
    assert play.loaded("a") == ["grant 1"]


def test_jobs_of_a_dead_worker_free_no_slot_of_the_next(play: Play) -> None:
    play.ready("a")
    play.ask("1", "a")
    play.gone("a", died=True)
    play.ask("2", "a")
    play.loaded("a")
    play.ask("3", "a")
    assert play.finished("1") == []
    assert play.finished("2") == ["grant 3"]


def test_what_was_measured_counts_from_then_on(play: Play) -> None:
    play.ask("1", "a", 2)
    play.loaded("a", held=9)
    assert play.scheduler.used() == {RAM: 9}
    assert play.ask("2", "b", 2) == []
    assert play.finished("1") == ["evict a"]


def test_those_who_wait_need_what_was_measured(play: Play) -> None:
    play.ask("1", "a", 2)
    play.ask("2", "a", 2)
    play.loaded("a", held=9)
    play.gone("a", died=True)
    play.ask("3", "b", 2)
    assert play.scheduler.used() == {RAM: 9}


def test_more_than_the_budget_is_shed_once_something_is_idle(play: Play) -> None:
    play.ready("a", held=5)
    play.ask("1", "b", 4)
    play.now += 1
    assert play.loaded("b", held=8) == ["evict a", "grant 1"]


def test_unload(play: Play) -> None:
    play.ready("a")
    play.ask("1", "a")
    assert play.unload("a") == [], "not while a job runs on it"
    assert play.stage("a") is Stage.READY
    play.finished("1")
    assert play.unload("a") == ["evict a"]
    assert play.unload("a") == []
    assert play.gone("a") == []
    assert play.unload("a") == []
    assert play.stage("a") is None


def test_a_worn_model_finishes_its_jobs_and_is_replaced(play: Play) -> None:
    play.ready("a", slots=2)
    play.ask("1", "a")
    assert play.on(Worn(ModelId("a"))) == []
    assert play.ask("2", "a") == []
    assert play.finished("1") == ["evict a"]
    assert play.gone("a") == ["load a"]
    assert play.loaded("a") == ["grant 2"]
    assert play.on(Worn(ModelId("nobody"))) == []


def test_shutdown(play: Play) -> None:
    play.ready("idle")
    play.ready("a")
    play.ask("1", "a")
    play.ask("2", "a")
    play.ask("3", "b", 2)
    assert play.on(Shutdown()) == [f"refuse 2 {ShuttingDown.code}", f"refuse 3 {ShuttingDown.code}", "evict idle"]
    assert play.ask("4", "a") == [f"refuse 4 {ShuttingDown.code}"]
    assert play.loaded("b", held=2) == ["evict b"]
    assert play.finished("1") == ["evict a"]


def test_late_news_of_what_is_gone_is_ignored(play: Play) -> None:
    assert play.loaded("a") == []
    assert play.gone("a") == []
    assert play.finished("1") == []
    play.ready("b")
    assert play.loaded("b", slots=9) == []
    play.ask("1", "b")
    assert play.ask("2", "b") == [], "a second news of a load changes nothing"


def test_views(play: Play) -> None:
    play.ready("a")
    play.ask("1", "a")
    assert play.scheduler.residents() == (ModelId("a"),)
    assert play.scheduler.jobs_on(ModelId("a")) == 1
    assert play.scheduler.last_used(ModelId("a")) == play.now
    assert play.scheduler.jobs_on(ModelId("b")) == play.scheduler.last_used(ModelId("b")) == 0


@pytest.mark.parametrize("seed", range(40))
def test_random_plays_keep_the_promises(seed: int) -> None:
    world = World(seed, faults=seed % 2 == 1)
    submitted = 0
    for _ in range(400):
        if world.dice.random() < 0.4:
            owner = world.dice.choice(("anna", "anna", "anna", "bert", "carl")) if seed % 4 > 1 else ""
            world.submit(world.dice.choice(list(world.needs)), owner)
            submitted += 1
        elif world.agenda:
            world.feed(world.next_event())
        else:
            world.now += 0.5
            world.feed(Tick())
        world.mischief()
    world.come_to_rest()
    assert len(world.ended) == submitted
    if not world.faults:
        assert not world.errors


@pytest.mark.parametrize("seed", range(8))
def test_nobody_starves_under_load_that_never_ends(seed: int) -> None:
    """Two models have more work than they can do; the third, which needs all the room, gets its turn nevertheless.

    In half of the plays the room is taken by their jobs.
    """
    world = World(seed, faults=False)
    world.needs = {ModelId("a"): {RAM: 6}, ModelId("b"): {RAM: 6}, ModelId("c"): {RAM: 12}}
    if seed >= 4:
        world.needs |= {ModelId("a"): {RAM: 3}, ModelId("b"): {RAM: 3}}
        world.works = {ModelId("a"): {RAM: 1}, ModelId("b"): {RAM: 1}, ModelId("c"): {}}
    world.slots = dict.fromkeys(world.needs, 3)
    owners = ("anna", "bert", "carl") if seed % 2 else ("",)
    turns = 0
    for _ in range(3000):
        for model in (ModelId("a"), ModelId("b")):
            while sum(wanted == model for wanted, _ in world.waiting.values()) < 2:
                world.submit(model, world.dice.choice(owners))
        if not any(wanted == "c" for wanted, _ in world.waiting.values()):
            world.submit(ModelId("c"), world.dice.choice(owners))
            turns += 1
        if world.agenda:
            world.feed(world.next_event())
        world.now += 0.01
        world.feed(Tick())
    assert turns > 5
    assert world.longest < 60


@pytest.mark.parametrize("seed", range(10))
def test_shutdown_in_the_middle_ends_every_job(seed: int) -> None:
    world = World(seed, faults=True)
    for _ in range(100):
        world.submit(world.dice.choice(list(world.needs)))
        if world.agenda:
            world.feed(world.next_event())
    world.feed(Shutdown())
    assert not world.waiting
    while world.agenda:
        world.feed(world.next_event())
    assert not world.running
    assert not world.stage, "all models have left"
