"""Which checkpoint makes a picture. Clients of the hosted service send its models' names, some of them fixed ones."""

from server.core.errors import InvalidValue, UnknownModel
from server.core.models import ModelCard, ModelKind
from server.service.service import Service

HOSTED = ("gpt-image-", "chatgpt-image-", "dall-e-")
"""How the names of hosted models begin. They stand for the default checkpoint unless an alias of that name is set."""


def checkpoint_of(service: Service, name: str | None, default: str = "") -> ModelCard:
    """Return the checkpoint that a request names, else the default one.

    That is `default` if set, else the loaded one that was used last, else the first by name.

    Raises:
        UnknownModel: there is none of that name, or none at all.
        InvalidValue: it is a model of another kind.
    """
    if name:
        found = _named(service, name)
        if found is not None:
            return found
    if default:
        return service.find(default, ModelKind.CHECKPOINT)
    cards = {card.id: card for card in service.models(ModelKind.CHECKPOINT) if card.broken is None}
    if not cards:
        text = "no checkpoint is registered that could make pictures; put one into the folder Stable-diffusion"
        raise UnknownModel(text, model=name or "", close=[])
    loaded = [view for view in service.memory().residents if view.model in cards and view.state == "ready"]
    if loaded:
        return cards[max(loaded, key=lambda view: view.last_used).model]
    return min(cards.values(), key=lambda card: card.name)


def _named(service: Service, name: str) -> ModelCard | None:
    """Return the card of that name, None for a hosted model's."""
    try:
        return service.find(name, ModelKind.CHECKPOINT)
    except UnknownModel:
        if name.startswith(HOSTED):
            return None
        other = _other_kind(service, name)
        if other is None:
            raise
    text = f"model {name!r} is a {other.kind} model; this request needs a checkpoint"
    raise InvalidValue.of("model", text)


def _other_kind(service: Service, name: str) -> ModelCard | None:
    try:
        return service.find(name)
    except UnknownModel:
        return None
