"""Requests for maps and poses alone, without a picture being made."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from server.core.errors import InvalidValue
from server.core.pixels import MapRequest, PoseRequest
from server.engines.image.preprocess import modules, pose
from server.engines.image.preprocess.resampling import scaled_sides
from server.engines.input_pictures import decoded, flattened

MOST_PICTURES = 64
WHITE = (255, 255, 255)


def check(work: MapRequest | PoseRequest) -> None:
    """Raise InvalidValue for a request that no pictures can make right."""
    count = len(work.pictures if isinstance(work, MapRequest) else work.poses)
    if not 1 <= count <= MOST_PICTURES:
        raise InvalidValue.of("pictures", f"there must be 1 ... {MOST_PICTURES} of them")
    if isinstance(work, MapRequest):
        modules.check(work.preprocessing)
        if len(work.masks) not in (0, count):
            raise InvalidValue.of("masks", "there must be a mask for each picture, or none")


def images_of(work: MapRequest | PoseRequest) -> list[Image.Image]:
    """Return the pictures.

    Raises:
        BadImage, InvalidValue: a file is no picture, or no pose.
    """
    if isinstance(work, PoseRequest):
        return [pose.drawn(data) for data in work.poses]
    return list(maps(work))


def maps(work: MapRequest, by_network: modules.Module | None = None) -> Iterator[Image.Image]:
    """Yield the map of each picture; raise as `images_of`."""
    masks = work.masks or (None,) * len(work.pictures)
    for picture, mask in zip(work.pictures, masks, strict=True):
        image = flattened(decoded(picture, "pictures"), WHITE)
        scaled_sides(*image.size, 1.0)
        marked = None
        if mask is not None:
            plane = flattened(decoded(mask, "masks"), WHITE).getchannel(0)
            marked = np.asarray(plane if plane.size == image.size else plane.resize(image.size))
        yield modules.shown(modules.map_of(np.asarray(image), marked, work.preprocessing, by_network))
