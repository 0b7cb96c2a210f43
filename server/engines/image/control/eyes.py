"""What image encoders say of pictures. An encoder is loaded when a picture is new, and is gone before the job goes on.

The last answers are kept: people make many pictures after one, and an encoder is as large as a UNet.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch

from server.core.errors import InvalidValue
from server.core.image import ControlUnit, ImageRequest
from server.core.memory import readable
from server.engines.image.control import vision
from server.engines.image.control.ip_adapter import IpAdapter, Pair
from server.engines.image.control.networks import opened, size_of
from server.engines.image.control.shelf import check_room
from server.engines.image.control.sources import PARAM, WHITE
from server.engines.image.control.vision import Sight
from server.engines.image.placement import Placement, release
from server.engines.input_pictures import decoded, flattened

logger = logging.getLogger(__name__)

MOST_KEPT = 32
"""Answers; one of a large encoder takes about 1 MiB."""

BLANK = b""
"""Stands for the picture of nothing: all of its levels are nought once they are prepared."""

Key = tuple[str, int, str]
"""The encoder's path and time of the last change, and the picture's digest."""


class Eyes:
    """Owns the answers. One for each loaded checkpoint."""

    def __init__(self, place: Placement, *, allow_pickle: bool) -> None:
        self._place = place
        self._allow_pickle = allow_pickle
        self._kept: OrderedDict[Key, Sight] = OrderedDict()

    def pairs(self, unit: ControlUnit, adapter: IpAdapter, request: ImageRequest) -> list[Pair]:
        """Return keys and values for the UNet's attentions, on its device.

        Raises:
            BadImage: a file is no picture.
            InvalidValue: no encoder fits the adapter, or its file cannot be used.
            DoesNotFit: there is no room for the encoder.
        """
        files = [unit.image, *unit.more_images] if unit.image is not None else []
        if not files and request.init is not None:
            files = [request.init.images[0]]
        *sights, blank = self._sights(self._encoder(unit, adapter), [file for file in files if file] + [BLANK])
        blank = Sight(torch.zeros_like(blank.pooled), blank.tokens)
        self._place.seats.take(adapter)
        device, dtype = self._place.device, self._place.precision.model
        there = [Sight(one.pooled.to(device, dtype), one.tokens.to(device, dtype)) for one in (*sights, blank)]
        return adapter.pairs(there[:-1], there[-1])

    def clear(self) -> None:
        """Forget all answers."""
        self._kept.clear()

    def _encoder(self, unit: ControlUnit, adapter: IpAdapter) -> Path:
        """Return the file of the encoder that the adapter was trained with."""
        for path in map(Path, unit.encoders):
            with opened(path, path.name, allow_pickle=self._allow_pickle) as tensors:
                if adapter.tokens.fits(vision.read(tensors.shapes)):
                    return path
        raise InvalidValue.of("control", f"the control model {unit.name!r} needs an image encoder that is not there")

    def _sights(self, path: Path, files: Sequence[bytes]) -> list[Sight]:
        changed = path.stat().st_mtime_ns
        keys = [(str(path), changed, hashlib.sha256(file).hexdigest()) for file in files]
        missing = {key: file for key, file in zip(keys, files, strict=True) if key not in self._kept}
        found = self._looked(path, missing) if missing else {}
        sights = [found[key] if key in found else self._kept[key] for key in keys]
        for key, sight in zip(keys, sights, strict=True):
            self._kept[key] = sight
            self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return sights

    def _looked(self, path: Path, files: dict[Key, bytes]) -> dict[Key, Sight]:
        place = self._place
        images = {key: flattened(decoded(file, PARAM), WHITE) if file else None for key, file in files.items()}
        with opened(path, path.name, allow_pickle=self._allow_pickle) as tensors:
            side = vision.read(tensors.shapes).side
            needed = size_of(tensors.shapes, place.precision.model)
            check_room(place, path.name, needed)
            model = vision.build(tensors, place.precision.model)
        logger.info("image encoder %s loaded, %s", path.name, readable(needed))
        place.seats.admit([model])
        place.seats.take(model)
        found: dict[Key, Sight] = {}
        for key, image in images.items():
            picture = torch.zeros(1, 3, side, side) if image is None else vision.prepared(image, side)
            sight = vision.seen(model, picture.to(place.device, place.precision.model))
            found[key] = Sight(sight.pooled.cpu(), sight.tokens.cpu())
        place.seats.forget(model)
        del model
        release(place)
        return found
