"""Control models as the extension names them, the texts that find one, and the menus by type of control."""

from collections.abc import Iterable, Sequence

from compat.a1111.controlnet import modules, wire
from compat.a1111.controlnet.module_table import MODULES
from server.core.models import ModelCard

NONE = "None"
ALL = "All"

SYNONYMS: dict[str, tuple[str, ...]] = {
    "instructp2p": ("ip2p",),
    "segmentation": ("seg",),
    "normalmap": ("normal",),
    "t2i-adapter": ("t2i_adapter", "t2iadapter", "t2ia"),
    "ip-adapter": ("ip_adapter", "ipadapter"),
    "openpose": ("densepose",),
    "instant-id": ("instant_id", "instantid"),
    "scribble": ("sketch",),
    "tile": ("blur",),
}
"""Words in names of models that stand for a type."""

ONLY_MODELS = ("InstructP2P",)
"""Types that have models and no modules."""


def titled(cards: Iterable[ModelCard]) -> dict[str, ModelCard]:
    """Return usable models by title: the file's name without folder and extension, its old hash behind it."""
    usable = sorted((card for card in cards if card.broken is None and card.files), key=lambda card: card.stem.lower())
    return {title(card): card for card in usable if card.stem != NONE}


def title(card: ModelCard) -> str:
    """Return a model's title."""
    digest = next((digest for digest in card.short_hashes if len(digest) == 8), None)
    return card.stem if digest is None else f"{card.stem} [{digest}]"


def find(word: str, cards: Sequence[ModelCard]) -> ModelCard | None:
    """Return the model of a title, of a name in any case, or the one with the shortest name that contains the word."""
    known = titled(cards)
    if word in known:
        return known[word]
    plain = word.lower().split(" [")[0].strip()
    by_name = {card.stem.lower(): card for card in known.values()}
    if plain in by_name:
        return by_name[plain]
    holding = [name for name in by_name if plain and plain in name]
    return by_name[min(holding, key=lambda name: (len(name), name))] if holding else None


def control_types(cards: Sequence[ModelCard]) -> wire.ControlTypes:
    """Return the answer of `control_types`."""
    titles = list(titled(cards))
    tags = sorted({tag for module in MODULES for tag in module.tags} | set(ONLY_MODELS))
    every = wire.ControlType(
        module_list=[module.shown for module in modules.ordered()],
        model_list=[NONE, *titles],
        default_option=modules.NONE,
        default_model=NONE,
    )
    return wire.ControlTypes(control_types={ALL: every} | {tag: _type(tag, titles) for tag in tags})


def _type(tag: str, titles: Sequence[str]) -> wire.ControlType:
    offered = [module.shown for module in modules.ordered(tag)]
    words = (tag.lower(), *SYNONYMS.get(tag.lower(), ()))
    fitting = [one for one in titles if any(word in one.lower() for word in words)]
    newest = [one for one in fitting if "11" in one.split("[")[0]]
    return wire.ControlType(
        module_list=offered,
        model_list=[NONE, *fitting],
        default_option=offered[min(1, len(offered) - 1)],
        default_model=next(iter([*newest, *fitting]), NONE),
    )
