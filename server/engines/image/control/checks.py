"""Is what a request says of its control units within bounds? Pictures are looked at in the running job."""

import math

from server.core.errors import InvalidValue
from server.core.image import ControlUnit, ImageRequest
from server.engines.image.preprocess import modules

MOST_UNITS = 10
MOST_WEIGHT = 16.0
MOST_LAYERS = 32


def check_control(request: ImageRequest) -> None:
    """Raise InvalidValue for units that no picture can make right."""
    if len(request.control) > MOST_UNITS:
        raise InvalidValue.of("control", f"there are {len(request.control)} control units, {MOST_UNITS} is the most")
    for unit in request.control:
        if unit.image is None and request.init is None:
            raise InvalidValue.of("control", "a control unit needs a picture")
        modules.check(unit.preprocessing)
        _check_numbers(unit)


def _check_numbers(unit: ControlUnit) -> None:
    weights = (unit.weight, *unit.layer_weights)
    if not all(math.isfinite(weight) and abs(weight) <= MOST_WEIGHT for weight in weights):
        raise InvalidValue.of("weight", f"weights of a control unit are at most {MOST_WEIGHT:g}")
    if len(unit.layer_weights) > MOST_LAYERS:
        raise InvalidValue.of("layer_weights", f"there are {MOST_LAYERS} layers at most")
    if not 0 <= unit.start <= unit.end <= 1:
        raise InvalidValue.of("start", "a control unit acts between two shares of the steps, 0 ... 1, in order")
