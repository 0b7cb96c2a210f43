"""The hall at work over real child processes of the fake engines: crashes, cancels, hangs, swaps, drains."""

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest

from server.core.errors import (
    Broken,
    ContextTooLong,
    DoesNotFit,
    InvalidValue,
    LoadFailed,
    ModelBusy,
    OutOfMemory,
    ProtocolError,
    ServerError,
    ShuttingDown,
    WorkerDied,
)
from server.core.image import ImageFinished, StepDone
from server.core.jobs import CancelMode, JobState, Loading, Waiting
from server.core.memory import MIB, RAM
from server.core.models import ModelCard, ModelId
from server.core.text import TextDelta, TextFinished, TextStarted
from tests.support.aio import asynchronous
from tests.support.builders import chat, completion, endless, image
from tests.support.fakes import (
    FAST,
    FakeProvision,
    House,
    collected,
    first,
    house,
    image_model,
    pictures_in,
    said,
    text_model,
)

ENDLESS = 10**6


async def state_of(here: House, job: str) -> JobState:
    (view,) = (view for view in here.service.jobs() if view.id == job)
    return view.state


async def hanging(here: House, model: str) -> None:
    """Wait until the fake's fault has struck."""
    while True:
        resident = here.loop._residents.get(ModelId(model))
        if resident is not None and any("fake fault: hang" in line for line in resident.worker.tail()):
            return
        await asyncio.sleep(0)


@asynchronous
async def test_text_and_pictures_from_one_house(tmp_path: Path) -> None:
    async with house(text_model(tmp_path), image_model(tmp_path)) as here:
        talk, paint = here.service.submit(chat("a b c")), here.service.submit(image(batch_size=2))
        events = await collected(talk)
        assert [type(event) for event in events[:3]] == [Waiting, Loading, TextStarted]
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "a b c"
        pictures = await collected(paint)
        assert len(pictures_in(pictures)) == 2
        assert isinstance(pictures[-1], ImageFinished)
        assert await state_of(here, talk.job) is JobState.DONE
        assert sorted(here.provision.learned) == sorted(here.provision.fingerprints) == ["painter", "talker"]


@asynchronous
async def test_many_at_once_are_all_answered_with_their_own_words(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, slots=8)) as here:
        streams = [here.service.submit(chat(f"word{k} end{k}")) for k in range(200)]
        assert await asyncio.gather(*map(said, streams)) == [f"word{k} end{k}" for k in range(200)]
        assert here.loop.board.live == 0


@asynchronous
async def test_an_engines_refusal_reaches_the_reader_before_the_first_event(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, context=3)) as here:
        with pytest.raises(ContextTooLong):
            await here.service.submit(chat("a b c d e")).started()
        assert await said(here.service.submit(chat("a b"))) == "a"


@asynchronous
async def test_a_crash_in_mid_stream_is_told_and_the_next_request_starts_anew(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, context=ENDLESS, step_ms=1)) as here:
        stream = here.service.submit(endless())
        await first(stream, TextDelta)
        before = here.pid("talker")
        os.kill(before, signal.SIGKILL)
        with pytest.raises(WorkerDied) as caught:
            await collected(stream)
        assert caught.value.fact("exit") == "killed by SIGKILL"
        assert await said(here.service.submit(chat("a b"))) == "a b"
        assert here.pid("talker") != before
        assert await state_of(here, stream.job) is JobState.FAILED


@asynchronous
async def test_a_crash_of_one_model_leaves_the_others_alone(tmp_path: Path) -> None:
    async with house(text_model(tmp_path), text_model(tmp_path, "other", context=ENDLESS, step_ms=1)) as here:
        other = here.service.submit(endless(model="other"))
        await first(other, TextDelta)
        with pytest.raises(WorkerDied):
            await collected(here.service.submit(chat("a fault:segv:1")))
        await first(other, TextDelta)
        other.cancel(CancelMode.STOP)
        events = await collected(other)
        assert isinstance(events[-1], TextFinished)


