"""The spare at work in a hall with real child processes: warm before it is needed, and no harm when it is not there."""

import asyncio
import os
import signal
from pathlib import Path

import msgspec

from server.core.memory import MIB, RAM
from server.core.models import Runtime
from server.registry.residents import Residents
from server.registry.spare import SpareWish
from server.service.decisions import SchedulerEvent, SpareWanted
from server.service.spare_keeper import SpareKeeper
from tests.support.aio import asynchronous, children
from tests.support.builders import chat, image
from tests.support.fakes import FAST, FakeProvision, House, collected, house, image_model, pictures_in, said, text_model

WISH = SpareWish(runtime=Runtime.FAKE_IMAGE, need={RAM: 100 * MIB})
QUICK = msgspec.structs.replace(FAST, rest=0.0)


async def spare_of(here: House) -> int:
    """Wait until there is a spare that has told what it holds, and return its process id."""
    place = here.loop._residents.spare
    while place.pid is None or here.loop.used().get(RAM, 0) in (0, 100 * MIB):
        await asyncio.sleep(0)
    return place.pid


@asynchronous
async def test_a_model_is_loaded_into_the_spare_and_the_next_one_is_warmed(tmp_path: Path) -> None:
    provision = FakeProvision(spares=WISH)
    async with house(image_model(tmp_path), provision=provision, limits=QUICK) as here:
        first = await spare_of(here)
        assert here.loop.used()[RAM] > 0
        assert len(pictures_in(await collected(here.service.submit(image())))) == 1
        assert here.pid("painter") == first
        assert await spare_of(here) != first


@asynchronous
async def test_a_spare_that_was_killed_harms_no_request(tmp_path: Path) -> None:
    async with house(image_model(tmp_path), provision=FakeProvision(spares=WISH), limits=QUICK) as here:
        spare = await spare_of(here)
        stream = here.service.submit(image())
        os.kill(spare, signal.SIGKILL)
        assert len(pictures_in(await collected(stream))) == 1
        assert here.pid("painter") != spare


@asynchronous
async def test_a_spare_gives_its_room_to_a_model_of_another_kind(tmp_path: Path) -> None:
    model = text_model(tmp_path, resident_mb=190)
    async with house(model, provision=FakeProvision(spares=WISH), limits=QUICK, budget_mb=200) as here:
        await spare_of(here)
        assert await said(here.service.submit(chat("a b"))) == "a b"
        assert here.loop._residents.spare.pid is None
        assert here.loop.used() == {RAM: 190 * MIB}


@asynchronous
async def test_no_spare_outlives_the_hall(tmp_path: Path) -> None:
    before = children()
    async with house(image_model(tmp_path), provision=FakeProvision(spares=WISH), limits=QUICK) as here:
        spare = await spare_of(here)
        assert spare in children()
    assert children() == before


@asynchronous
async def test_a_hall_that_is_closed_while_the_spare_is_born_leaves_none(tmp_path: Path) -> None:
    before = children()
    async with house(image_model(tmp_path), provision=FakeProvision(spares=WISH), limits=QUICK) as here:
        while not here.loop.used():
            await asyncio.sleep(0)
    assert children() == before


def test_it_is_asked_for_once_nothing_has_gone_on_for_a_while() -> None:
    provision, posted = FakeProvision(), list[SchedulerEvent]()
    residents = Residents(on_outcomes=lambda *_: None, on_death=lambda *_: None)
    keeper = SpareKeeper(residents, provision, posted.append, rest_s=2.0)
    keeper.look(10.0, busy=False, loaded=())
    keeper.look(13.0, busy=False, loaded=())
    assert posted == [], "nobody wishes for one"
    provision.spares = WISH
    keeper.look(14.0, busy=True, loaded=())
    keeper.look(15.0, busy=False, loaded=())
    keeper.look(16.9, busy=False, loaded=())
    assert posted == []
    keeper.look(17.0, busy=False, loaded=())
    assert posted == [SpareWanted(runtime=Runtime.FAKE_IMAGE, need={RAM: 100 * MIB})]
