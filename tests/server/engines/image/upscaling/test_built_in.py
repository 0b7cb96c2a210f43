import subprocess
import sys

import pytest
from PIL import Image, ImageChops

from server.core.errors import InvalidValue, Unsupported
from server.core.image import ImageReady, Size
from server.core.jobs import JobEvent, JobId, Work
from server.core.memory import RAM
from server.core.models import ImageSettings
from server.core.pixels import BUILT_IN, GridRequest, JoinRequest, SplitRequest, UpscaleRequest
from server.engines.image.upscaling.built_in import PixelsLoader
from server.registry.built_in import PIXELS
from tests.support.builders import chat
from tests.support.picture_files import file_of, image_in


def results(work: Work) -> list[Image.Image]:
    engine = PixelsLoader().load(PIXELS, ImageSettings(), lambda _: None)
    engine.submit(JobId("1"), work)
    found = []
    while not engine.is_idle():
        for item in engine.step():
            if isinstance(item, JobEvent) and isinstance(item.event, ImageReady):
                found.append(image_in(item.event.png))
    engine.close()
    return found


def picture(width: int, height: int) -> Image.Image:
    return Image.merge(
        "RGB", [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L")]
    ).resize((width, height))


def test_enlarging() -> None:
    (found,) = results(UpscaleRequest(model=BUILT_IN, pictures=(file_of(picture(64, 64)),), kernel="nearest"))
    assert found.size == (128, 128)


def test_a_grid() -> None:
    (found,) = results(GridRequest(pictures=(file_of(picture(8, 8)),) * 4, columns=2))
    assert found.size == (16, 16)


def test_split_and_joined() -> None:
    image = picture(200, 120)
    tiles = results(SplitRequest(picture=file_of(image), tile=Size(64, 64), overlap=16))
    assert len(tiles) == 4 * 3
    work = JoinRequest(
        pictures=tuple(file_of(tile) for tile in tiles), size=Size(200, 120), tile=Size(64, 64), overlap=16
    )
    (again,) = results(work)
    assert max(high for _, high in ImageChops.difference(again, image).getextrema()) <= 1


def test_tiles_that_came_back_at_another_size() -> None:
    work = JoinRequest(
        pictures=(file_of(Image.new("RGB", (56, 56), (9, 9, 9))),) * 2, size=Size(100, 60), tile=Size(60, 60), overlap=8
    )
    (found,) = results(work)
    assert found.getcolors() == [(6000, (9, 9, 9))]


def test_what_cannot_be() -> None:
    engine = PixelsLoader().load(PIXELS, ImageSettings(), lambda _: None)
    with pytest.raises(Unsupported):
        engine.submit(JobId("1"), chat("hi"))
    for wrong in (
        JoinRequest(pictures=(b"",), size=Size(100, 60), tile=Size(60, 60), overlap=8),
        JoinRequest(pictures=(b"",), size=Size(100, 60), tile=Size(60, 60), overlap=60),
        SplitRequest(picture=b"", tile=Size(0, 60), overlap=8),
        GridRequest(pictures=(), columns=1),
        UpscaleRequest(model=BUILT_IN, pictures=(b"",), kernel="cubic"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidValue):
            engine.submit(JobId("1"), wrong)


def test_the_footprint_is_small() -> None:
    held = PixelsLoader().load(PIXELS, ImageSettings(), lambda _: None).facts.footprint.resident[RAM]
    assert 20 << 20 < held < 128 << 20


def test_torch_is_not_imported() -> None:
    code = (
        "import server.engines.image.upscaling.built_in, sys; sys.exit(bool({'torch', 'numpy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