@asynchronous
async def test_jobs_that_have_not_spoken_survive_a_crash_unnoticed(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, slots=2, context=ENDLESS, step_ms=1)) as here:
        talking = here.service.submit(endless())
        await first(talking, TextDelta)
        queued = [here.service.submit(chat(f"a{k}")) for k in range(5)]
        os.kill(here.pid("talker"), signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await collected(talking)
        assert await asyncio.gather(*map(said, queued)) == [f"a{k}" for k in range(5)]


@asynchronous
async def test_a_picture_is_made_again_after_a_crash_and_starts_once_for_its_reader(tmp_path: Path) -> None:
    async with house(image_model(tmp_path, step_ms=1)) as here:
        stream = here.service.submit(image(steps=200))
        await first(stream, StepDone)
        os.kill(here.pid("painter"), signal.SIGKILL)
        events = await collected(stream)
        assert len(pictures_in(events)) == 1
        assert "ImageStarted" not in [type(event).__name__ for event in events]


@asynchronous
async def test_a_request_that_kills_every_worker_is_tried_twice_and_no_more(tmp_path: Path) -> None:
    async with house(text_model(tmp_path)) as here:
        with pytest.raises(WorkerDied):
            await collected(here.service.submit(chat("fault:abort")))
        assert len(here.provision.fingerprints) == 2
        with pytest.raises(InvalidValue, match="refused for 10 min"):
            here.service.submit(chat("fault:abort"))
        assert await said(here.service.submit(chat("another request"))) == "another request"
        assert len(here.provision.fingerprints) == 3


@asynchronous
async def test_a_grant_that_crosses_a_death_is_not_lost(tmp_path: Path) -> None:
    """The hall granted a job to a worker whose death was told in the same turn; the job used to wait for ever."""
    async with house(text_model(tmp_path)) as here:
        await here.service.load("talker")
        model = ModelId("talker")
        resident = here.loop._residents.get(model)
        assert resident is not None
        here.loop._residents.kill(model)
        while resident.worker.alive:
            # Submitted at every turn up to the death, one of them crosses it.
            here.service.submit(chat("x"))
            await asyncio.sleep(0)
        last = here.service.submit(chat("last words"))
        assert await said(last) == "last words"
        await asyncio.wait_for(here.loop._live.all_ended(), 20)


@asynchronous
async def test_no_job_waits_for_a_hash_and_who_wants_it_does(tmp_path: Path) -> None:
    class Slow(FakeProvision):
        async def fingerprint(self, card: ModelCard) -> None:
            await go.wait()
            await super().fingerprint(card)

    go = asyncio.Event()
    async with house(image_model(tmp_path), provision=Slow()) as here:
        assert len(pictures_in(await collected(here.service.submit(image())))) == 1
        asked = asyncio.create_task(here.service.fingerprint("painter"))
        await asyncio.sleep(0)
        assert (here.provision.fingerprints, asked.done()) == ([], False)
        go.set()
        await asked
        assert here.provision.fingerprints == ["painter"] * 2, "the hall's own, and for who asked"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"fail_load": "tensor 7 is missing"}, LoadFailed),
        ({"fault": "abort", "while_loading": True}, LoadFailed),
        ({"fault": "exit", "while_loading": True}, LoadFailed),
        ({"fault": "oom", "while_loading": True}, OutOfMemory),
        ({"fault": "raise", "while_loading": True}, LoadFailed),
    ],
)
@asynchronous
async def test_a_failed_load_is_told_to_all_who_wait(
    tmp_path: Path, settings: dict[str, object], error: type[ServerError]
) -> None:
    async with house(text_model(tmp_path, **settings), text_model(tmp_path, "other")) as here:
        streams = [here.service.submit(chat("a")) for _ in range(3)]
        for stream in streams:
            with pytest.raises(error) as caught:
                await stream.started()
            assert caught.value.fact("retry_after") == 1
        with pytest.raises(LoadFailed):
            await here.service.submit(chat("a")).started()
        assert await said(here.service.submit(chat("a b", model="other"))) == "a b"


@asynchronous
async def test_a_load_that_hangs_is_given_up(tmp_path: Path) -> None:
    limits = msgspec.structs.replace(FAST, load=0.3)
    async with house(text_model(tmp_path, fault="hang", while_loading=True), limits=limits) as here:
        with pytest.raises(LoadFailed, match="was not loaded within"):
            await here.service.submit(chat("a")).started()


