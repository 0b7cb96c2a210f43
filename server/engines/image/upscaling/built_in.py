"""The engine that is always there: filters, grids, tiles, room around pictures, in a process that never loads torch."""

from collections.abc import Iterator

from PIL import Image

from server.core.errors import InvalidValue, Unsupported
from server.core.image import ImageFinished, ImageStarted, StepDone
from server.core.jobs import Event, Work
from server.core.memory import MIB, RAM, Footprint
from server.core.models import LARGEST_RESULT, ImageSettings, LoadedFacts, LoadSettings, ModelCard
from server.core.pixels import (
    FrameRequest,
    GridRequest,
    GrowRequest,
    JoinRequest,
    LayRequest,
    MapRequest,
    PoseRequest,
    SplitRequest,
    UpscaleRequest,
)
from server.engines.base import JobControl, OneAtATime, Report
from server.engines.image.enlarging import PIXEL_FILTERS, filter_named
from server.engines.image.upscaling import grids, job
from server.engines.image.upscaling.tiles import Layout, joined, layout, split
from server.engines.input_pictures import decoded, opened

PROCESS = 64 * MIB
"""Python and Pillow; 21 MiB as imported, and NumPy comes in with some of the work."""

WORKING = 384 * MIB
"""A picture of 64 million pixels, what it is made from, and its file."""


class PixelsLoader:
    """Starts the engine; there is nothing to load."""

    def load(self, card: ModelCard, settings: LoadSettings, report: Report) -> "PixelsEngine":
        """Return the engine."""
        report(1.0)
        return PixelsEngine(settings.largest_result if isinstance(settings, ImageSettings) else LARGEST_RESULT)


class PixelsEngine(OneAtATime):
    """Works on pictures that come with each request. `most` is how many pixels an enlarged one may have."""

    def __init__(self, most: int = LARGEST_RESULT) -> None:
        super().__init__()
        self._most = most
        self.facts = LoadedFacts(slots=1, footprint=Footprint(resident={RAM: PROCESS}, working={RAM: WORKING}))

    def check(self, work: Work) -> None:
        """Raise Unsupported or InvalidValue for a request that cannot be run as it is."""
        match work:
            case UpscaleRequest():
                job.check(work)
                if work.kernel not in PIXEL_FILTERS:
                    raise InvalidValue.of("kernel", f"no filter is called {work.kernel!r}")
            case GridRequest():
                grids.check(work)
            case SplitRequest():
                job.check_size(work.tile)
            case JoinRequest():
                job.check_size(work.size)
                job.check_size(work.tile)
                if _of(work).count != len(work.pictures):
                    raise InvalidValue.of("pictures", f"{len(work.pictures)} tiles, there must be {_of(work).count}")
            case MapRequest() | PoseRequest():
                from server.engines.image.preprocess import requests  # numpy: only where it is needed

                requests.check(work)
            case GrowRequest() | FrameRequest() | LayRequest():
                from server.engines.image.outpainting import rooms  # numpy again

                rooms.check(work)
            case _:
                raise Unsupported.of("model", "this model works on finished pictures and makes none")

    def run(self, work: Work, control: JobControl) -> Iterator[Event]:
        """Yield the events of one job."""
        match work:
            case UpscaleRequest():
                yield from job.run(work, filter_named(work.kernel), control, self._most)
                return
            case GridRequest():
                images = [grids.grid(work)]
            case SplitRequest():
                picture = decoded(work.picture, "picture").convert("RGB")
                images = split(picture, layout(picture.size, (work.tile.width, work.tile.height), work.overlap))
            case JoinRequest():
                images = [joined(_sized(work), _of(work), middle=False)]
            case MapRequest() | PoseRequest():
                from server.engines.image.preprocess import requests

                images = requests.images_of(work)
            case GrowRequest() | FrameRequest() | LayRequest():
                from server.engines.image.outpainting import rooms

                images = rooms.images_of(work)
            case _:
                raise Unsupported.of("model", "this model works on finished pictures and makes none")
        yield ImageStarted(passes=1, steps=1)
        yield StepDone(pass_index=0, step=1, steps=1)
        for index, image in enumerate(images):
            yield job.ready(index, image)
        yield ImageFinished(reason="complete")


def _of(work: JoinRequest) -> Layout:
    return layout((work.size.width, work.size.height), (work.tile.width, work.tile.height), work.overlap)


def _sized(work: JoinRequest) -> list[Image.Image]:
    """Return the tiles, each at its size: makers of pictures round sides."""
    size = _of(work).tile
    images = (image.convert("RGB") for image in opened(work.pictures, "pictures"))
    return [image if image.size == size else image.resize(size) for image in images]
