"""Other checkpoints that a request names: a refiner, and one for the second pass; what the infotext says of them."""

from collections.abc import Sequence
from typing import Any

import msgspec

from compat.a1111 import wire
from compat.a1111.checkpoints import closest, short_hash
from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from server.core.errors import InvalidValue
from server.core.image import CheckpointRef, ControlPasses, ImageRequest, Refiner
from server.core.models import ModelCard, Runtime

NO_REFINER = ("", "None", "none")
SAME_CHECKPOINT = ("", "Use same checkpoint")

BY_STEPS = "refiner_switch_by_sample_steps"
BY_STEPS_KEY = "Refiner switch by sampling steps"
WHICH_PASS = "hires_fix_refiner_pass"
PASSES: dict[str, ControlPasses] = {"first pass": "first", "second pass": "second"}
"""Which pass a refiner acts in by the option's words; all others mean both."""


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """The cards of a request's refiner and of its second pass."""

    refiner: ModelCard | None = None
    hires: ModelCard | None = None


def named(request: wire.Txt2Img, cards: Sequence[ModelCard], model: str) -> Named:
    """Return the checkpoints that a request names. The one that makes the picture anyway refines nothing.

    Raises:
        Refused: there is none of such a name.
        InvalidValue: it cannot take part in another one's work.
    """
    refiner = hires = None
    if (request.refiner_checkpoint or "") not in NO_REFINER:
        refiner = _found("refiner_checkpoint", request.refiner_checkpoint or "", cards)
    if request.enable_hr and (request.hr_checkpoint_name or "") not in SAME_CHECKPOINT:
        hires = _found("hr_checkpoint_name", request.hr_checkpoint_name or "", cards)
    return Named(refiner=None if refiner is not None and refiner.id == model else refiner, hires=hires)


def joined(work: ImageRequest, request: wire.Txt2Img, options: OptionValues, others: Named) -> ImageRequest:
    """Return the engine's part with the other checkpoints in it."""
    hires = work.hires
    if hires is not None and others.hires is not None:
        hires = msgspec.structs.replace(hires, checkpoint=reference(others.hires))
    return msgspec.structs.replace(work, hires=hires, refiner=refiner_of(request, options, others.refiner))


def refiner_of(request: wire.Txt2Img, options: OptionValues, card: ModelCard | None) -> Refiner | None:
    """Return what the engine is told of the refiner; without a share it takes over at once."""
    if card is None:
        return None
    at = request.refiner_switch_at
    return Refiner(
        checkpoint=reference(card),
        switch_at=0.0 if at is None else at,
        by_calls=options.flag(BY_STEPS),
        passes=PASSES.get(options.text(WHICH_PASS), "both"),
    )


def reference(card: ModelCard) -> CheckpointRef:
    """Return a checkpoint as the engine opens it."""
    return CheckpointRef(name=card.stem, path=card.files[0])


def short_title(card: ModelCard) -> str:
    """Return a checkpoint as infotexts name it: `stem [hash]`, the stem alone while the hash is not known."""
    short = short_hash(card)
    return card.stem if short is None else f"{card.stem} [{short}]"


def refiner_entries(
    request: wire.Txt2Img, options: OptionValues, card: ModelCard | None, *, took_over: bool
) -> dict[str, Any]:
    """Return the entries of a refiner; there are none when it never took over."""
    entries: dict[str, Any] = {BY_STEPS_KEY: True} if options.flag(BY_STEPS) else {}
    if card is None or not took_over:
        return entries
    which = options.text(WHICH_PASS)
    if request.enable_hr and which != "second pass":
        entries["Hires refiner"] = which
    return entries | {"Refiner": short_title(card), "Refiner switch at": request.refiner_switch_at}


def _found(param: str, name: str, cards: Sequence[ModelCard]) -> ModelCard:
    card = closest(name, cards)
    if card is None:
        raise Refused.raised("Exception", f"Could not find checkpoint with name {name}")
    if card.broken is not None:
        raise InvalidValue.of(param, f"the checkpoint {card.name!r} cannot be loaded: {card.broken}")
    if card.runtime not in (None, Runtime.DIFFUSION):
        raise InvalidValue.of(param, f"the checkpoint {card.name!r} is of a kind that cannot go on with latents")
    return card