@asynchronous
async def test_a_file_that_is_gone_when_it_is_asked_for(tmp_path: Path) -> None:
    model = text_model(tmp_path)
    async with house(model, provision=FakeProvision(expects={"talker": 1})) as here:
        Path(model.files[0]).unlink()
        with pytest.raises(LoadFailed):
            await here.service.submit(chat("a")).started()


@asynchronous
async def test_what_can_never_fit_is_refused_with_numbers(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, resident_mb=300), budget_mb=200) as here:
        with pytest.raises(DoesNotFit) as caught:
            await here.service.submit(chat("a")).started()
        assert (caught.value.fact("needed"), caught.value.fact("limit")) == (300 * MIB, 200 * MIB)


@asynchronous
async def test_a_swap_storm_stays_under_the_budget_and_loses_nobody(tmp_path: Path) -> None:
    models = [text_model(tmp_path, f"t{k}", resident_mb=60, allocate=False) for k in range(2)]
    models += [image_model(tmp_path, f"i{k}", resident_mb=60) for k in range(2)]
    async with house(*models, budget_mb=130, patience_s=0.05) as here:

        async def one(k: int) -> bool:
            work = chat(f"a{k}", model=f"t{k % 2}") if k % 4 < 2 else image(model=f"i{k % 2}")
            events = await collected(here.service.submit(work))
            assert here.service.memory().used[RAM] <= 130 * MIB
            alive = [view for view in here.loop.residents() if view.pid is not None]
            assert len(alive) <= 2
            return bool(pictures_in(events)) or any(isinstance(event, TextFinished) for event in events)

        assert all(await asyncio.gather(*map(one, range(40))))


@asynchronous
async def test_memory_is_back_before_the_next_load_begins(tmp_path: Path) -> None:
    async with house(
        text_model(tmp_path, resident_mb=60), text_model(tmp_path, "other", resident_mb=60), budget_mb=100
    ) as here:
        await here.service.load("talker")
        pid = here.pid("talker")
        stream = here.service.submit(chat("a", model="other"))
        await first(stream, Loading)
        assert not Path(f"/proc/{pid}").exists()
        await collected(stream)


@asynchronous
async def test_leaving_in_the_queue_gives_up_the_place(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, slots=1, context=ENDLESS, step_ms=1)) as here:
        running = here.service.submit(endless())
        await first(running, TextDelta)
        queued = here.service.submit(chat("a"))
        await queued.aclose()
        assert await state_of(here, queued.job) is JobState.CANCELLED
        assert here.loop.board.waiting == 0
        await running.aclose()


@asynchronous
async def test_a_job_cancelled_at_once_causes_no_load(tmp_path: Path) -> None:
    async with house(text_model(tmp_path)) as here:
        await here.service.submit(chat("a")).aclose()
        with pytest.raises(ServerError):
            await here.service.load("nothing of that name")
        await here.service.unload("talker")
        assert here.provision.fingerprints == []


@asynchronous
async def test_leaving_in_mid_stream_frees_the_slot(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, slots=1, context=ENDLESS, step_ms=1)) as here:
        stream = here.service.submit(endless())
        await first(stream, TextDelta)
        queued = here.service.submit(chat("a b"))
        await stream.aclose()
        assert await said(queued) == "a b"
        assert await state_of(here, stream.job) is JobState.CANCELLED


@asynchronous
async def test_stop_hands_over_what_is_there(tmp_path: Path) -> None:
    async with house(image_model(tmp_path, step_ms=1)) as here:
        stream = here.service.submit(image(steps=10_000, batches=2))
        await first(stream, StepDone)
        assert here.service.cancel(stream.job, CancelMode.STOP)
        events = await collected(stream)
        assert len(pictures_in(events)) == 1
        assert isinstance(events[-1], ImageFinished)
        assert events[-1].reason == "stopped"
        assert await state_of(here, stream.job) is JobState.CANCELLED
        assert not here.service.cancel(stream.job, CancelMode.STOP)


@asynchronous
async def test_skip_goes_on_with_the_next_batch_and_means_nothing_to_a_job_that_waits(tmp_path: Path) -> None:
    async with house(image_model(tmp_path, step_ms=1)) as here:
        stream = here.service.submit(image(steps=300, batches=2))
        assert here.service.cancel(stream.job, CancelMode.SKIP)
        await first(stream, StepDone)
        stream.cancel(CancelMode.SKIP)
        events = await collected(stream)
        assert len(pictures_in(events)) == 2
        assert await state_of(here, stream.job) is JobState.DONE
        steps = [event.step for event in events if isinstance(event, StepDone) and event.pass_index == 0]
        assert max(steps, default=1) < 300


