"""Control units in one pass of the denoise loop: when they act, and what they add to the UNet's tensors.

A unit acts in calls at a share of the pass between its start and its end. The share is the step over all steps, by the
counter of the original: it is set after a step's first call, so that a first call still finds the step before.

| call | in a pass of 4 steps | share |
|---|---|---|
| 1st of step 0, 1st of step 1 | 0, 0 | 0 |
| 1st of step 2 | 1 | 0.25 |
| 1st of step 3 | 2 | 0.5 |
| 2nd of step 3 | 3 | 0.75 |
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from server.core.image import ControlUnit
from server.engines.image.control.ip_adapter import Looking
from server.engines.image.control.networks import Network
from server.engines.image.guidance import Eps
from server.engines.image.offload import Seats
from server.engines.image.samplers import Model, Step
from server.engines.image.unet_call import Additions, UNetCall, UNetInputs

SOFT_WHEN_ENLARGED = ("canny", "mlsd")
"""Modules whose units are softened in a second pass: their lines leave artefacts there."""


@dataclass(frozen=True, kw_only=True)
class Acting:
    """A unit in one pass: `hint` is [1, channels, H, W] and `region` [1, 1, H, W] or None, on the UNet's device."""

    unit: ControlUnit
    network: Network
    hint: torch.Tensor
    region: torch.Tensor | None = None
    softened: bool = False

    def acts_at(self, share: float) -> bool:
        """Tell whether the unit acts at that share of the pass."""
        return self.unit.start <= share <= self.unit.end

    def outputs(self, call: UNetInputs) -> list[torch.Tensor]:
        """Return what the unit adds, weighted."""
        found = self.network.outputs(call, self.hint)
        if (self.unit.mode == "control" or self.network.is_pooled) and call.prompted is not None:
            mark = call.prompted.to(found[0])[:, None, None, None]
            found = [each * mark for each in found]
        found = [each * weight for each, weight in zip(found, self._weights(len(found)), strict=False)]
        if self.network.is_pooled:
            found = [each.mean(dim=(2, 3), keepdim=True).expand_as(each) for each in found]
        return found if self.region is None else [each * _fitting(self.region, each) for each in found]

    def _weights(self, count: int) -> list[float]:
        if self.unit.layer_weights:
            return [*self.unit.layer_weights, *[0.0] * count][:count]
        soft = self.softened or self.unit.mode != "balanced"
        factors = self.network.softness(count) if soft else [1.0] * count
        return [self.unit.weight * factor for factor in factors]


@dataclass(frozen=True, kw_only=True)
class Watching:
    """A unit whose picture the UNet's attentions look at."""

    unit: ControlUnit
    looking: Looking

    def acts_at(self, share: float) -> bool:
        """Tell whether the unit acts at that share of the pass."""
        return self.unit.start <= share <= self.unit.end


class Steering:
    """The units of one pass. `around` and `after_step` are for the named points of the denoise loop."""

    def __init__(
        self,
        units: Sequence[Acting],
        *,
        steps: int,
        unet: UNetCall,
        seats: Seats,
        watching: Sequence[Watching] = (),
    ) -> None:
        self._units = units
        self._watching = watching
        self._steps = max(steps, 1)
        self._unet = unet
        self._seats = seats
        self._finished = 0
        self._calls = 0

    def around(self, model: Model) -> Model:
        """Return the model with units acting in each of its calls."""
        return _Steered(model, self)

    def after_step(self, step: Step) -> None:
        """Count a step."""
        self._finished, self._calls = step.index + 1, 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call of the model, during which the UNet is given what the units add."""
        counted = self._finished if self._calls else max(self._finished - 1, 0)
        self._calls += 1
        share = counted / self._steps
        acting = [unit for unit in self._units if unit.acts_at(share)]
        watching = [unit for unit in self._watching if unit.acts_at(share)]
        with self._unet.steered(partial(self._additions, acting, watching)):
            yield

    def _additions(self, units: Sequence[Acting], watching: Sequence[Watching], call: UNetInputs) -> Additions | None:
        down: list[torch.Tensor] = []
        inside: list[torch.Tensor] = []
        for unit in units:
            self._seats.take(unit.network.module)
            with torch.no_grad():
                found = unit.outputs(call)
            if unit.network.kind == "controlnet":
                down = _sum(down, found)
            else:
                inside = _sum(inside, found)
        height, width = call.inputs.shape[-2:]
        around = tuple(partial(unit.looking.acting, prompted=call.prompted, cells=(height, width)) for unit in watching)
        if not down and not inside and not around:
            return None
        return Additions(down=tuple(down[:-1]), middle=down[-1] if down else None, inside=tuple(inside), around=around)


class _Steered:
    def __init__(self, model: Model, steering: Steering) -> None:
        self._model = model
        self._steering = steering

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        with self._steering.call():
            return self._model(x, sigma)

    def eps(self, x: torch.Tensor, t: float) -> Eps:
        with self._steering.call():
            return self._model.eps(x, t)


def _sum(total: list[torch.Tensor], found: list[torch.Tensor]) -> list[torch.Tensor]:
    return [one + other for one, other in zip(total, found, strict=True)] if total else found


def _fitting(region: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(region, size=output.shape[-2:], mode="bilinear").to(output)
