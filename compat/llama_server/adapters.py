"""Adapters of text models: from the wire to the core, and the list of them back. Pure."""

from collections.abc import Sequence

from msgspec import UNSET

from compat.llama_server import wire
from server.core.models import AdapterFacts
from server.core.text import AdapterScale


def scales_to_core(scales: Sequence[wire.LoraScale], at: str = "lora") -> tuple[AdapterScale, ...]:
    """Return the adapters that act; `at` is the field that names them, empty when the body itself does."""
    return tuple(
        AdapterScale(adapter=item.id, scale=item.scale, param=f"{at}[{index}].id") for index, item in enumerate(scales)
    )


def request_to_core(request: wire.GenerationFields) -> tuple[AdapterScale, ...] | None:
    """Return the adapters that act on a request; None, as for an empty list, leaves it to what is set."""
    return scales_to_core(request.lora) if request.lora else None


def list_from_core(listed: Sequence[AdapterFacts]) -> list[wire.LoraAdapter]:
    """Return a model's adapters with the scales that hold for requests that name none."""
    return [
        wire.LoraAdapter(id=number, path=adapter.name, scale=adapter.scale, problem=adapter.problem or UNSET)
        for number, adapter in enumerate(listed)
    ]
