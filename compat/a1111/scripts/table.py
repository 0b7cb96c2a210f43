"""Which scripts there are, and the rows that `scripts` and `script-info` show of them, as A1111 1.10.1 does."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from compat.a1111 import names
from compat.a1111.refusals import Refused
from compat.a1111.scripts import (
    loopback,
    outpainting,
    poor_outpainting,
    prompt_matrix,
    prompts_from_file,
    sd_upscale,
    xyz_plot,
)
from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.stage import Stage
from compat.a1111.scripts.xyz_axes import axes_of
from compat.a1111.workshop import Asked, Sheet

Route = Literal["txt2img", "img2img"]
BOTH: Final[tuple[Route, ...]] = ("txt2img", "img2img")


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a script's arguments."""

    label: str
    value: Any
    minimum: Any = None
    maximum: Any = None
    step: Any = None
    choices: list[str] | None = None


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `script-info`."""

    name: str
    is_alwayson: bool
    is_img2img: bool
    args: list[Argument]


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A selectable script. `defaults` are the values of its arguments, `labels` their names and bounds."""

    title: str
    run: Callable[[Stage, Asked, Arguments], Awaitable[Sheet]]
    defaults: Sequence[Any]
    rows: Callable[[Route, Sequence[str]], list[Argument]]
    routes: tuple[Route, ...] = BOTH


def _flag(label: str) -> Argument:
    return Argument(label=label, value=False)


def _margin() -> Argument:
    return Argument(label="Grid margins (px)", value=0, minimum=0, maximum=500, step=2)


def _matrix_rows(_route: Route, _upscalers: Sequence[str]) -> list[Argument]:
    return [
        _flag("Put variable parts at start of prompt"),
        _flag("Use different seed for each picture"),
        Argument(label="Select prompt", value="positive", choices=["positive", "negative"]),
        Argument(label="Select joining char", value="comma", choices=["comma", "space"]),
        _margin(),
    ]


def _file_rows(_route: Route, _upscalers: Sequence[str]) -> list[Argument]:
    return [
        _flag("Iterate seed every line"),
        _flag("Use same random seed for all lines"),
        Argument(label="Insert prompts at the", value="start", choices=["start", "end"]),
        Argument(label="List of prompt inputs", value=""),
    ]


def _xyz_rows(route: Route, _upscalers: Sequence[str]) -> list[Argument]:
    labels = [axis.label for axis in axes_of(route)]
    rows = []
    for letter, value in zip(xyz_plot.LETTERS, ("Seed", "Nothing", "Nothing"), strict=True):
        rows += [
            Argument(label=f"{letter} type", value=value, choices=labels),
            Argument(label=f"{letter} values", value=""),
            Argument(label=f"{letter} values", value=None, choices=[]),
        ]
    return [
        *rows,
        Argument(label="Draw legend", value=True),
        _flag("Include Sub Images"),
        _flag("Include Sub Grids"),
        _flag("Keep -1 for seeds"),
        *(_flag(f"Vary seeds for {letter}") for letter in xyz_plot.LETTERS),
        _margin(),
        _flag("Use text inputs instead of dropdowns"),
    ]


def _upscale_rows(_route: Route, upscalers: Sequence[str]) -> list[Argument]:
    text = "<p>The picture is enlarged and made anew tile by tile; width and height are the size of a tile</p>"
    return [
        Argument(label="", value=text),
        Argument(label="Tile overlap", value=64, minimum=0, maximum=256, step=16),
        Argument(label="Upscaler", value="None", choices=list(upscalers)),
        Argument(label="Scale Factor", value=2.0, minimum=1.0, maximum=4.0, step=0.05),
    ]


def _loopback_rows(_route: Route, _upscalers: Sequence[str]) -> list[Argument]:
    return [
        Argument(label="Loops", value=4, minimum=1, maximum=32, step=1),
        Argument(label="Final denoising strength", value=0.5, minimum=0, maximum=1, step=0.01),
        Argument(label="Denoising strength curve", value="Linear", choices=list(loopback.CURVES)),
        Argument(
            label="Append interrogated prompt at each iteration", value="None", choices=["None", "CLIP", "DeepBooru"]
        ),
    ]


def _outpainting_rows(_route: Route, _upscalers: Sequence[str]) -> list[Argument]:
    text = "<p>The picture grows on the chosen sides; many steps, Euler a and a denoising strength of 0.8 suit it</p>"
    return [
        Argument(label="", value=text),
        *_room_rows(blur=8),
        _directions(),
        Argument(label="Fall-off exponent (lower=higher detail)", value=1.0, minimum=0.0, maximum=4.0, step=0.01),
        Argument(label="Color variation", value=0.05, minimum=0.0, maximum=1.0, step=0.01),
    ]


def _poor_rows(_route: Route, _upscalers: Sequence[str]) -> list[Argument]:
    return [
        *_room_rows(blur=4),
        Argument(label="Masked content", value="fill", choices=list(poor_outpainting.CONTENTS)),
        _directions(),
    ]


