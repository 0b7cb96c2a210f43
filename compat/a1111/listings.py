"""The lists that clients fill their menus with, from cards, settings and A1111's tables.

Differences that are meant: upscalers and Real-ESRGAN models are those whose files are there, so `model_path` names no
download addresses; there are no face restorers; scripts are those that work here.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from compat.a1111 import names, wire
from compat.a1111.checkpoints import model_name, short_hash, title
from compat.a1111.networks import embedding_name, lora_alias
from compat.a1111.styles import Style
from compat.a1111.upscalers import CLASS_NAMES, REALESRGAN, Upscaler
from server.core.memory import RAM
from server.core.models import ModelCard
from server.service.service import MemoryView, ResidentView


def checkpoints(cards: Iterable[ModelCard]) -> list[wire.ModelItem]:
    """Return `sd-models`."""
    return [
        wire.ModelItem(
            title=title(card),
            model_name=model_name(card),
            hash=short_hash(card),
            sha256=card.sha256,
            filename=card.files[0],
            config=_config(card),
        )
        for card in cards
    ]


def samplers() -> list[wire.SamplerItem]:
    """Return `samplers`."""
    return [wire.SamplerItem(name=one.name, aliases=list(one.aliases), options=one.options) for one in names.SAMPLERS]


def schedulers() -> list[wire.SchedulerItem]:
    """Return `schedulers`."""
    return [
        wire.SchedulerItem(
            name=one.name,
            label=one.label,
            aliases=None if one.aliases is None else list(one.aliases),
            default_rho=one.default_rho,
            need_inner_model=one.need_inner_model,
        )
        for one in names.SCHEDULES
    ]


def upscalers(known: Iterable[Upscaler]) -> list[wire.UpscalerItem]:
    """Return `upscalers`: None first, as clients count on."""
    return [
        wire.UpscalerItem(
            name=one.name,
            model_name=CLASS_NAMES.get(one.folder),
            model_path=None if one.card is None else one.card.files[0],
            scale=one.scale,
        )
        for one in known
    ]


def realesrgan_models(known: Iterable[Upscaler]) -> list[wire.ScaledModelItem]:
    """Return `realesrgan-models`: the files of Real-ESRGAN's releases that are there."""
    return [
        wire.ScaledModelItem(name=one.name, path=one.card.files[0], scale=int(one.scale))
        for one in known
        if one.card is not None and one.card.stem in REALESRGAN
    ]


def latent_upscalers() -> list[wire.NameItem]:
    """Return `latent-upscale-modes`."""
    return [wire.NameItem(name=name) for name in names.LATENT_UPSCALERS]


def vaes(cards: Iterable[ModelCard]) -> list[wire.VaeItem]:
    """Return `sd-vae`."""
    return [wire.VaeItem(model_name=Path(card.files[0]).name, filename=card.files[0]) for card in cards]


def hypernetworks(cards: Iterable[ModelCard]) -> list[wire.PathItem]:
    """Return `hypernetworks`."""
    return [wire.PathItem(name=card.stem, path=card.files[0]) for card in cards]


def loras(cards: Iterable[ModelCard]) -> list[wire.LoraItem]:
    """Return `loras`."""
    return [
        wire.LoraItem(
            name=card.stem,
            alias=lora_alias(card),
            path=card.files[0],
            metadata={key: _opened(value) for key, value in card.metadata.items()},
        )
        for card in cards
        if card.broken is None
    ]


def embeddings(cards: Iterable[ModelCard], checkpoint: ModelCard | None) -> wire.EmbeddingsAnswer:
    """Return `embeddings`: those whose width fits the current checkpoint are loaded, others skipped."""
    width = checkpoint.image.context_width if checkpoint is not None and checkpoint.image is not None else 0
    loaded: dict[str, wire.EmbeddingItem] = {}
    skipped: dict[str, wire.EmbeddingItem] = {}
    for card in sorted(cards, key=lambda one: one.stem.lower()):
        if card.broken is not None:
            continue
        shape = _whole(card.metadata.get("embedding.width"))
        item = wire.EmbeddingItem(
            step=_whole(card.metadata.get("step")),
            sd_checkpoint=None,
            sd_checkpoint_name=None,
            shape=shape or width,
            vectors=_whole(card.metadata.get("embedding.vectors")) or 1,
        )
        fits = not shape or not width or shape == width
        (loaded if fits else skipped)[embedding_name(card)] = item
    return wire.EmbeddingsAnswer(loaded=loaded, skipped=skipped)


def styles(known: dict[str, Style]) -> list[wire.StyleItem]:
    """Return `prompt-styles`."""
    return [
        wire.StyleItem(name=style.name, prompt=style.prompt, negative_prompt=style.negative) for style in known.values()
    ]


def memory(view: MemoryView) -> wire.MemoryAnswer:
    """Return `memory`: the machine's RAM, what our models hold of it, and of the first accelerator; then each model."""
    models = [_resident(one) for one in view.residents]
    ram: dict[str, float | int] = {
        "free": float(view.ram_free),
        "used": view.used.get(RAM, 0),
        "total": float(view.ram_total),
    }
    pool = next((pool for pool in sorted(view.limits) if pool != RAM), None)
    if pool is None:
        return wire.MemoryAnswer(ram=ram, cuda={"error": "unavailable"}, models=models)
    used, limit = view.used.get(pool, 0), view.limits[pool]
    held = {"current": used, "peak": used}
    cuda: dict[str, Any] = {"system": {"free": max(limit - used, 0), "used": used, "total": limit}}
    cuda |= dict.fromkeys(("active", "allocated", "reserved"), held)
    cuda |= {"inactive": {"current": 0, "peak": 0}, "events": {"retries": 0, "oom": 0}}
    return wire.MemoryAnswer(ram=ram, cuda=cuda, models=models)


def _resident(view: ResidentView) -> wire.ResidentItem:
    held = {str(pool): count for pool, count in view.footprint.resident.items()}
    return wire.ResidentItem(model=view.model, kind=view.kind, state=view.state, jobs=view.jobs, held=held)


def _config(card: ModelCard) -> str | None:
    config = Path(card.files[0]).with_suffix(".yaml")
    return str(config) if config.exists() else None


def _opened(value: str) -> Any:
    """Return metadata that is a JSON object as that object, as A1111 does."""
    if not value.startswith("{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 16 else None
