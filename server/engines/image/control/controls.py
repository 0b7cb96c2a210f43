"""All control units of one job, at the named points of its passes."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from PIL import Image

from server.core.errors import InvalidValue
from server.core.image import ControlUnit, ImageRequest, Size
from server.engines.image.annotators.shelf import Annotators
from server.engines.image.beginnings import Encoding, entry_of
from server.engines.image.control.eyes import Eyes
from server.engines.image.control.hints import Hint, hint_of, region_of
from server.engines.image.control.ip_adapter import IpAdapter, Looking
from server.engines.image.control.networks import Network
from server.engines.image.control.restoring import Restored, laid_into, open_cells
from server.engines.image.control.shelf import Shelf
from server.engines.image.control.steering import SOFT_WHEN_ENLARGED, Acting, Steering, Watching
from server.engines.image.denoise import Course, Entry, Points
from server.engines.image.pictures import from_image
from server.engines.image.placement import Placement
from server.engines.image.preprocess.modules import PICTURE
from server.engines.image.unet_call import UNetCall

logger = logging.getLogger(__name__)

CELL = 8
RESTORING = "inpaint_only"

MOST_MAP_BYTES = 32 * 1024 * 1024
"""Of all maps of a job, as files: what fits in one message. Those beyond are left out."""

Encode = Callable[[], Encoding]


@dataclass(frozen=True, kw_only=True)
class Control:
    """What jobs with control units need of the loaded checkpoint."""

    unet: UNetCall
    shelf: Shelf
    eyes: Eyes
    placement: Placement
    alphas: torch.Tensor
    annotators: Annotators

    def begin(self, request: ImageRequest, encode: Encode) -> "Controls":
        """Load the models of a job's units and make their maps. `encode` tells how pictures become latents.

        Raises:
            InvalidValue: a model cannot be used, or not with this checkpoint.
            BadImage: a picture is none.
            DoesNotFit: there is no room for a model.
        """
        networks = self.shelf.lend(request.control) if request.control else []
        units: list[_Unit] = []
        watching: list[Watching] = []
        for unit, network in zip(request.control, networks, strict=True):
            if isinstance(network, IpAdapter):
                watching += self._watching(unit, network, request)
            else:
                units.append(_Unit(unit, network, self._hint(unit, request)))
        return Controls(control=self, request=request, encode=encode, units=units, watching=watching)

    def _hint(self, unit: ControlUnit, request: ImageRequest) -> Hint:
        if unit.preprocessing.module == PICTURE or unit.more_images:
            told = f"the control model {unit.name!r} follows a map, and neither several pictures nor what one shows"
            raise InvalidValue.of("control", told)
        return hint_of(unit, request, self.annotators.draw)

    def _watching(self, unit: ControlUnit, adapter: IpAdapter, request: ImageRequest) -> list[Watching]:
        """Return the unit ready to act; none when its weight is 0."""
        if unit.preprocessing.module not in ("none", PICTURE) or unit.layer_weights:
            told = f"the control model {unit.name!r} looks at pictures: it takes no map and no weights of layers"
            raise InvalidValue.of("control", told)
        pairs = self.eyes.pairs(unit, adapter, request)
        return [Watching(unit=unit, looking=Looking(pairs=pairs, weight=unit.weight))] if unit.weight else []


@dataclass(frozen=True)
class _Unit:
    asked: ControlUnit
    network: Network
    hint: Hint

    @property
    def is_still(self) -> bool:
        """Tell whether the network's outputs count for nothing."""
        return self.asked.weight == 0 and not any(self.asked.layer_weights)


