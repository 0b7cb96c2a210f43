"""What the scheduler knows of the spare worker."""

from server.core.memory import RAM
from server.service.decisions import Cool, SpareGone, SpareReady, SpareStarted, SpareWanted, Warm
from server.service.spare import MOST_DEATHS, Spare

WANTED = SpareWanted(runtime="image", need={RAM: 3})
ROOMY = SpareWanted(runtime="image", need={RAM: 3}, room=4, kept={RAM: 9})


def started() -> Spare:
    spare = Spare()
    assert spare.start(WANTED) == [Warm(1, "image")]
    spare.note(SpareStarted(1))
    return spare


def test_it_counts_from_the_decision_and_takes_a_model_from_its_start() -> None:
    spare = Spare()
    assert (spare.held, spare.may_start) == ({}, True)
    spare.start(WANTED)
    assert (spare.held, spare.may_start, spare.fits("image")) == ({RAM: 3}, False, False)
    spare.note(SpareStarted(1))
    assert spare.fits("image")
    assert not spare.fits("text")
    spare.note(SpareReady(number=1, held={RAM: 2}))
    assert spare.held == spare.staying == {RAM: 2}


def test_it_is_asked_to_leave_once_and_counts_until_it_is_gone() -> None:
    spare = started()
    assert spare.leave() == [Cool(1)]
    assert spare.leave() == []
    assert (spare.held, spare.staying, spare.fits("image")) == ({RAM: 3}, {}, False)
    spare.note(SpareGone(number=1))
    assert (spare.held, spare.leave(), spare.may_start) == ({}, [], True)


def test_one_that_was_taken_is_none_any_more() -> None:
    spare = started()
    spare.take()
    assert (spare.held, spare.fits("image"), spare.leave()) == ({}, False, [])
    assert spare.start(WANTED) == [Warm(2, "image")]
    spare.note(SpareStarted(1))
    assert not spare.fits("image"), "that was news of the first"


def test_those_that_die_are_given_up_and_those_that_were_asked_to_leave_are_not() -> None:
    spare = Spare()
    for number in range(1, 2 * MOST_DEATHS):
        spare.start(WANTED)
        spare.note(SpareGone(number=number))
    assert spare.may_start
    for number in range(2 * MOST_DEATHS, 3 * MOST_DEATHS):
        spare.start(WANTED)
        spare.note(SpareGone(number=number, died=True))
    assert not spare.may_start


def test_memory_that_it_has_ready_counts() -> None:
    spare = Spare()
    assert spare.start(ROOMY) == [Warm(1, "image", 4)]
    assert spare.held == {RAM: 7}
