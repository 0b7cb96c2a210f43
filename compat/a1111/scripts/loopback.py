"""Loopback: a picture is made from the one before, again and again, with a denoising strength that moves.

| loops 3, from 0.4 to 0.8 | strengths |
|---|---|
| Linear | 0.4, 0.6, 0.8 |
| Aggressive | 0.4, 0.683, 0.8 |
| Lazy | 0.4, 0.517, 0.8 |

With `n_iter` above 1 the whole is done that many times, and only each last picture is handed over. What a picture
shows can be put behind the prompt for the next one, where there is a model that says it.
"""

import base64
import math
from typing import Any

import msgspec

from compat.a1111 import wire
from compat.a1111.interrogate import Style
from compat.a1111.options import OptionValues
from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.sd_upscale import source
from compat.a1111.scripts.stage import Stage
from compat.a1111.workshop import Asked, Cell, Sheet
from server.core.pixels import GridRequest

LOOPS, FINAL, CURVE, INTERROGATION = range(4)
DEFAULTS = (4, 0.5, "Linear", "None")
CURVES = ("Aggressive", "Linear", "Lazy")
CAPTIONS: dict[str, Style | None] = {"None": None, "CLIP": "clip", "DeepBooru": "deepdanbooru"}
MOST_LOOPS = 100
ORIGINAL = 1


def strengths(first: float, last: float, loops: int, curve: str) -> list[float]:
    """Return the denoising strength of each loop. Pure."""
    if loops == 1:
        return [first]
    found = []
    for loop in range(loops):
        share = loop / (loops - 1)
        if curve == "Aggressive":
            share = math.sin(share * math.pi / 2)
        elif curve == "Lazy":
            share = 1 - math.cos(share * math.pi / 2)
        found.append(first + (last - first) * share)
    return found


async def run(stage: Stage, request: Asked, arguments: Arguments) -> Sheet:
    """Make the pictures and, when there are several, their grid."""
    base, _ = source(request)
    style = CAPTIONS[arguments.choice(INTERROGATION, tuple(CAPTIONS))]
    if style is not None:
        stage.workshop.captioner.check()
    loops, final = arguments.integer(LOOPS, 1, MOST_LOOPS), arguments.number(FINAL, 0, 1)
    curve = arguments.choice(CURVE, CURVES)
    rounds = base.n_iter or 1
    levels = strengths(base.denoising_strength, final, loops, curve)
    more = {"Final denoising strength": final, "Denoising curve": curve}
    single = msgspec.structs.replace(base, n_iter=1, batch_size=1)
    await stage.announce([single])
    stage.run.total = loops * rounds
    shown: list[Cell] = []
    first: Cell | None = None
    for number in range(rounds):
        asked = msgspec.structs.replace(single, seed=(base.seed or 0) + number * loops)
        cells = await _looped(stage, asked, levels, style, more)
        first = first or cells[0]
        made = [cell for cell in cells if cell.files]
        shown += made if rounds == 1 else made[-1:] * (len(made) == loops)
        if stage.stopped:
            break
    assert first is not None
    return await _sheet(stage, first, shown)


async def _looped(
    stage: Stage, request: wire.Img2Img, levels: list[float], style: Style | None, more: dict[str, Any]
) -> list[Cell]:
    cells: list[Cell] = []
    seed, prompt = request.seed or 0, request.prompt or ""
    for number, strength in enumerate(levels):
        if cells and (stage.stopped or not cells[-1].files):
            break
        if cells:
            text = base64.b64encode(cells[-1].finished.pictures[0].png).decode("ascii")
            request = msgspec.structs.replace(request, init_images=[text], inpainting_fill=ORIGINAL)
        if style is not None:
            said = await _said(stage, request, style)
            request = msgspec.structs.replace(request, prompt=f"{prompt}, {said}" if prompt else said)
        changed = msgspec.structs.replace(request, seed=seed + number, denoising_strength=strength)
        cells.append(await stage.cell(changed, more))
    return cells


async def _said(stage: Stage, request: wire.Img2Img, style: Style) -> str:
    """Return what the picture shows that a loop begins with."""
    _, picture = source(request)
    workshop = stage.workshop
    return await workshop.captioner.caption(picture, style, workshop.options(), stage.run.owner)


async def _sheet(stage: Stage, first: Cell, shown: list[Cell]) -> Sheet:
    files = [cell.files[0] for cell in shown]
    info = first.info() | {"infotexts": [text for cell in shown for text in cell.texts[:1]]}
    options: OptionValues = first.planned.plan.options
    if len(files) < 2 or not (options.flag("return_grid") or first.planned.plan.request.save_images):
        return Sheet(files=files, info=info)
    text = shown[0].texts[0]
    grid = await stage.grid(GridRequest(pictures=tuple(files), columns=len(files)), shown[0], text)
    await stage.keep_grid(shown[0], grid)
    if not options.flag("return_grid"):
        return Sheet(files=files, info=info)
    info |= {"index_of_first_image": 1, "infotexts": [text, *info["infotexts"]]}
    return Sheet(files=[grid, *files], info=info)