@asynchronous
async def test_a_worker_that_does_not_obey_is_killed_and_the_others_on_it_are_done_again(tmp_path: Path) -> None:
    limits = msgspec.structs.replace(FAST, cancel=0.2)
    async with house(text_model(tmp_path), limits=limits) as here:
        stuck = here.service.submit(chat("a fault:hang:1"))
        await hanging(here, "talker")
        other = here.service.submit(chat("b c"))
        await stuck.aclose()
        assert await said(other) == "b c"
        assert await state_of(here, stuck.job) is JobState.CANCELLED


@asynchronous
async def test_a_reader_who_asked_to_stop_is_told_when_the_worker_had_to_be_killed(tmp_path: Path) -> None:
    limits = msgspec.structs.replace(FAST, cancel=0.2)
    async with house(image_model(tmp_path), limits=limits) as here:
        stuck = here.service.submit(image("fault:hang:1"))
        await hanging(here, "painter")
        stuck.cancel(CancelMode.STOP)
        with pytest.raises(WorkerDied):
            await collected(stuck)


@asynchronous
async def test_a_worker_that_falls_silent_is_killed(tmp_path: Path) -> None:
    limits = msgspec.structs.replace(FAST, silence=0.3)
    async with house(text_model(tmp_path), limits=limits) as here:
        with pytest.raises(WorkerDied):
            await collected(here.service.submit(chat("a fault:hang:1")))
        assert await said(here.service.submit(chat("a b"))) == "a b"


@asynchronous
async def test_an_idle_worker_may_be_silent(tmp_path: Path) -> None:
    limits = msgspec.structs.replace(FAST, silence=0.05)
    async with house(text_model(tmp_path), text_model(tmp_path, "slow", load_ms=200), limits=limits) as here:
        await said(here.service.submit(chat("a")))
        pid = here.pid("talker")
        await said(here.service.submit(chat("a", model="slow")))
        await said(here.service.submit(chat("a")))
        assert here.pid("talker") == pid


@asynchronous
async def test_a_worker_whose_device_ran_out_of_memory_is_replaced(tmp_path: Path) -> None:
    async with house(image_model(tmp_path)) as here:
        await here.service.load("painter")
        before = here.pid("painter")
        with pytest.raises(OutOfMemory):
            await collected(here.service.submit(image("fault:oom:1")))
        assert len(pictures_in(await collected(here.service.submit(image())))) == 1
        assert here.pid("painter") != before


@asynchronous
async def test_an_engine_error_fails_its_own_job(tmp_path: Path) -> None:
    async with house(image_model(tmp_path)) as here:
        await here.service.load("painter")
        before = here.pid("painter")
        with pytest.raises(Broken):
            await collected(here.service.submit(image("fault:raise")))
        assert len(pictures_in(await collected(here.service.submit(image())))) == 1
        assert here.pid("painter") == before


@asynchronous
async def test_text_that_cannot_travel_fails_its_own_job(tmp_path: Path) -> None:
    async with house(text_model(tmp_path)) as here:
        bad, good = here.service.submit(chat("a fault:surrogate:1 c")), here.service.submit(chat("a b c"))
        with pytest.raises(ProtocolError):
            await collected(bad)
        assert await said(good) == "a b c"


@asynchronous
async def test_a_request_too_large_for_a_frame_is_refused_and_frees_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(text_model(tmp_path, slots=1)) as here:
        await here.service.load("talker")
        monkeypatch.setattr("server.workers.framing.MAX_FRAME", 2000)
        with pytest.raises(ProtocolError):
            await here.service.submit(completion("x" * 3000)).started()
        assert await said(here.service.submit(completion("x"))) == "x"


@asynchronous
async def test_load_returns_when_the_model_is_ready_even_if_its_slots_are_taken(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, slots=1, context=ENDLESS, step_ms=1, load_ms=20)) as here:
        running = here.service.submit(endless())
        await here.service.load("talker")
        await first(running, TextDelta)
        await here.service.load("talker")
        await running.aclose()
        assert await said(here.service.submit(chat("a"))) == "a"


