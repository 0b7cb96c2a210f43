"""Which network draws for which module, and the last one that did."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from server.core.errors import InvalidValue, LoadFailed
from server.core.image import Preprocessing
from server.core.memory import RAM
from server.engines.image.annotators.anime_lines import AnimeLines
from server.engines.image.annotators.base import Annotator
from server.engines.image.annotators.body_pose import BodyPose
from server.engines.image.annotators.depth import Depth
from server.engines.image.annotators.hed import Hed
from server.engines.image.annotators.sketch import Sketch
from server.engines.image.placement import Placement, memory_errors, release
from server.engines.image.preprocess.resampling import Pixels

Load = Callable[..., Annotator]

KINDS: Mapping[str, Load] = MappingProxyType(
    {
        **dict.fromkeys(("hed", "hed_safe", "scribble_hed"), Hed.load),
        **dict.fromkeys(("lineart", "lineart_coarse"), Sketch.load),
        "lineart_anime": AnimeLines.load,
        **dict.fromkeys(("depth", "depth_zoe", "depth_anything", "depth_anything_v2"), Depth.load),
        "openpose": BodyPose.load,
    }
)
"""By module: what reads its file."""


class Annotators:
    """Opens a network when a map asks for it and keeps the last one, in RAM while it does nothing."""

    def __init__(self, place: Placement, *, allow_pickle: bool) -> None:
        self._place = place
        self._allow_pickle = allow_pickle
        self._last: tuple[Load, str, Annotator] | None = None

    def lend(self, module: str, path: str) -> Annotator:
        """Return the network of a module.

        Raises:
            InvalidValue: the module has none, or the file does not hold it.
        """
        load = KINDS.get(module)
        if load is None:
            raise InvalidValue.of("module", f"no network is known for the module {module!r}")
        if self._last is None or self._last[:2] != (load, path):
            self._last = None
            try:
                self._last = load, path, load(Path(path), allow_pickle=self._allow_pickle)
            except LoadFailed as error:
                raise InvalidValue.of("module", error.message) from error
        return self._last[2]

    def draw(self, pixels: Pixels, asked: Preprocessing) -> Pixels:
        """Return the map of a picture [height, width, 3]; raise as `lend`, or OutOfMemory."""
        found = self.lend(asked.module, asked.file)
        with memory_errors(self._place):
            found.network.to(self._place.device)
            try:
                return found.draw(pixels, asked)
            finally:
                if self._place.pool != RAM:
                    found.network.to("cpu")
                    release(self._place)

    def clear(self) -> None:
        """Forget the network."""
        self._last = None
