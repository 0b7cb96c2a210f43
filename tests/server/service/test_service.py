"""The verbs of the hall: names, kinds, queue limit, views."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from server.core.errors import InvalidValue, QueueFull, ShuttingDown, UnknownModel
from server.core.image import ImageReady
from server.core.memory import MIB, RAM
from server.core.models import ModelKind
from server.core.pixels import BUILT_IN, GridRequest, UpscaleRequest
from server.core.text import TextDelta
from server.registry.built_in import PIXELS
from tests.support.aio import asynchronous
from tests.support.builders import chat, endless, image
from tests.support.fakes import collected, first, house, image_model, said, text_model
from tests.support.picture_files import file_of


@asynchronous
async def test_models_are_found_by_alias_and_jobs_carry_the_id(tmp_path: Path) -> None:
    model = msgspec.structs.replace(text_model(tmp_path), aliases=("gpt",))
    async with house(model) as here:
        stream = here.service.submit(chat("a", model="gpt"), owner="me", tag="t")
        (view,) = here.service.jobs()
        assert (view.id, view.model, view.owner, view.tag) == (stream.job, "talker", "me", "t")
        assert await said(stream) == "a"


@asynchronous
async def test_a_name_that_nobody_has(tmp_path: Path) -> None:
    async with house(text_model(tmp_path)) as here:
        with pytest.raises(UnknownModel, match="talker"):
            here.service.submit(chat("a", model="tolker"))
        with pytest.raises(UnknownModel):
            await here.service.load("nobody")
        with pytest.raises(UnknownModel):
            await here.service.unload("nobody")


@asynchronous
async def test_a_model_of_the_wrong_kind_is_told_apart_from_an_unknown_one(tmp_path: Path) -> None:
    async with house(text_model(tmp_path), image_model(tmp_path)) as here:
        with pytest.raises(InvalidValue, match="checkpoint"):
            here.service.submit(chat("a", model="painter"))
        with pytest.raises(InvalidValue, match="text"):
            here.service.submit(image(model="talker"))


@asynchronous
async def test_a_broken_model_is_listed_and_refused_with_its_reason(tmp_path: Path) -> None:
    broken = msgspec.structs.replace(text_model(tmp_path), broken="the header is cut off")
    async with house(broken) as here:
        assert here.service.models() == (broken,)
        with pytest.raises(InvalidValue, match="cut off"):
            here.service.submit(chat("a"))


@asynchronous
async def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, slots=1, context=10**6, step_ms=1), queue_limit=3) as here:
        running = here.service.submit(endless())
        await first(running, TextDelta)
        queued = [here.service.submit(chat(f"a{k}")) for k in range(3)]
        with pytest.raises(QueueFull) as caught:
            here.service.submit(chat("one too many"))
        assert isinstance(caught.value.fact("retry_after"), int)
        await queued.pop().aclose()
        queued.append(here.service.submit(chat("a2")))
        await running.aclose()
        assert await asyncio.gather(*map(said, queued)) == ["a0", "a1", "a2"]


@asynchronous
async def test_two_hundred_queued_are_all_answered_or_refused(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, slots=2), queue_limit=50) as here:

        async def one(k: int) -> str:
            try:
                return await said(here.service.submit(chat(f"a{k}")))
            except QueueFull:
                return "refused"

        answers = await asyncio.gather(*map(one, range(200)))
        assert {*answers} >= {"refused", "a0"}
        assert all(answer in ("refused", f"a{k}") for k, answer in enumerate(answers))
        assert sum(answer != "refused" for answer in answers) >= 50


@asynchronous
async def test_nothing_is_accepted_any_more_after_it_was_said_so(tmp_path: Path) -> None:
    async with house(text_model(tmp_path)) as here:
        assert here.service.accepting
        here.service.stop_accepting()
        assert not here.service.accepting
        with pytest.raises(ShuttingDown):
            here.service.submit(chat("a"))


@asynchronous
async def test_memory_and_residents_are_shown(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, resident_mb=30, slots=3), budget_mb=100) as here:
        assert here.service.memory().residents == ()
        await here.service.load("talker")
        view = here.service.memory()
        assert (view.limits, view.used) == ({RAM: 100 * MIB}, {RAM: 30 * MIB})
        assert (view.ram_total, view.ram_free) == (8 << 30, 4 << 30)
        (resident,) = view.residents
        assert (resident.model, resident.kind, resident.state) == ("talker", ModelKind.TEXT, "ready")
        assert (resident.slots, resident.jobs, resident.pid) == (3, 0, here.pid("talker"))
        assert resident.footprint.resident == {RAM: 30 * MIB}


@asynchronous
async def test_a_model_whose_file_has_gone_can_still_be_unloaded(tmp_path: Path) -> None:
    async with house(text_model(tmp_path)) as here:
        await here.service.load("talker")
        here.shelf.remove("talker")
        await here.service.unload("talker")
        assert here.service.memory().residents == ()


@asynchronous
async def test_rescan_and_listing(tmp_path: Path) -> None:
    talker, painter = text_model(tmp_path), image_model(tmp_path)
    async with house(talker, painter) as here:
        await here.service.rescan()
        assert here.shelf.scans == 1
        assert here.service.models(ModelKind.TEXT) == (talker,)
        assert here.service.find("painter") == painter


@asynchronous
async def test_work_on_pixels_goes_to_the_worker_that_is_always_there(tmp_path: Path) -> None:
    async with house(text_model(tmp_path)) as here:
        stream = here.service.submit(GridRequest(pictures=(file_of(Image.new("RGB", (8, 8))),) * 2, columns=2))
        events = await collected(stream)
        (made,) = [event for event in events if isinstance(event, ImageReady)]
        assert (made.width, made.height) == (16, 8)
        assert [view.model for view in here.loop.residents()] == [BUILT_IN]
        assert here.service.jobs()[0].kind == "image"
        await here.service.unload(BUILT_IN)
        assert here.loop.residents() == ()
        assert PIXELS not in here.service.models()


@asynchronous
async def test_enlarging_needs_an_upscaler(tmp_path: Path) -> None:
    async with house(text_model(tmp_path)) as here:
        with pytest.raises(InvalidValue, match="upscaler"):
            here.service.submit(UpscaleRequest(model="talker", pictures=(b"x",)))
        with pytest.raises(UnknownModel):
            here.service.submit(UpscaleRequest(model="4x-nothing", pictures=(b"x",)))
