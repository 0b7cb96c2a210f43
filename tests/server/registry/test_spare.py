"""The spare's place, with real workers."""

import os
import signal
from pathlib import Path

from server.core.memory import MIB
from server.core.models import ImageSettings, ModelId, Runtime
from server.engines import WARMERS
from server.registry.ledger import WARMED
from server.registry.residents import Residents
from server.registry.spare import SparePlace
from tests.support.aio import asynchronous
from tests.support.fakes import image_model

PAINTER = ModelId("painter")


def residents() -> Residents:
    return Residents(on_outcomes=lambda *_: None, on_death=lambda *_: None, stop_grace_s=5.0)


def test_the_registry_wishes_for_no_spare_that_the_engines_cannot_warm() -> None:
    assert set(WARMED) == set(WARMERS)


@asynchronous
async def test_a_model_is_loaded_into_it(tmp_path: Path) -> None:
    here = residents()
    spare = await here.spare.start(lambda _: None)
    assert await spare.warm(Runtime.FAKE_IMAGE, 100 * MIB) > 100 * MIB
    await here.load(image_model(tmp_path), ImageSettings(), use_spare=True)
    resident = here.get(PAINTER)
    assert resident is not None
    assert (resident.worker.pid, resident.worker.name, here.spare.pid) == (spare.pid, PAINTER, None)
    await here.close()


@asynchronous
async def test_a_model_that_was_not_given_it_leaves_it_alone(tmp_path: Path) -> None:
    here = residents()
    spare = await here.spare.start(lambda _: None)
    await here.load(image_model(tmp_path), ImageSettings())
    assert here.spare.pid == spare.pid
    await here.close()
    assert here.spare.pid is None


@asynchronous
async def test_one_that_dies_under_a_load_is_replaced(tmp_path: Path) -> None:
    here = residents()
    spare = await here.spare.start(lambda _: None)
    os.kill(spare.pid, signal.SIGKILL)
    facts = await here.load(image_model(tmp_path), ImageSettings(), use_spare=True)
    assert facts.slots == 1
    await here.close()


@asynchronous
async def test_its_death_is_told_and_its_departure_is_not() -> None:
    place, told = SparePlace(), list[str]()
    spare = await place.start(told.append)
    await place.leave()
    assert (told, place.pid, spare.alive) == ([], None, False)
    spare = await place.start(told.append)
    spare.kill()
    await spare.stop()
    assert told == ["killed by SIGKILL"]
    assert place.take() is None
