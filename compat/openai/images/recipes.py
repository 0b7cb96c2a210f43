"""How a picture is made when the request says only what shall be seen: sampler, guidance, steps and size. Pure.

| `quality` | steps | of a distilled checkpoint |
|---|---|---|
| `low` | 12 | 4 |
| `auto` or absent, `medium`, `standard` | 20 | 6 |
| `high`, `hd` | 30 | 8 |
| `xhigh` | 40 | 10 |
| `max` | 60 | 12 |

A checkpoint counts as distilled (turbo, lightning, hyper, LCM) when a word of its file's name says so: its header does
not tell. Such models want few steps and hardly any guidance; at 7 they give burnt pictures.

Models of transformers bring their own sampler and schedule; they are guided at 4.5, those that were trained to follow a
guidance number at 3.5.
"""

import re
from typing import Literal

import msgspec

from server.core.image import Size
from server.core.models import ModelCard

Effort = Literal["low", "medium", "high", "xhigh", "max"]

EFFORTS: dict[str, Effort] = {
    "auto": "medium",
    "low": "low",
    "standard": "medium",
    "medium": "medium",
    "high": "high",
    "hd": "high",
    "xhigh": "xhigh",
    "max": "max",
}
"""What `quality` may say, and which effort it asks for."""

LARGE_SIDE = 1024
SMALL_SIDE = 512
SMALL_FAMILIES = frozenset({"", "sd1", "sd2", "altdiffusion"})
CELL = 64
_WIDEST = 4.0

_WORDS = re.compile(r"[a-z]+")
_DISTILLED = ("turbo", "lightning", "hyper")
_CONSISTENCY = ("lcm",)


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults for one kind of checkpoint."""

    sampler: str
    schedule: str
    cfg_scale: float
    steps: dict[Effort, int]


PLAIN = Recipe(
    sampler="dpmpp_2m",
    schedule="karras",
    cfg_scale=7.0,
    steps={"low": 12, "medium": 20, "high": 30, "xhigh": 40, "max": 60},
)
DISTILLED = Recipe(
    sampler="euler",
    schedule="sgm_uniform",
    cfg_scale=1.0,
    steps={"low": 4, "medium": 6, "high": 8, "xhigh": 10, "max": 12},
)
FLOW = Recipe(sampler="euler", schedule="uniform", cfg_scale=4.5, steps=PLAIN.steps)
FOLLOWING = msgspec.structs.replace(FLOW, cfg_scale=3.5)
CONSISTENCY = msgspec.structs.replace(DISTILLED, sampler="lcm", schedule="uniform")


def recipe_of(card: ModelCard) -> Recipe:
    """Return the defaults for a checkpoint."""
    words = _WORDS.findall(card.stem.lower())
    if any(word in _CONSISTENCY for word in words):
        return CONSISTENCY
    if any(word in _DISTILLED for word in words):
        return DISTILLED
    if card.image is not None and card.image.token_width:
        return FOLLOWING if card.image.distilled else FLOW
    return PLAIN


def effort_of(quality: str | None) -> Effort | None:
    """Return the effort that a quality asks for, None for one that nobody knows."""
    return EFFORTS.get((quality or "auto").lower())


def side_of(card: ModelCard) -> int:
    """Return the side in pixels of the squares that a checkpoint was made for, as far as its family tells."""
    family = card.image.family if card.image is not None else ""
    return SMALL_SIDE if family in SMALL_FAMILIES else LARGE_SIDE


def fitted(width: int, height: int, side: int) -> Size:
    """Return a size of about `side` x `side` pixels in the shape of another one, in whole steps of 64.

    Shapes longer than 4:1 become 4:1.
    """
    ratio = min(max(width / height, 1 / _WIDEST), _WIDEST)
    return Size(_stepped(side * ratio**0.5), _stepped(side / ratio**0.5))


def _stepped(pixels: float) -> int:
    return max(round(pixels / CELL), 1) * CELL
