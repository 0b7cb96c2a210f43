"""Who waits for a model to come or to leave is told once, and those who went away do no harm."""

import pytest

from server.core.errors import LoadFailed, ModelBusy, ShuttingDown
from server.core.jobs import JobId
from server.core.models import ModelId
from server.service.awaited import Awaited
from tests.support.aio import asynchronous

A, B = ModelId("a"), ModelId("b")
ONE, TWO = JobId("one"), JobId("two")


@asynchronous
async def test_a_model_that_came_is_told_to_those_who_wait_for_it() -> None:
    awaited = Awaited()
    one, two = awaited.load(ONE, A), awaited.load(TWO, B)
    awaited.came(A)
    assert (one.done(), two.done(), awaited.loads) == (True, False, 2), "their jobs are granted later"
    awaited.load_ended(ONE)
    awaited.load_ended(TWO, LoadFailed("no"))
    assert awaited.loads == 0
    await one
    with pytest.raises(LoadFailed):
        await two
    awaited.load_ended(TWO)


@asynchronous
async def test_a_model_that_left_or_did_not() -> None:
    awaited = Awaited()
    first, second = awaited.unload(A), awaited.unload(A)
    awaited.left(B)
    assert not first.done()
    awaited.left(A)
    await first
    await second
    third = awaited.unload(A)
    awaited.left(A, ModelBusy("in use"))
    with pytest.raises(ModelBusy):
        await third


@asynchronous
async def test_the_end_and_those_who_went_away() -> None:
    awaited = Awaited()
    gone, stays, leaving = awaited.load(ONE, A), awaited.load(TWO, A), awaited.unload(B)
    gone.cancel()
    assert awaited.forget(ONE)
    assert not awaited.forget(ONE)
    assert ONE not in awaited
    assert TWO in awaited
    stays.cancel()
    awaited.close(ShuttingDown("the end"))
    with pytest.raises(ShuttingDown):
        await leaving
