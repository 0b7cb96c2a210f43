"""Which LoRA adapters act on a request, as a value. Pure."""

from collections.abc import Sequence
from math import isfinite

from server.core.errors import InvalidValue
from server.core.models import AdapterFacts
from server.core.text import AdapterScale

AdapterSet = tuple[tuple[int, float], ...]
"""The adapters that act, by their place in the model's list, ascending, each with its scale, which is never 0."""

NO_ADAPTERS: AdapterSet = ()

_SHOWN = 16


def chosen_set(asked: Sequence[AdapterScale] | None, listed: Sequence[AdapterFacts]) -> AdapterSet:
    """Return the adapters that act on a request; None = each with the scale that is set for it.

    Raises:
        InvalidValue: the model has no such adapter, or it cannot be used, or a scale is no number.
    """
    if asked is None:
        return tuple((number, adapter.scale) for number, adapter in enumerate(listed) if _acts(adapter))
    scales: dict[int, float] = {}
    for item in asked:
        number = _place(item, listed)
        problem = listed[number].problem
        if problem is not None and item.scale:
            raise InvalidValue.of(item.param, f"the adapter {listed[number].name!r} cannot be used: {problem}")
        if not isfinite(item.scale):
            raise InvalidValue.of(item.param, "the scale of an adapter must be a finite number")
        scales[number] = item.scale
    return tuple(sorted((number, scale) for number, scale in scales.items() if scale))


def _acts(adapter: AdapterFacts) -> bool:
    return adapter.problem is None and adapter.scale != 0


def _place(item: AdapterScale, listed: Sequence[AdapterFacts]) -> int:
    if isinstance(item.adapter, int):
        if 0 <= item.adapter < len(listed):
            return item.adapter
        raise InvalidValue.of(item.param, f"there is no adapter {item.adapter}: {_known(listed)}")
    wanted = item.adapter.casefold()
    exact = [number for number, adapter in enumerate(listed) if adapter.name == item.adapter]
    found = exact or [number for number, adapter in enumerate(listed) if adapter.name.casefold() == wanted]
    if len(found) == 1:
        return found[0]
    shown = item.adapter[:80]
    if found:
        raise InvalidValue.of(item.param, f"more than one adapter is named {shown!r}; give its number")
    raise InvalidValue.of(item.param, f"there is no adapter named {shown!r}: {_known(listed)}")


def _known(listed: Sequence[AdapterFacts]) -> str:
    if not listed:
        return "the model has no adapters"
    names = ", ".join(f"{number} ({adapter.name})" for number, adapter in enumerate(listed[:_SHOWN]))
    return f"the model has {names}{', ...' if len(listed) > _SHOWN else ''}"
