"""Which file on disk draws for which preprocessor, by the names that the extension and model hubs give them."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from server.core.models import ModelCard


class Wanted(msgspec.Struct, frozen=True):
    """What a preprocessor's network is called: `pattern` is sought in a file's name, `told` is for people."""

    pattern: str
    told: str


class Have(msgspec.Struct, frozen=True, kw_only=True):
    """What is on disk for preprocessors: whether an image encoder is, and the networks that draw maps."""

    sees: bool = False
    annotators: Sequence[ModelCard] = ()


_HED: Final = Wanted(r"hed[^/]*$", "ControlNetHED.pth")
_FOLDER: Final = r"(/.*)?/model\.safetensors$"

WANTED: Final[dict[str, Wanted]] = {
    "hed": _HED,
    "hed_safe": _HED,
    "scribble_hed": _HED,
    "lineart": Wanted(r"(^|/)sk_model\.[^/]*$", "sk_model.pth"),
    "lineart_coarse": Wanted(r"(^|/)sk_model2\.[^/]*$", "sk_model2.pth"),
    "lineart_anime": Wanted(r"(^|/)netg\.[^/]*$", "netG.pth"),
    "openpose": Wanted(r"(^|/)body_pose_model\.[^/]*$", "body_pose_model.pth"),
    "depth": Wanted(
        rf"(^|/)[^/]*(dpt|midas)[^/]*{_FOLDER}", "a folder of transformers with a DPT model, such as dpt-large"
    ),
    "depth_zoe": Wanted(rf"(^|/)[^/]*zoe[^/]*{_FOLDER}", "a folder of transformers such as zoedepth-nyu-kitti"),
    "depth_anything": Wanted(
        rf"(^|/)[^/]*depth[-_]anything(?![-_]v\d)[^/]*{_FOLDER}",
        "a folder of transformers such as depth-anything-small-hf",
    ),
    "depth_anything_v2": Wanted(
        rf"(^|/)[^/]*depth[-_]anything[-_]v2[^/]*{_FOLDER}",
        "a folder of transformers such as Depth-Anything-V2-Small-hf",
    ),
}
"""By preprocessor. The extension's own files for depth are in layouts that are not read here."""


def network_of(module: str, have: Have) -> ModelCard | None:
    """Return the network of a preprocessor: the first that can be used, else the first; None where there is none."""
    wanted = WANTED.get(module)
    if wanted is None:
        return None
    found = [card for card in have.annotators if re.search(wanted.pattern, card.name.replace("\\", "/").casefold())]
    return next((card for card in found if card.broken is None), next(iter(found), None))


def lacking(module: str, have: Have) -> str:
    """Return why the network of a preprocessor cannot draw, "" when it can; the preprocessor has to be `WANTED`."""
    card = network_of(module, have)
    if card is None:
        return f"its network is not there: put {WANTED[module].told} into models/annotators"
    return "" if card.broken is None else f"its network {card.name} cannot be used: {card.broken}"