@dataclass(kw_only=True)
class Controls:
    """The units of a job. Passes come one after the other."""

    control: Control
    request: ImageRequest
    encode: Encode
    units: Sequence[_Unit]
    watching: Sequence[Watching] = ()
    _acting: dict[tuple[Size, bool], list[Acting]] = field(default_factory=dict, init=False)
    _restored: dict[Size, list[Restored]] = field(default_factory=dict, init=False)
    _last: Size = field(default=Size(0, 0), init=False)

    def joined(self, points: Points, course: Course, *, second: bool) -> Points:
        """Return the points of a pass with what the units do at them."""
        if not self.units and not self.watching:
            return points
        height, width = course.start.shape[-2:]
        self._last = Size(width * CELL, height * CELL)
        steering = Steering(
            self._acting_in(self._last, second=second),
            steps=self._steps(second=second),
            unet=self.control.unet,
            seats=self.control.placement.seats,
            watching=self._watching_in(self._last, second=second),
        )
        restoring = tuple(restored.around for restored in self._restored_in(self._last))
        return replace(
            points,
            around_model=(steering.around, *restoring, *points.around_model),
            after_step=(steering.after_step, *points.after_step),
        )

    def finished(self, image: Image.Image) -> Image.Image:
        """Return a decoded picture of the last pass with what units restore in it."""
        for unit in self.units:
            if unit.hint.module == RESTORING:
                image = laid_into(image, unit.hint.at(self._last))
        return image

    def maps(self) -> tuple[bytes, ...]:
        """Return the maps that are asked for as PNG: for each unit that of a second pass, then that of the first."""
        sizes = [Size(self.request.size.width // CELL * CELL, self.request.size.height // CELL * CELL)]
        hires = self.request.hires
        if hires is not None:
            sizes.insert(0, Size(hires.size.width // CELL * CELL, hires.size.height // CELL * CELL))
        files: list[bytes] = []
        for unit in self.units:
            made = [unit.hint.file(size) for size in sizes] if unit.asked.return_map else []
            if sum(map(len, (*files, *made))) > MOST_MAP_BYTES:
                logger.warning("the maps of control units are too large to be sent; some are left out")
                break
            files += made
        return tuple(files)

    def _steps(self, *, second: bool) -> int:
        """Return over how many steps shares are counted: those asked for, or those that a pass from latents makes."""
        request = self.request
        if second and request.hires is not None:
            return Entry(request.hires.strength).count(request.hires.denoise.steps)[1] + 1
        if request.init is not None:
            return entry_of(request.init).count(request.denoise.steps)[1] + 1
        return request.denoise.steps

    def _acting_in(self, size: Size, *, second: bool) -> list[Acting]:
        if (size, second) not in self._acting:
            self._acting[size, second] = [
                self._ready(unit, size, second=second)
                for unit in self.units
                if not unit.is_still and self._acts(unit.asked, second=second)
            ]
        return self._acting[size, second]

    def _watching_in(self, size: Size, *, second: bool) -> list[Watching]:
        found = []
        for one in self.watching:
            if self._acts(one.unit, second=second):
                region = region_of(one.unit, size)
                moved = None if region is None else region.to(self.control.placement.device)
                found.append(replace(one, looking=replace(one.looking, region=moved)))
        return found

    def _acts(self, unit: ControlUnit, *, second: bool) -> bool:
        return self.request.hires is None or unit.passes != ("first" if second else "second")

    def _ready(self, unit: _Unit, size: Size, *, second: bool) -> Acting:
        place = self.control.placement
        hint = unit.hint.tensor(size).to(place.device, place.precision.model)
        region = region_of(unit.asked, size)
        return Acting(
            unit=unit.asked,
            network=unit.network,
            hint=hint[:, : unit.network.channels],
            region=None if region is None else region.to(place.device),
            softened=second and unit.hint.module in SOFT_WHEN_ENLARGED,
        )

    def _restored_in(self, size: Size) -> list[Restored]:
        if size not in self._restored:
            found = [unit for unit in self.units if unit.hint.module == RESTORING]
            self._restored[size] = [self._old(unit, size) for unit in found]
        return self._restored[size]

    def _old(self, unit: _Unit, size: Size) -> Restored:
        encoding, pixels = self.encode(), unit.hint.at(size)
        picture = from_image(Image.fromarray(pixels[:, :, :3].copy()))
        return Restored(
            old=encoding.vae.encode(picture, encoding.noise).to(encoding.device)[None],
            open=open_cells(pixels[:, :, 3]).to(encoding.device),
            share=min(max(unit.asked.weight, 0.0), 1.0),
            alphas=self.control.alphas,
        )
