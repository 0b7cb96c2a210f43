"""Which projector belongs to which text model: by the configuration, or by the names of files in one folder. Pure.

| model | projector beside it | |
|---|---|---|
| `gemma-3-4b-it-Q4_K_M` | `mmproj-gemma-3-4b-it-f16`, `gemma-3-4b-it-mmproj-Q8_0` | its own |
| `gemma-3-4b-it-qat-Q4_0` | `mmproj-gemma-3-4b-it-f16` | its own: nothing else begins like that |
| `gemma-3-4b-it-Q4_K_M`, alone but for other quantisations | `mmproj-F16`, `mmproj-model-f16` | its own |
| `a-Q4_0` and `b-Q4_0` | `mmproj-F16` | nobody's: it cannot be told whose |
| `Qwen2-VL-2B-Q4_0` and `Qwen2-VL-7B-Q4_0` | `mmproj-Qwen2-VL` | nobody's |
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

import msgspec

from server.core.models import ModelCard, ModelKind

NONE = "none"

_QUANT = re.compile(r"(?:^|[-._])(?:ud-)?(?:i?q\d(?:_[a-z0-9]+)*|tq\d_\d|b?f16|fp16|f32|fp32|mxfp4(?:_moe)?)(?=$|[-.])")
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_WORD = re.compile(r"[-._]?mmproj(?:[-._]model)?(?=$|[-._])")
_EDGES = "-._ "
_BEST = ("f16", "bf16", "f32", "q8_0")
"""The precisions of projectors, the preferred one first: they are small, and less of it is seen soon."""


def with_projectors(cards: Sequence[ModelCard], chosen: Mapping[str, str]) -> list[ModelCard]:
    """Return the cards, those of text models with the projectors that belong to them.

    Args:
        cards: of one catalog, of all kinds.
        chosen: file or `none` by a model's name, and under the empty name for all others; files without a folder stand
            beside the model.
    """
    projectors = [card for card in cards if card.kind is ModelKind.PROJECTOR and card.broken is None]
    writers = [card for card in cards if _writes(card)]
    named = {name.casefold(): file for name, file in chosen.items()}
    return [
        msgspec.structs.replace(card, projector=_of(card, named, writers, projectors)) if _writes(card) else card
        for card in cards
    ]


def _writes(card: ModelCard) -> bool:
    return card.kind is ModelKind.TEXT and bool(card.files) and not (card.text is not None and card.text.pooling)


def _of(
    card: ModelCard, chosen: Mapping[str, str], writers: Iterable[ModelCard], projectors: Iterable[ModelCard]
) -> str:
    names = (card.id, card.name, card.stem, *card.aliases, "")
    wanted = next((chosen[name.casefold()] for name in names if chosen.get(name.casefold())), "")
    if wanted:
        return "" if wanted == NONE else str(Path(card.files[0]).parent / Path(wanted).expanduser())
    folder = _folder(card)
    bases = {base_name(other.stem) for other in writers if _folder(other) == folder}
    fitting = [p for p in projectors if _folder(p) == folder and _fits(base_name(p.stem), base_name(card.stem), bases)]
    best = max(fitting, key=lambda p: (len(base_name(p.stem)), -precision_rank(p.stem), p.name), default=None)
    return best.files[0] if best is not None else ""


def _fits(projector: str, model: str, bases: set[str]) -> bool:
    """Tell whether a projector's base name says that it is a model's, among the base names of one folder's models."""
    if projector == model:
        return True
    beginning = [base for base in bases if base != projector and (not projector or base.startswith(f"{projector}-"))]
    return beginning == [model]


def base_name(stem: str) -> str:
    """Return what the names of a model's quantisations and of its projector have in common, in small letters."""
    name = _PART.sub("", stem.casefold())
    name = _QUANT.sub("", name)
    return _WORD.sub("", name).strip(_EDGES).replace("_", "-")


def precision_rank(stem: str) -> int:
    """Return the place of a projector among others of the same model by the precision in its name, 0 for the best."""
    found = _QUANT.search(stem.casefold())
    precision = found[0].strip(_EDGES) if found else ""
    return _BEST.index(precision) if precision in _BEST else len(_BEST)


def _folder(card: ModelCard) -> PurePath:
    return PurePath(card.files[0]).parent
