"""Prompts from file or textbox: a request for each line, which is a prompt or options such as `--steps 5`.

| line | request |
|---|---|
| `a cat` | the request's own, with this prompt before or behind its own |
| `--prompt "a cat" --steps 5 --sampler_name "Euler a"` | three fields changed |
| `--sd_model other.safetensors --prompt x` | another checkpoint |
"""

import shlex
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from compat.a1111.convert import draw_seed
from compat.a1111.options import CHECKPOINT
from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.stage import MOST_CELLS, Stage, together
from compat.a1111.workshop import Asked, Cell, Sheet
from server.core.errors import InvalidValue

ITERATE, SAME_SEED, POSITION, TEXT = range(4)
DEFAULTS = (False, False, "start", "")


def _truth(word: str) -> bool:
    return word.strip().lower() == "true"


OPTIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "sd_model": str,
    "prompt": str,
    "negative_prompt": str,
    "styles": lambda word: [word],
    "seed": int,
    "subseed": int,
    "subseed_strength": float,
    "seed_resize_from_h": int,
    "seed_resize_from_w": int,
    "sampler_name": str,
    "batch_size": int,
    "n_iter": int,
    "steps": int,
    "cfg_scale": float,
    "width": int,
    "height": int,
    "restore_faces": _truth,
    "tiling": _truth,
}

IGNORED: Final = (
    *("outpath_samples", "outpath_grids", "prompt_for_display", "sampler_index"),
    *("do_not_save_samples", "do_not_save_grid"),
)
"""Options that A1111 knows and that change no picture here: it says itself where pictures are saved."""

PROMPTS: Final = ("prompt", "negative_prompt")


def line_options(line: str) -> dict[str, Any]:
    """Return what a line says. A line that has no options, or wrong ones, is a prompt, as in A1111. Pure."""
    if "--" not in line:
        return {"prompt": line}
    try:
        return _options(shlex.split(line))
    except (ValueError, IndexError):
        return {"prompt": line}


def cells(request: Asked, arguments: Arguments) -> list[Asked]:
    """Return the request of each line; raise InvalidValue. Pure, but for seeds left open."""
    lines = [line.strip() for line in arguments.text(TEXT).splitlines() if line.strip()]
    if len(lines) > MOST_CELLS:
        raise InvalidValue.of("script_args", f"these are {len(lines)} lines; {MOST_CELLS} are the most")
    iterate, same = arguments.flag(ITERATE), arguments.flag(SAME_SEED)
    at_start = arguments.choice(POSITION, ("start", "end")) == "start"
    base = request
    if (iterate or same) and request.seed in (None, -1):
        base = msgspec.structs.replace(request, seed=draw_seed())
    found = []
    for line in lines:
        changes = line_options(line)
        model = changes.pop("sd_model", None)
        if model is not None:
            changes["override_settings"] = (base.override_settings or {}) | {CHECKPOINT: model}
        changes |= {name: _joined(changes[name], getattr(base, name), at_start) for name in PROMPTS if name in changes}
        found.append(msgspec.structs.replace(base, **changes))
        if iterate:
            step = (base.batch_size or 1) * (base.n_iter or 1)
            base = msgspec.structs.replace(base, seed=(base.seed or 0) + step)
    return found


async def run(stage: Stage, request: Asked, arguments: Arguments) -> Sheet:
    """Make the pictures of all lines."""
    asked = cells(request, arguments)
    await stage.announce(asked)
    made: list[Cell] = []
    for one in asked:
        if stage.stopped:
            break
        made.append(await stage.cell(one))
    return Sheet(files=[image for cell in made for image in cell.images], info=together(made))


def _options(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    place = 0
    while place < len(words):
        word = words[place]
        if not word.startswith("--"):
            raise ValueError(word)
        name = word[2:]
        if name in PROMPTS:
            end = place + 1
            while end < len(words) and not words[end].startswith("--"):
                end += 1
            found[name] = " ".join(words[place + 1 : end])
            place = end
            continue
        if name not in OPTIONS and name not in IGNORED:
            raise ValueError(name)
        if name in OPTIONS:
            found[name] = OPTIONS[name](words[place + 1])
        place += 2
    return found


def _joined(said: str, own: str | None, at_start: bool) -> str:
    if not said or not own:
        return said
    return f"{said} {own}" if at_start else f"{own} {said}"
