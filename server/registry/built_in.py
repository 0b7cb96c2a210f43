"""The model that is always there: it works on finished pixels and has no file, so no catalog lists it."""

from server.core.models import ModelCard, ModelId, ModelKind, Runtime
from server.core.pixels import BUILT_IN

PIXELS = ModelCard(
    id=ModelId(BUILT_IN),
    name="pixels",
    kind=ModelKind.UPSCALER,
    files=(),
    runtime=Runtime.PIXELS,
    architecture="filters",
)
"""Filters, grids and tiles. It is loaded, counted and evicted like any other model."""
