"""Which LoRA adapters a text model is loaded with. Pure but for what is handed in."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath

from server.core.models import Adapter, ModelCard
from server.core.text_settings import MOST_ADAPTERS

FOLDER = "lora"

Find = Callable[[str], ModelCard | None]
"""Returns the card of the adapter that has this name."""


def chosen_adapters(wanted: Sequence[str | Adapter], find: Find) -> tuple[Adapter, ...]:
    """Return the adapters that the configuration names, each with its file; empty where there is none."""
    return tuple(_with_file(Adapter(name=item) if isinstance(item, str) else item, find) for item in wanted)


def _with_file(adapter: Adapter, find: Find) -> Adapter:
    if adapter.file:
        return adapter
    card = find(adapter.name)
    if card is None:
        problem = "no adapter of that name lies among the text models"
        return Adapter(name=adapter.name, scale=adapter.scale, problem=problem)
    return Adapter(name=card.id, scale=adapter.scale, file=card.files[0], problem=card.broken or "")


def fitting_adapters(card: ModelCard, adapters: Iterable[ModelCard]) -> tuple[Adapter, ...]:
    """Return the adapters that lie where those of a model are looked for and that fit it, as far as headers tell.

    They lie in the model's folder or in `lora/` in it or above it. They are at hand for requests; none acts by itself.
    """
    if card.text is None or card.text.pooling:
        return ()
    places = _places(card)
    fitting = [
        Adapter(name=adapter.id, file=adapter.files[0])
        for adapter in adapters
        if adapter.broken is None and _place(adapter) in places and _fits(card, adapter)
    ]
    return tuple(fitting[:MOST_ADAPTERS])


def _place(adapter: ModelCard) -> PurePath:
    folder = PurePath(adapter.files[0]).parent
    return folder.parent / FOLDER if folder.name.casefold() == FOLDER else folder


def _places(card: ModelCard) -> set[PurePath]:
    """Return the folders whose adapters are a model's: its own, and `lora` in each up to where names begin."""
    depth = len(PurePath(card.name).parts)
    folders = list(PurePath(card.files[0]).parents)[:depth]
    return {folders[0], *(folder / FOLDER for folder in folders)}


def _fits(card: ModelCard, adapter: ModelCard) -> bool:
    if card.text is None or adapter.text is None or adapter.architecture != card.architecture:
        return False
    return adapter.text.width in (0, card.text.width) and adapter.text.layers <= card.text.layers