def _room_rows(blur: int) -> list[Argument]:
    return [
        Argument(label="Pixels to expand", value=128, minimum=8, maximum=256, step=8),
        Argument(label="Mask blur", value=blur, minimum=0, maximum=64, step=1),
    ]


def _directions() -> Argument:
    return Argument(label="Outpainting direction", value=list(outpainting.SIDES), choices=list(outpainting.SIDES))


def _sampler_rows() -> list[Argument]:
    return [
        Argument(label="Sampling steps", value=20, minimum=1, maximum=150, step=1),
        Argument(label="Sampling method", value=names.SAMPLERS[0].name, choices=[one.name for one in names.SAMPLERS]),
        Argument(label="Schedule type", value="Automatic", choices=[one.label for one in names.SCHEDULES]),
    ]


def _seed_rows() -> list[Argument]:
    return [
        Argument(label="Seed", value=-1, step=1),
        _flag("Extra"),
        Argument(label="Variation seed", value=-1, step=1),
        Argument(label="Variation strength", value=0.0, minimum=0, maximum=1, step=0.01),
        Argument(label="Resize seed from width", value=0, minimum=0, maximum=2048, step=8),
        Argument(label="Resize seed from height", value=0, minimum=0, maximum=2048, step=8),
    ]


def _soft_rows() -> list[Argument]:
    bounds = (
        ("Schedule bias", 1, 0, 8, 0.1),
        ("Preservation strength", 0.5, 0, 8, 0.05),
        ("Transition contrast boost", 4, 1, 32, 0.5),
        ("Mask influence", 0, 0, 1, 0.05),
        ("Difference threshold", 0.5, 0, 8, 0.25),
        ("Difference contrast", 2, 0, 8, 0.25),
    )
    rows = [
        Argument(label=label, value=value, minimum=low, maximum=high, step=step)
        for label, value, low, high, step in bounds
    ]
    return [_flag("Soft inpainting"), *rows]


SCRIPTS: Final = (
    Script(
        title="loopback",
        run=loopback.run,
        defaults=loopback.DEFAULTS,
        rows=_loopback_rows,
        routes=("img2img",),
    ),
    Script(
        title="outpainting mk2",
        run=outpainting.run,
        defaults=outpainting.DEFAULTS,
        rows=_outpainting_rows,
        routes=("img2img",),
    ),
    Script(
        title="poor man's outpainting",
        run=poor_outpainting.run,
        defaults=poor_outpainting.DEFAULTS,
        rows=_poor_rows,
        routes=("img2img",),
    ),
    Script(title="prompt matrix", run=prompt_matrix.run, defaults=prompt_matrix.DEFAULTS, rows=_matrix_rows),
    Script(
        title="prompts from file or textbox",
        run=prompts_from_file.run,
        defaults=prompts_from_file.DEFAULTS,
        rows=_file_rows,
    ),
    Script(
        title="sd upscale",
        run=sd_upscale.run,
        defaults=sd_upscale.DEFAULTS,
        rows=_upscale_rows,
        routes=("img2img",),
    ),
    Script(title="x/y/z plot", run=xyz_plot.run, defaults=xyz_plot.DEFAULTS, rows=_xyz_rows),
)
"""The selectable scripts, in A1111's order."""

ALWAYS_ON: Final[dict[str, tuple[tuple[Route, ...], Callable[[], list[Argument]]]]] = {
    "soft inpainting": (("img2img",), _soft_rows),
    "controlnet": (BOTH, list),
    "sampler": (BOTH, _sampler_rows),
    "seed": (BOTH, _seed_rows),
}
"""Always-on scripts: soft inpainting and controlnet act; the arguments of the others do nothing, as in A1111's API."""


SIGNS: Final = ("controlnet m2m",)
"""Scripts that are listed, since clients tell by them that an extension is there, and cannot be chosen."""


def find(title: str, route: str) -> Script:
    """Return the script of a request.

    Raises:
        Refused: the route has none of that title, or only its title.
    """
    if title.lower() in SIGNS:
        raise Refused.http(f"Script '{title}' is not offered by this server")
    found = next((one for one in SCRIPTS if one.title == title.lower() and route in one.routes), None)
    if found is None:
        raise Refused.http(f"Script '{title}' not found")
    return found


def titles(route: Route) -> list[str]:
    """Return the titles of a route's scripts."""
    selectable = [one.title for one in SCRIPTS if route in one.routes]
    return [*selectable, *SIGNS, *(title for title, (routes, _) in ALWAYS_ON.items() if route in routes)]


def infos(upscalers: Sequence[str]) -> list[Info]:
    """Return `script-info`: txt2img's scripts, then img2img's."""
    rows = []
    for route in BOTH:
        is_img2img = route == "img2img"
        rows += [
            Info(name=one.title, is_alwayson=False, is_img2img=is_img2img, args=one.rows(route, upscalers))
            for one in SCRIPTS
            if route in one.routes
        ]
        rows += [
            Info(name=title, is_alwayson=True, is_img2img=is_img2img, args=made())
            for title, (routes, made) in ALWAYS_ON.items()
            if route in routes
        ]
    return rows
