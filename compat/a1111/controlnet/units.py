"""The always-on script `controlnet` of a request to the core's words. Decodes base64: runs in a thread."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from compat.a1111 import lenient
from compat.a1111.controlnet import models, modules, unit_words, wire
from compat.a1111.controlnet.module_table import Module
from compat.a1111.controlnet.networks import Have
from compat.a1111.controlnet.unit_pictures import pictures_of
from compat.a1111.encoded import MOST_BYTES, picture
from compat.a1111.lenient import BODY, Problem, Unreadable
from compat.a1111.options import OptionValues
from server.core.errors import InvalidValue, Unsupported
from server.core.image import ControlUnit
from server.core.models import ModelCard

SCRIPT = "controlnet"
WHERE: list[str | int] = [BODY, "alwayson_scripts", SCRIPT, "args"]

UNIT_COUNT = "control_net_unit_count"
NO_MAPS = "control_net_no_detectmap"
USUAL_COUNT, MOST_COUNT = 3, 10

MOST_WEIGHT = 2.0


class Controlled(msgspec.Struct, frozen=True, kw_only=True):
    """The units that act, an infotext entry for each, and the names of what was left out."""

    units: tuple[ControlUnit, ...] = ()
    told: dict[str, str] = {}
    ignored: tuple[str, ...] = ()


class _Case(msgspec.Struct, frozen=True, kw_only=True):
    cards: Sequence[ModelCard]
    encoders: tuple[str, ...]
    have: Have
    seed: int
    with_maps: bool


def unit_count(options: OptionValues) -> int:
    """Return how many units a request may have."""
    count = options.get(UNIT_COUNT)
    is_number = isinstance(count, int | float) and not isinstance(count, bool) and 1 <= count <= MOST_COUNT
    return int(count) if is_number else USUAL_COUNT


def controlled(
    scripts: Mapping[str, Any],
    options: OptionValues,
    cards: Sequence[ModelCard],
    *,
    seed: int,
    encoders: Sequence[ModelCard] = (),
    annotators: Sequence[ModelCard] = (),
) -> Controlled:
    """Return what the script's units come to.

    `seed` is for modules that throw dice, `encoders` for models that look, `annotators` are the networks of modules.

    Raises:
        Unreadable, InvalidValue, Unsupported, Refused: a unit that is enabled cannot act as it asks.
    """
    args = _args(scripts)
    count = unit_count(options)
    files = tuple(card.files[0] for card in encoders if card.broken is None and card.files)
    have = Have(sees=bool(files), annotators=annotators)
    case = _Case(cards=cards, encoders=files, have=have, seed=seed, with_maps=options.get(NO_MAPS) is not True)
    units: list[ControlUnit] = []
    told: dict[str, str] = {}
    for place, sent in enumerate(args[:count]):
        unit = None if sent is None else _read(sent, place)
        if unit is None or not _is_enabled(unit):
            continue
        made, entry = _unit(unit, case)
        if not any(mark in value for value in entry.values() for mark in ",:"):
            told[f"ControlNet {len(units)}"] = ", ".join(f"{key}: {value}" for key, value in entry.items())
        units.append(made)
    _check_size(units)
    left_out = tuple(f"alwayson_scripts.{SCRIPT}.args.{place}" for place in range(count, len(args)))
    return Controlled(units=tuple(units), told=told, ignored=left_out)


def _args(scripts: Mapping[str, Any]) -> list[Any]:
    found = [value for name, value in scripts.items() if name.lower() == SCRIPT]
    args = found[-1].get("args", []) if found and isinstance(found[-1], dict) else []
    if not isinstance(args, list):
        raise InvalidValue.of("alwayson_scripts", "the args of controlnet are a list of units")
    return args


def _read(sent: Any, place: int) -> wire.Unit:
    where = [*WHERE, place]
    if not isinstance(sent, dict):
        raise Unreadable([Problem(loc=where, msg="a ControlNet unit is an object", type="type_error.dict")])
    fields = dict(sent)
    for old, name in wire.SYNONYMS.items():
        value = fields.pop(old, None)
        if value is None:
            continue
        if fields.get(name) is not None:
            text = f"Conflict of field '{old}' and '{name}'"
            raise Unreadable([Problem(loc=[*where, old], msg=text, type="value_error")])
        fields[name] = value
    try:
        return msgspec.convert(lenient.coerce(fields, wire.Unit), wire.Unit)
    except Unreadable as error:
        problems = [msgspec.structs.replace(one, loc=[*where, *one.loc[1:]]) for one in error.problems]
        raise Unreadable(problems) from None


def _is_enabled(unit: wire.Unit) -> bool:
    names_a_model = unit.model not in (None, "", models.NONE)
    return unit.enabled if unit.enabled is not None else names_a_model


def _unit(unit: wire.Unit, case: _Case) -> tuple[ControlUnit, dict[str, str]]:
    """Return the core's unit and its infotext entry."""
    module, card = _module(unit, case), _model(unit, case.cards)
    weight = _between("weight", unit.weight, 1.0, MOST_WEIGHT)
    start = _between("guidance_start", unit.guidance_start, 0.0, 1.0)
    end = _between("guidance_end", unit.guidance_end, 1.0, 1.0)
    if start > end:
        raise InvalidValue.of("guidance_start", f"guidance_start({start}) > guidance_end({end})")
    if unit.ipadapter_input is not None:
        raise Unsupported.of("ipadapter_input", "what an image encoder said elsewhere is not taken; send the picture")
    resolution = modules.resolution_of(module, unit.processor_res)
    a, b = (
        modules.threshold_of(module, place, asked) for place, asked in enumerate((unit.threshold_a, unit.threshold_b))
    )
    resize, mode = unit_words.resize_mode(unit.resize_mode), unit_words.control_mode(unit.control_mode, unit.guessmode)
    files = pictures_of(unit.image, unit.mask)
    if files.more and not module.looks and module.name != modules.NONE:
        raise Unsupported.of("image", "several pictures for one ControlNet unit are for IP-Adapters alone")
    working = modules.preprocessing(module, case.have, resolution=resolution, thresholds=(a, b))
    made = ControlUnit(
        name=card.stem,
        path=card.files[0],
        image=files.image,
        mask=files.mask,
        more_images=files.more,
        encoders=case.encoders,
        preprocessing=msgspec.structs.replace(working, seed=case.seed),
        weight=weight,
        start=start,
        end=end,
        mode=unit_words.CONTROL_MODES[mode],
        fit=unit_words.RESIZE_MODES[resize],
        pixel_perfect=bool(unit.pixel_perfect),
        passes=unit_words.hr_option(unit.hr_option),
        layer_weights=tuple(unit.advanced_weighting or ()),
        region=picture(unit.effective_region_mask) if unit.effective_region_mask else None,
        crop_to_mask=unit.inpaint_crop_input_image is not False,
        return_map=case.with_maps and unit.save_detected_map is not False,
    )
    entry = {
        "Module": unit.module or modules.NONE,
        "Model": models.title(card),
        "Weight": weight,
        "Resize Mode": resize,
        "Processor Res": int(resolution) if resolution == int(resolution) else resolution,
        "Threshold A": float(a),
        "Threshold B": float(b),
        "Guidance Start": start,
        "Guidance End": end,
        "Pixel Perfect": bool(unit.pixel_perfect),
        "Control Mode": mode,
    }
    return made, {key: str(value) for key, value in entry.items()}