@asynchronous
async def test_a_load_that_is_cancelled_leaves_no_trace(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, load_ms=50)) as here:
        loading = asyncio.create_task(here.service.load("talker"))
        await asyncio.sleep(0)
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        assert await said(here.service.submit(chat("a"))) == "a"
        await here.service.unload("talker")


@asynchronous
async def test_a_load_during_a_pause_comes_to_an_end_without_any_job(tmp_path: Path) -> None:
    """Nothing told the time to the scheduler while only such a load was waiting."""
    async with house(text_model(tmp_path)) as here:
        for _ in range(2):
            await here.service.load("talker")
            resident = here.loop._residents.get(ModelId("talker"))
            assert resident is not None
            resident.worker.kill()
            await resident.worker.stop()
        await here.service.load("talker")
        assert here.pid("talker")


@asynchronous
async def test_unload(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, context=ENDLESS, step_ms=1)) as here:
        await here.service.unload("talker")
        stream = here.service.submit(endless())
        await first(stream, TextDelta)
        with pytest.raises(ModelBusy):
            await here.service.unload("talker")
        pid = here.pid("talker")
        stream.cancel(CancelMode.STOP)
        await collected(stream)
        await asyncio.gather(here.service.unload("talker"), here.service.unload("talker"))
        assert here.loop.residents() == ()
        assert not Path(f"/proc/{pid}").exists()


@asynchronous
async def test_unloading_what_is_being_loaded_says_busy(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, load_ms=100)) as here:
        stream = here.service.submit(chat("a"))
        await first(stream, Loading)
        with pytest.raises(ModelBusy):
            await here.service.unload("talker")
        assert await said(stream) == "a"


@asynchronous
async def test_a_drain_refuses_what_waits_and_lets_finish_what_runs(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, slots=1, step_ms=2, words=50)) as here:
        running = here.service.submit(chat("a"))
        await first(running, TextDelta)
        waiting = here.service.submit(chat("b"))
        draining = asyncio.create_task(here.loop.drain(20))
        with pytest.raises(ShuttingDown):
            await waiting.started()
        assert isinstance((await collected(running))[-1], TextFinished)
        await draining
        with pytest.raises(ShuttingDown):
            await here.loop.submit(here.service.find("talker"), chat("c"), owner="", tag="").started()


@asynchronous
async def test_a_drain_has_an_end_and_closing_tells_who_is_left(tmp_path: Path) -> None:
    async with house(text_model(tmp_path, context=ENDLESS, step_ms=1)) as here:
        stream = here.service.submit(endless())
        await first(stream, TextDelta)
        await here.loop.drain(0.01)
        await here.loop.close()
        with pytest.raises(ShuttingDown):
            await collected(stream)
        assert await state_of(here, stream.job) is JobState.FAILED


@asynchronous
async def test_closing_in_the_middle_of_everything(tmp_path: Path) -> None:
    models = [text_model(tmp_path, f"t{k}", resident_mb=50, load_ms=5) for k in range(4)]
    async with house(*models, budget_mb=120, limits=msgspec.structs.replace(FAST, stop=0.5)) as here:
        streams = [here.service.submit(chat("a b c", model=f"t{k % 4}")) for k in range(20)]
        loading = asyncio.create_task(here.service.load("t3"))
        await first(streams[0], TextDelta)
        await here.loop.close()
        results = await asyncio.gather(*map(collected, streams), loading, return_exceptions=True)
        assert all(not isinstance(result, BaseException) or isinstance(result, ServerError) for result in results)
        with pytest.raises(ShuttingDown):
            here.service.submit(chat("a", model="t0"))
        with pytest.raises(ShuttingDown):
            await here.service.load("t0")


@asynchronous
async def test_what_a_provision_says_at_submission_is_raised_and_leaves_no_job(tmp_path: Path) -> None:
    class Strict(FakeProvision):
        def expected(self, card: object) -> object:  # type: ignore[override]
            raise InvalidValue.of("context", "the context is too large")

    async with house(text_model(tmp_path), provision=Strict()) as here:
        with pytest.raises(InvalidValue):
            here.service.submit(chat("a"))
        assert here.loop.board.live == 0
