"""Who takes which part of the budget."""

from server.core.jobs import JobId
from server.core.memory import RAM, MemoryBudget
from server.core.models import ModelId
from server.service.decisions import Cool, Evict, SpareReady, SpareStarted, SpareWanted, Stage
from server.service.occupancy import Entry, Occupancy, Resident, does_not_fit

A, B = ModelId("a"), ModelId("b")
BUDGET = MemoryBudget(limits={RAM: 10})


def entry(model: ModelId = A, need: int = 4, working: int = 0, *, pinned: bool = False) -> Entry:
    return Entry(
        job=JobId("job"),
        model=model,
        need={RAM: need},
        working={RAM: working} if working else {},
        runtime="image",
        owner="",
        pinned=pinned,
        arrived=0.0,
    )


def ready(memory: Occupancy, model: ModelId, held: int = 4, *, pinned: bool = False, at: float = 0.0) -> Resident:
    resident = memory.residents[model] = Resident(entry(model, held, pinned=pinned), at)
    resident.loaded(1, {RAM: held}, at)
    return resident


def with_spare(memory: Occupancy, held: int) -> None:
    memory.spare.start(SpareWanted(runtime="image", need={RAM: held}))
    memory.spare.note(SpareStarted(1))
    memory.spare.note(SpareReady(number=1, held={RAM: held}))


def test_models_jobs_and_the_spare_are_added_up() -> None:
    memory = Occupancy(BUDGET)
    memory.residents[A] = Resident(entry(need=3, working=2), 0.0)
    assert memory.used() == {RAM: 5}, "with the room of the job it is loaded for"
    memory.residents[A].loaded(1, {RAM: 4}, 0.0)
    assert memory.used() == {RAM: 4}
    memory.residents[A].jobs[JobId("job")] = {RAM: 2}
    with_spare(memory, 3)
    assert memory.used() == {RAM: 9}
    assert memory.lacks({RAM: 2}) == RAM
    assert memory.lacks({RAM: 4}, into_spare=True) is None
    assert not memory.is_quiet()


def test_room_is_made_by_the_spare_first_and_by_idle_models_then() -> None:
    memory = Occupancy(BUDGET)
    ready(memory, A)
    with_spare(memory, 3)
    assert memory.make_room(entry(B), {RAM: 11}) == []
    assert memory.make_room(entry(B), {RAM: 5}) == [Cool(1)]
    assert memory.make_room(entry(B), {RAM: 5}) == [], "it is about to leave"
    assert memory.make_room(entry(B), {RAM: 7}) == [Evict(A)]
    assert memory.residents[A].stage is Stage.LEAVING


def test_no_model_leaves_for_a_job_of_its_own() -> None:
    memory = Occupancy(BUDGET)
    ready(memory, A)
    assert memory.make_room(entry(A), {RAM: 7}) == []


def test_who_is_in_the_way_is_settled_once() -> None:
    memory = Occupancy(BUDGET)
    ready(memory, A, at=1.0)
    ready(memory, B, at=2.0)
    first = memory.in_the_way(entry(ModelId("c")), {RAM: 6}, ())
    assert first == {A}
    memory.residents[A].last_used = 3.0
    assert memory.in_the_way(entry(ModelId("c")), {RAM: 6}, first) == {A}
    assert memory.in_the_way(entry(ModelId("c")), {RAM: 6}, ()) == {B}


def test_pinned_models_count_without_their_jobs() -> None:
    memory = Occupancy(BUDGET)
    ready(memory, A, 3, pinned=True).jobs[JobId("job")] = {RAM: 5}
    assert memory.pinned(besides=B) == {RAM: 3}
    assert memory.pinned(besides=A) == {}


def test_a_refusal_tells_whether_the_model_or_the_request_is_too_large() -> None:
    model = does_not_fit(entry(need=11), {RAM: 11}, {}, BUDGET, RAM)
    assert "smaller model" in model.message
    request = does_not_fit(entry(need=4, working=7), {RAM: 4}, {}, BUDGET, RAM)
    assert "smaller size" in request.message
    assert (request.fact("needed"), request.fact("limit")) == (11, 10)
    assert "pinned models hold 3 B" in does_not_fit(entry(need=8), {RAM: 8}, {RAM: 3}, BUDGET, RAM).message