def _module(unit: wire.Unit, case: _Case) -> Module:
    word = unit.module or modules.NONE
    module = modules.find(word)
    if module is None:
        raise InvalidValue.of("module", f"module({word}) not found in supported modules.")
    reason = modules.reason(module, case.have)
    if reason:
        raise Unsupported.of("module", f"module({word}) does not work here: {reason}")
    return module


def _model(unit: wire.Unit, cards: Sequence[ModelCard]) -> ModelCard:
    word = unit.model or models.NONE
    if word == models.NONE:
        raise InvalidValue.of("model", "You have not selected any ControlNet Model.")
    card = models.find(word, cards)
    if card is None:
        raise InvalidValue.of("model", f"model({word}) not found in supported models.")
    return card


def _between(param: str, value: float | None, usual: float, most: float) -> float:
    if value is None:
        return usual
    if not 0 <= value <= most:
        raise InvalidValue.of(param, f"ensure that {param} is 0 ... {most:g}")
    return float(value)


def _check_size(units: Sequence[ControlUnit]) -> None:
    files = [
        file for unit in units for file in (unit.image, unit.mask, unit.region, *unit.more_images) if file is not None
    ]
    if sum(map(len, files)) > MOST_BYTES:
        raise InvalidValue.of("alwayson_scripts", f"the units' pictures are more than {MOST_BYTES} bytes together")
