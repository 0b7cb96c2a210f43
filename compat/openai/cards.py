"""Models as `/v1/models` lists them, and which one answers when a request names none. Pure."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from compat.openai import models_wire
from server.core.errors import UnknownModel
from server.core.models import ModelCard, ModelKind
from server.service.service import ResidentView

LISTED = (ModelKind.TEXT, ModelKind.CHECKPOINT)

_STATUS = {"ready": "loaded", "loading": "loading"}
_IMAGE = models_wire.ModelArchitecture(input_modalities=("text", "image"), output_modalities=("image",))
_SEEING = models_wire.ModelArchitecture(input_modalities=("text", "image"), output_modalities=("text",))
_TEXT = models_wire.ModelArchitecture(input_modalities=("text",), output_modalities=("text",))
_VECTORS = models_wire.ModelArchitecture(input_modalities=("text",), output_modalities=("embeddings",))
_SCORES = models_wire.ModelArchitecture(input_modalities=("text",), output_modalities=("scores",))


class Role(StrEnum):
    """What a text model is asked for."""

    WRITER = "writer"
    EMBEDDER = "embedder"
    RERANKER = "reranker"


def role_of(card: ModelCard) -> Role:
    """Return what a model is made for: its header says how it pools, if it does."""
    pooling = card.text.pooling if card.text is not None else ""
    if pooling == "rank":
        return Role.RERANKER
    return Role.EMBEDDER if pooling else Role.WRITER


def suited(cards: Sequence[ModelCard], role: Role) -> Sequence[ModelCard]:
    """Return the models made for a role, or all when none is."""
    return [card for card in cards if card.broken is None and role_of(card) is role] or cards


def states(residents: Sequence[ResidentView]) -> dict[str, str]:
    """Return the status value of every model that is not simply unloaded."""
    return {view.model: _STATUS.get(view.state, "unloaded") for view in residents}


def entry(card: ModelCard, status: Mapping[str, str]) -> models_wire.Model:
    """Return a model's entry in the list."""
    return models_wire.Model(
        id=card.id,
        created=card.modified,
        aliases=card.aliases,
        meta=_meta(card),
        status=models_wire.ModelStatus(status.get(card.id, "unloaded")),
        architecture=_architecture(card),
    )


def _architecture(card: ModelCard) -> models_wire.ModelArchitecture:
    if card.kind is not ModelKind.TEXT:
        return _IMAGE
    match role_of(card):
        case Role.WRITER:
            return _SEEING if card.projector else _TEXT
        case Role.EMBEDDER:
            return _VECTORS
        case Role.RERANKER:
            return _SCORES


def _meta(card: ModelCard) -> models_wire.ModelMeta:
    facts = card.text
    if facts is None:
        return models_wire.ModelMeta(size=card.size)
    return models_wire.ModelMeta(
        size=card.size,
        n_ctx_train=facts.context_length,
        n_params=facts.parameters,
        n_vocab=facts.vocabulary,
        n_embd=facts.width,
        ftype=facts.quantisation,
    )


def default_model(wanted: str, cards: Sequence[ModelCard], residents: Sequence[ResidentView]) -> str:
    """Return the text model that answers a request without one.

    That is `wanted` if set, else the only one, else the loaded one that was used last, else the first by name.

    Raises:
        UnknownModel: there is no text model at all.
    """
    if wanted:
        return wanted
    usable = sorted((card for card in cards if card.broken is None), key=lambda card: card.name)
    if not usable:
        text = "the request names no model, and no text model is registered; put a GGUF file into the models folder"
        raise UnknownModel(text, model="", close=[])
    known = {card.id for card in usable}
    loaded = [view for view in residents if view.model in known and view.state in _STATUS]
    if loaded:
        return max(loaded, key=lambda view: view.last_used).model
    return usable[0].id
