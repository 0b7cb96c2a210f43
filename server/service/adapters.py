"""Scales of text models' adapters that were set while the server runs; they hold for requests that name none."""

from collections.abc import Callable, Sequence

import msgspec

from server.core.adapters import chosen_set
from server.core.jobs import Work
from server.core.models import AdapterFacts, ModelId
from server.core.text import AdapterScale, ChatRequest, CompletionRequest


class AdapterScales:
    """Remembers by name what was set for each model, so that it holds when the model is loaded anew."""

    def __init__(self) -> None:
        self._set: dict[ModelId, dict[str, float]] = {}

    def set(self, model: ModelId, scales: Sequence[AdapterScale], listed: Sequence[AdapterFacts]) -> None:
        """Let these adapters of a model act on requests that name none, and no other.

        Raises:
            InvalidValue: the model has no such adapter, or it cannot be used.
        """
        self._set[model] = {listed[number].name: scale for number, scale in chosen_set(scales, listed)}

    def told(self, model: ModelId, listed: Sequence[AdapterFacts]) -> tuple[AdapterFacts, ...]:
        """Return the adapters of a model with the scales that hold."""
        scales = self._set.get(model)
        if scales is None:
            return tuple(listed)
        return tuple(msgspec.structs.replace(adapter, scale=scales.get(adapter.name, 0.0)) for adapter in listed)

    def into(self, work: Work, model: ModelId, listed: Callable[[], Sequence[AdapterFacts]]) -> Work:
        """Return the work, naming what was set for its model when it names no adapters itself.

        `listed` is asked for the model's adapters when that matters.
        """
        scales = self._set.get(model)
        if scales is None or not isinstance(work, ChatRequest | CompletionRequest) or work.adapters is not None:
            return work
        known = {adapter.name for adapter in listed() if adapter.problem is None}
        named = tuple(AdapterScale(adapter=name, scale=scale) for name, scale in scales.items() if name in known)
        return msgspec.structs.replace(work, adapters=named)
