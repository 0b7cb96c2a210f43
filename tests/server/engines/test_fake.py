"""The fakes keep the engines' contract, and their faults are real."""

import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from server.core.errors import ContextTooLong, LoadFailed, OutOfMemory
from server.core.image import FileFormat, ImageReady, Preview, StepDone
from server.core.jobs import CancelMode, JobDone, JobFailed, JobId, Work
from server.core.models import ModelCard, TextSettings
from server.core.text import SamplingParams, TextDelta, TextFinished
from server.engines.base import Engine, Loader
from server.engines.fake import FakeImageLoader, FakeTextLoader, answer, png
from server.engines.fake_model import FakeModel
from server.http.picture_files import kind_of
from tests.support.builders import card, chat, completion, image
from tests.support.engine_contract import ONE, TWO, EngineContract, events_of, finish, step_until
from tests.support.fakes import image_model, text_model


def loaded(loader: Loader, fake: ModelCard) -> Engine:
    return loader.load(fake, TextSettings(), lambda _: None)


class TestText(EngineContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[Engine]:
        engine = loaded(FakeTextLoader(), text_model(tmp_path))
        yield engine
        engine.close()

    @pytest.fixture
    def work(self) -> Work:
        return chat("one two three four five", choices=2)

    @pytest.fixture
    def foreign_work(self) -> Work:
        return image()


class TestImages(EngineContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[Engine]:
        engine = loaded(FakeImageLoader(), image_model(tmp_path))
        yield engine
        engine.close()

    @pytest.fixture
    def work(self) -> Work:
        return image(steps=4, batch_size=2, batches=2, hires_steps=2)

    @pytest.fixture
    def foreign_work(self) -> Work:
        return chat("hi")


@pytest.mark.parametrize(
    ("prompt", "sampling", "model", "text", "reason"),
    [
        ("a b c", {}, {}, "a b c", "stop"),
        ("a b c", {"max_tokens": 2}, {}, "a b", "length"),
        ("a b c", {"max_tokens": 3}, {}, "a b c", "stop"),
        ("a b c", {"stop": ("b",)}, {}, "a ", "stop"),
        ("a b c", {"stop": ("", "zzz")}, {}, "a b c", "stop"),
        ("a b", {}, {"words": 5}, "a b a b a", "stop"),
        ("a b", {"ignore_eos": True}, {"context": 5}, "a b a", "length"),
        ("", {"max_tokens": 2}, {"words": 2}, "? ?", "stop"),
    ],
)
def test_answers(prompt: str, sampling: dict[str, object], model: dict[str, int], text: str, reason: str) -> None:
    words, why = answer(prompt.split(), SamplingParams(**sampling), FakeModel(**model))  # type: ignore[arg-type]
    assert ("".join(words), why) == (text, reason)


def test_all_jobs_in_slots_get_a_word_in_each_step(tmp_path: Path) -> None:
    engine = loaded(FakeTextLoader(), text_model(tmp_path, slots=2))
    for name in ("one", "two", "three"):
        engine.submit(JobId(name), chat("a b"))
    assert {item.job for item in engine.step()} == {ONE, TWO}


def test_a_prompt_over_the_context_is_refused_with_both_numbers(tmp_path: Path) -> None:
    engine = loaded(FakeTextLoader(), text_model(tmp_path, context=3))
    with pytest.raises(ContextTooLong) as caught:
        engine.submit(ONE, completion("a", "a b c d"))
    assert (caught.value.fact("limit"), caught.value.fact("got")) == (3, 4)


def test_several_prompts_with_token_ids_are_several_choices(tmp_path: Path) -> None:
    engine = loaded(FakeTextLoader(), text_model(tmp_path))
    engine.submit(ONE, completion("a b", (7, 8)))
    events = events_of(finish(engine))
    texts = ["".join(e.text for e in events if isinstance(e, TextDelta) and e.choice == k) for k in (0, 1)]
    assert texts == ["a b", "t7 t8"]


def test_a_picture_depends_on_its_seed_and_prompt_alone(tmp_path: Path) -> None:
    engine = loaded(FakeImageLoader(), image_model(tmp_path))

    def pictures(**how: object) -> list[bytes]:
        engine.submit(ONE, image(**how))  # type: ignore[arg-type]
        return [event.png for event in events_of(finish(engine)) if isinstance(event, ImageReady)]

    first, second = pictures(seed=5, batch_size=2)
    assert first != second
    assert pictures(seed=6) == [second]
    assert pictures(seed=5, prompt="a ship") != [first]


def test_a_picture_is_written_as_asked_for(tmp_path: Path) -> None:
    engine = loaded(FakeImageLoader(), image_model(tmp_path))
    engine.submit(ONE, msgspec.structs.replace(image(), file=FileFormat(kind="jpeg")))
    (picture,) = (event for event in events_of(finish(engine)) if isinstance(event, ImageReady))
    assert picture.png == b"" and kind_of(picture.data) == "jpeg"


def test_previews_come_as_often_as_asked(tmp_path: Path) -> None:
    engine = loaded(FakeImageLoader(), image_model(tmp_path))
    engine.submit(ONE, image(steps=6, preview_every=2))
    assert sum(isinstance(event, Preview) for event in events_of(finish(engine))) == 3


def test_skip_ends_a_batch_and_no_more(tmp_path: Path) -> None:
    engine = loaded(FakeImageLoader(), image_model(tmp_path))
    engine.submit(ONE, image(steps=5, batches=2))
    step_until(engine, StepDone)
    engine.cancel(ONE, CancelMode.SKIP)
    events = events_of(finish(engine))
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4, 5]
    assert len([event for event in events if isinstance(event, ImageReady)]) == 2


def test_a_png_is_a_png() -> None:
    data = png(3, 2, (10, 20, 30))
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    assert zlib.decompress(data[start + 4 : start + 4 + length]) == (b"\0" + bytes((10, 20, 30)) * 3) * 2


@pytest.mark.parametrize("content", ["", "GGUF", '{"slot": 3}', "[]"])
def test_a_file_that_is_no_fake_model_does_not_load(tmp_path: Path, content: str) -> None:
    file = tmp_path / "broken.json"
    file.write_text(content)
    with pytest.raises(LoadFailed):
        loaded(FakeTextLoader(), card(file=str(file)))


def test_a_model_that_shall_not_load_does_not(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="tensor 7 is missing"):
        loaded(FakeTextLoader(), text_model(tmp_path, fail_load="tensor 7 is missing"))


def test_loading_reports_its_way_up(tmp_path: Path) -> None:
    told: list[float] = []
    FakeTextLoader().load(text_model(tmp_path), TextSettings(), told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_memory_trouble_fails_the_job_that_met_it(tmp_path: Path) -> None:
    engine = loaded(FakeTextLoader(), text_model(tmp_path))
    engine.submit(ONE, chat("fault:oom:1 b c"))
    engine.submit(TWO, chat("a b c"))
    items = finish(engine)
    (failed,) = [item for item in items if isinstance(item, JobFailed)]
    assert (failed.job, failed.error.code) == (ONE, OutOfMemory.code)
    assert JobDone(TWO) in items
    assert any(isinstance(event, TextFinished) for event in events_of(items, TWO))


@pytest.mark.parametrize(("kind", "status"), [("abort", -6), ("segv", -11), ("kill", -9), ("exit", 3)])
def test_faults_that_end_the_process(kind: str, status: int) -> None:
    code = f"import sys; from server.engines.fake_model import harm; harm({kind!r})"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == status
