import pytest
from PIL import Image

from server.core.errors import BadImage, InvalidValue, OutOfMemory
from server.core.image import FileFormat, ImageFinished, ImageReady, ImageStarted, Size, StepDone
from server.core.jobs import CancelMode, Event
from server.core.pixels import BUILT_IN, UpscaleRequest
from server.engines.base import JobControl
from server.engines.image import files
from server.engines.image.enlarging import filter_named
from server.engines.image.upscaling import job
from server.engines.input_pictures import MOST_PIXELS
from tests.server.engines.image.test_enlarging import Times
from tests.support.picture_files import file_of, image_in


def request(*images: Image.Image, **fields: object) -> UpscaleRequest:
    pictures = tuple(file_of(image) for image in images or (Image.new("RGB", (64, 48), (200, 40, 10)),))
    return UpscaleRequest(**{"model": BUILT_IN, "pictures": pictures} | fields)  # type: ignore[arg-type]


def events(work: UpscaleRequest, kernel: str = "lanczos") -> list[Event]:
    job.check(work)
    return list(job.run(work, filter_named(kernel), JobControl()))


def made(work: UpscaleRequest, kernel: str = "lanczos") -> list[Image.Image]:
    return [image_in(event.png) for event in events(work, kernel) if isinstance(event, ImageReady)]


def test_the_life_of_a_job() -> None:
    found = events(request(Image.new("RGB", (8, 8)), Image.new("RGB", (16, 8))))
    assert [type(event) for event in found] == [ImageStarted, *[StepDone, ImageReady] * 2, ImageFinished]
    sizes = [(event.width, event.height) for event in found if isinstance(event, ImageReady)]
    assert sizes == [(16, 16), (32, 16)]
    assert [event.pass_index for event in found if isinstance(event, StepDone)] == [0, 1]


def test_steps_are_pieces() -> None:
    found = list(job.run(request(factor=6.0), Times(4), JobControl()))
    assert [(one.step, one.steps) for one in found if isinstance(one, StepDone)] == [(k, 6) for k in range(1, 7)]


def test_to_cover_a_size_and_to_cut_it_out() -> None:
    assert [image.size for image in made(request(size=Size(128, 128)))] == [(168, 128)]
    (cut,) = made(request(size=Size(128, 128), crop=True))
    assert (cut.size, cut.mode) == ((128, 128), "RGB")


def test_a_size_that_rounding_falls_short_of_is_black_at_the_edges() -> None:
    (cut,) = made(request(size=Size(130, 130), crop=True))
    assert cut.getpixel((0, 65)) != (0, 0, 0)
    assert cut.getpixel((65, 0)) == (0, 0, 0), "the picture is 168x128"


def test_no_enlarger_leaves_pictures_alone() -> None:
    (same,) = made(request(factor=3.0), "none")
    assert same.size == (64, 48)


def test_transparency_stays_and_other_modes_become_rgb() -> None:
    modes = [image.mode for image in made(request(*(Image.new(mode, (8, 8)) for mode in ("RGBA", "L", "P", "RGB"))))]
    assert modes == ["RGBA", "RGB", "RGB", "RGB"]


def test_laid_over_another_result() -> None:
    below = Image.new("RGB", (128, 96), (0, 0, 0))
    (half,) = made(request(under=(file_of(below),), visibility=0.5))
    assert half.getpixel((60, 40)) == (100, 20, 5)
    with pytest.raises(BadImage):
        made(request(under=(file_of(Image.new("RGB", (8, 8))),), visibility=0.5))


@pytest.mark.parametrize(
    "fields",
    [
        {"pictures": ()},
        {"factor": 0.0},
        {"factor": float("nan")},
        {"factor": 1e9},
        {"size": Size(0, 8)},
        {"size": Size(30_000, 30_000)},
        {"visibility": 1.5},
        {"under": (b"x", b"y")},
        {"tile": 8, "overlap": 8},
        {"tile": -1},
    ],
)
def test_bounds(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidValue):
        job.check(request(**fields))


def test_results_that_are_too_large() -> None:
    with pytest.raises(InvalidValue, match="larger than what is made"):
        made(request(Image.new("RGB", (4000, 4000)), factor=8.0))


def test_results_that_cannot_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    with pytest.raises(InvalidValue, match="more than 100 bytes"):
        made(request())


def test_what_is_no_picture() -> None:
    with pytest.raises(BadImage):
        made(request(pictures=(b"nothing",)))


def test_stop_ends_between_pieces() -> None:
    control = JobControl()
    running = job.run(request(Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8)), factor=6.0), Times(4), control)
    seen = []
    for event in running:
        seen.append(event)
        if isinstance(event, StepDone) and event.pass_index == 1:
            control.ask(CancelMode.STOP)
    assert sum(isinstance(event, ImageReady) for event in seen) == 1
    assert seen[-1] == ImageFinished(reason="stopped")


def test_skip_leaves_one_picture_out() -> None:
    control = JobControl()
    seen = []
    for event in job.run(request(Image.new("RGB", (8, 8)), Image.new("RGB", (16, 8))), Times(2), control):
        seen.append(event)
        if isinstance(event, StepDone) and event.pass_index == 0 and event.step == 1:
            control.ask(CancelMode.SKIP)
    assert [event.index for event in seen if isinstance(event, ImageReady)] == [1]
    assert seen[-1] == ImageFinished(reason="complete")


@pytest.mark.parametrize(("form", "name"), [(FileFormat(kind="jpeg"), "JPEG"), (FileFormat(kind="webp"), "WEBP")])
def test_results_are_written_as_asked_for(form: FileFormat, name: str) -> None:
    (picture,) = (one for one in events(request(file=form), "none") if isinstance(one, ImageReady))
    assert picture.png == b"" and picture.data == picture.file
    assert (image_in(picture.file).format, image_in(picture.file).size) == (name, (64, 48))


def test_a_quality_that_is_none() -> None:
    with pytest.raises(InvalidValue) as caught:
        job.check(request(file=FileFormat(kind="jpeg", quality=0)))
    assert caught.value.fact("param") == "quality"


def test_a_picture_beyond_what_memory_is_held_for_needs_free_memory() -> None:
    large = MOST_PIXELS + 1
    job.check_room(MOST_PIXELS, 0)
    job.check_room(large, None)
    job.check_room(large, large * job.BYTES_A_PIXEL)
    with pytest.raises(OutOfMemory, match="MiB are free"):
        job.check_room(large, large * job.BYTES_A_PIXEL - 1)


def test_the_most_pixels_are_what_was_set() -> None:
    work = request(Image.new("RGB", (64, 64)), factor=2.0)
    assert any(isinstance(event, ImageReady) for event in job.run(work, Times(2), JobControl(), 128 * 128))
    with pytest.raises(InvalidValue, match="larger than what is made"):
        list(job.run(work, Times(2), JobControl(), 128 * 128 - 1))
