import io
import json

import numpy as np
import pytest
from PIL import Image

from server.core.errors import BadImage, InvalidValue
from server.core.image import ImageFinished, ImageReady, Preprocessing
from server.core.jobs import JobEvent, JobFailed, JobId, Work
from server.core.models import ImageSettings
from server.core.pixels import BUILT_IN, MapRequest, PoseRequest
from server.engines.image.preprocess.requests import check, images_of
from server.engines.image.upscaling.built_in import PixelsLoader
from server.registry.built_in import PIXELS
from tests.support.picture_files import disc, file_of, noise_image

POSE = json.dumps({"people": [], "canvas_width": 16, "canvas_height": 24}).encode()
CANNY = Preprocessing(module="canny", resolution=64, threshold_a=100, threshold_b=200)


def files(work: Work) -> list[Image.Image]:
    """Run a job on the engine that is always there."""
    engine = PixelsLoader().load(PIXELS, ImageSettings(), lambda fraction: None)
    engine.submit(JobId("one"), work)
    events = []
    while not engine.is_idle():
        for outcome in engine.step():
            assert not isinstance(outcome, JobFailed), outcome
            if isinstance(outcome, JobEvent):
                events.append(outcome.event)
    assert isinstance(events[-1], ImageFinished)
    return [Image.open(io.BytesIO(event.png)) for event in events if isinstance(event, ImageReady)]


def test_maps_come_out_of_the_engine_that_is_always_there() -> None:
    pictures = tuple(file_of(noise_image(40, 30, seed=seed)) for seed in (1, 2))
    one, two = files(MapRequest(pictures=pictures, preprocessing=CANNY))
    assert one.size == two.size == (85, 64)
    assert one.tobytes() != two.tobytes()
    assert set(np.unique(np.asarray(one))) == {0, 255}


def test_masks_show_as_transparency() -> None:
    work = MapRequest(
        pictures=(file_of(noise_image(30, 30)),),
        masks=(file_of(disc(30)),),
        preprocessing=Preprocessing(module="inpaint"),
    )
    (made,) = files(work)
    assert made.mode == "RGBA"
    assert set(np.unique(np.asarray(made)[:, :, 3])) == {128, 255}


def test_poses() -> None:
    (made,) = files(PoseRequest(poses=(POSE,)))
    assert made.size == (16, 24)


@pytest.mark.parametrize(
    "work",
    [
        MapRequest(pictures=(), preprocessing=CANNY),
        MapRequest(pictures=(b"",) * 65, preprocessing=CANNY),
        MapRequest(pictures=(b"", b""), masks=(b"",), preprocessing=CANNY),
        MapRequest(pictures=(b"",), preprocessing=Preprocessing(module="depth")),
        PoseRequest(poses=()),
    ],
)
def test_what_is_refused_before_it_is_queued(work: MapRequest | PoseRequest) -> None:
    with pytest.raises(InvalidValue):
        check(work)


def test_pictures_too_large_to_be_sent_back() -> None:
    large = file_of(Image.new("1", (5000, 4000)))
    with pytest.raises(BadImage):
        images_of(MapRequest(pictures=(large,), preprocessing=Preprocessing()))


def test_what_is_no_picture() -> None:
    with pytest.raises(BadImage):
        images_of(MapRequest(pictures=(b"GIF89a",), preprocessing=CANNY))
    assert MapRequest(pictures=(), preprocessing=CANNY).model == BUILT_IN
