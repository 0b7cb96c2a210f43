"""Finding preprocessors, their menus, and the numbers that they are given."""

from compat.a1111.controlnet import wire
from compat.a1111.controlnet.module_table import ENCODER, MODULES, Module, Slider
from compat.a1111.controlnet.networks import WANTED, Have, lacking, network_of
from server.core.image import Preprocessing

NONE = "none"

HIDDEN = 0.5
"""What the extension takes for a number that a module has no slider for; infotexts tell it."""

HIDDEN_RANGE = (0.0, 1.0)

USUAL_RESOLUTION = 512

UNSUPPORTED = ("clip_vision", "revision_clipvision", "revision_ignore_prompt", "ip-adapter-auto")
"""Modules that `detect` refuses in the extension, too, for what they give is no picture."""

PICTURE = "picture"
"""What the core calls all modules that let an image encoder see the picture; the model knows which encoder."""


def find(word: str) -> Module | None:
    """Return the module of that name or label."""
    return next((module for module in MODULES if word in (module.name, module.shown)), None)


def reason(module: Module, have: Have) -> str:
    """Return why a module does not work here, "" when it does."""
    if module.name in WANTED:
        return lacking(module.name, have)
    return ENCODER if module.looks and not have.sees else module.reason


def preprocessing(module: Module, have: Have, *, resolution: float, thresholds: tuple[float, float]) -> Preprocessing:
    """Return what the core does for a module that works here."""
    card = network_of(module.name, have)
    return Preprocessing(
        module=core_name(module),
        resolution=working_resolution(module, resolution),
        threshold_a=thresholds[0],
        threshold_b=thresholds[1],
        file=card.files[0] if card is not None else "",
    )


def core_name(module: Module) -> str:
    """Return what the core calls a module."""
    return PICTURE if module.looks else module.name


def ordered(tag: str = "") -> list[Module]:
    """Return the modules of a type of control (of all with none given): `none`, then by priority and label, falling."""
    wanted = [module for module in MODULES if module.name != NONE and (not tag or tag in module.tags)]
    wanted.sort(key=lambda module: f"{module.priority:08d}{module.shown}", reverse=True)
    return [MODULES[0], *wanted]


def listing(have: Have, *, labels: bool) -> wire.ModuleList:
    """Return the answer of `module_list`."""
    names = {module.shown if labels else module.name: module for module in ordered()}
    return wire.ModuleList(
        module_list=list(names), module_detail={name: _detail(module, have) for name, module in names.items()}
    )


def resolution_of(module: Module, asked: float | None) -> float:
    """Return the resolution for infotexts: the one asked for while it is within the slider's range."""
    return _within(asked, module.resolution)


def threshold_of(module: Module, place: int, asked: float | None) -> float:
    """Return a threshold (0 = a, 1 = b): the one asked for while it is within the slider's range."""
    return _within(asked, module.sliders[place] if place < len(module.sliders) else None)


def working_resolution(module: Module, resolution: float) -> int:
    """Return the resolution at which a module works."""
    return USUAL_RESOLUTION if module.resolution is None else int(resolution)


def _within(asked: float | None, slider: Slider | None) -> float:
    low, high, value = (*HIDDEN_RANGE, HIDDEN) if slider is None else (slider[1], slider[2], slider[4])
    return asked if asked is not None and low <= asked <= high else value


def _detail(module: Module, have: Have) -> wire.ModuleDetail:
    sliders = (module.resolution, *module.sliders)
    items = [
        wire.SliderItem(name=name, value=value, min=low, max=high, step=step)
        for name, low, high, step, value in (slider for slider in sliders if slider is not None)
    ]
    return wire.ModuleDetail(model_free=module.model_free, sliders=items, unavailable=reason(module, have) or None)
