"""Maps by the engine of a network's file alone."""

from pathlib import Path

import pytest

from server.core.errors import InvalidValue, LoadFailed, Unsupported
from server.core.image import ImageFinished, ImageReady, ImageStarted, Preprocessing, StepDone
from server.core.jobs import CancelMode, JobEvent, JobId
from server.core.models import ImageSettings, ModelCard, ModelId, ModelKind, Runtime, TextSettings
from server.core.pixels import GridRequest, MapRequest
from server.engines.image.annotators.engine import AnnotatorEngine, AnnotatorLoader
from tests.support.picture_files import file_of, image_in, noise_image
from tests.support.tiny_annotators import tiny_dpt, write_folder

pytestmark = pytest.mark.torch

JOB = JobId("one")


def card_of(path: Path) -> ModelCard:
    return ModelCard(
        id=ModelId("m"),
        name="dpt/model.safetensors",
        kind=ModelKind.ANNOTATOR,
        runtime=Runtime.ANNOTATOR,
        files=(str(path),),
        size=path.stat().st_size,
    )


@pytest.fixture
def engine(tmp_path: Path) -> AnnotatorEngine:
    file = write_folder(tmp_path / "dpt", tiny_dpt(), '{"size": 32}')
    return AnnotatorLoader().load(card_of(file), ImageSettings(device="cpu", threads=1), lambda _: None)


def asked(engine: AnnotatorEngine, count: int = 1, module: str = "depth", file: str | None = None) -> MapRequest:
    file = engine._path if file is None else file
    pictures = tuple(file_of(noise_image(40, 30, seed=seed)) for seed in range(count))
    return MapRequest(
        model="m", pictures=pictures, preprocessing=Preprocessing(module=module, file=file, resolution=64)
    )


def test_the_life_of_a_job(engine: AnnotatorEngine) -> None:
    engine.submit(JOB, asked(engine, 2))
    found = []
    while not engine.is_idle():
        found += [item.event for item in engine.step() if isinstance(item, JobEvent)]
    assert [type(event) for event in found] == [ImageStarted, *[StepDone, ImageReady] * 2, ImageFinished]
    maps = [image_in(event.png) for event in found if isinstance(event, ImageReady)]
    assert all(min(image.size) == 64 for image in maps)
    assert maps[0].tobytes() != maps[1].tobytes()


def test_stop_ends_between_pictures(engine: AnnotatorEngine) -> None:
    engine.submit(JOB, asked(engine, 3))
    found = []
    while not engine.is_idle():
        for item in engine.step():
            if isinstance(item, JobEvent):
                found.append(item.event)
                if isinstance(item.event, ImageReady):
                    engine.cancel(JOB, CancelMode.STOP)
    assert sum(isinstance(event, ImageReady) for event in found) == 1
    assert found[-1] == ImageFinished(reason="stopped")


def test_what_it_does_not_do(engine: AnnotatorEngine) -> None:
    with pytest.raises(Unsupported):
        engine.check(GridRequest(pictures=(b"",), columns=1))
    with pytest.raises(Unsupported):
        engine.check(asked(engine, module="canny"))
    with pytest.raises(Unsupported, match="another file"):
        engine.check(asked(engine, file="/etc/passwd"))
    with pytest.raises(InvalidValue):
        engine.check(asked(engine, 0))


def test_settings_for_text_are_a_failed_load(engine: AnnotatorEngine) -> None:
    with pytest.raises(LoadFailed):
        AnnotatorLoader().load(card_of(Path(engine._path)), TextSettings(), lambda _: None)
