"""Prompt matrix: `a|b|c` is a picture for each choice of the parts behind the first, and a grid of all of them.

| prompt | pictures, with a comma |
|---|---|
| `a cat|in snow|at night` | `a cat`, `a cat, in snow`, `a cat, at night`, `a cat, in snow, at night` |
"""

from collections.abc import Sequence

import msgspec

from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.stage import Stage, seeded, together
from compat.a1111.workshop import Asked, Cell, Sheet
from server.core.errors import InvalidValue
from server.core.pixels import Caption, GridRequest

AT_START, DIFFERENT_SEEDS, WHICH, JOINT, MARGIN = range(5)
DEFAULTS = (False, False, "positive", "comma", 0)

MOST_PARTS = 9
JOINTS = {"comma": ", ", "space": " "}


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """The script's arguments."""

    at_start: bool
    different_seeds: bool
    which: str
    joint: str
    margin: int


def choices_of(arguments: Arguments) -> Choices:
    """Read the arguments; raise InvalidValue."""
    return Choices(
        at_start=arguments.flag(AT_START),
        different_seeds=arguments.flag(DIFFERENT_SEEDS),
        which=arguments.choice(WHICH, ("positive", "negative")),
        joint=JOINTS[arguments.choice(JOINT, tuple(JOINTS))],
        margin=arguments.integer(MARGIN, 0, 500),
    )


def prompts(parts: Sequence[str], choices: Choices) -> list[str]:
    """Return the prompts, in the order of the binary numbers whose digits choose parts. Pure."""
    found = []
    for number in range(1 << (len(parts) - 1)):
        chosen = [part.strip().strip(",") for digit, part in enumerate(parts[1:]) if number >> digit & 1]
        found.append(choices.joint.join([*chosen, parts[0]] if choices.at_start else [parts[0], *chosen]))
    return found


def cells(request: Asked, choices: Choices) -> list[Asked]:
    """Return the request of each picture; raise InvalidValue for too many parts. Pure, but for seeds left open."""
    field = "prompt" if choices.which == "positive" else "negative_prompt"
    parts = (getattr(request, field) or "").split("|")
    if len(parts) > MOST_PARTS:
        raise InvalidValue.of(field, f"a matrix of {len(parts) - 1} parts; {MOST_PARTS - 1} are the most")
    fixed = seeded(request)
    return [
        msgspec.structs.replace(
            fixed,
            **{field: prompt},
            seed=(fixed.seed or 0) + (number if choices.different_seeds else 0),
            subseed=(fixed.subseed or 0) + number,
            batch_size=1,
            n_iter=1,
        )
        for number, prompt in enumerate(prompts(parts, choices))
    ]


def titles(parts: Sequence[str], count: int) -> tuple[tuple[tuple[Caption, ...], ...], tuple[tuple[Caption, ...], ...]]:
    """Return the titles of columns and rows: the first half of the parts varies across, the rest down. Pure."""
    texts = [part.strip() for part in parts[1:]]
    half = -(-len(texts) // 2)
    across, down = texts[:half], texts[half:]
    columns = _active(across)
    rows = _active(down)
    return columns, rows[: -(-count // len(columns))]


async def run(stage: Stage, request: Asked, arguments: Arguments) -> Sheet:
    """Make the pictures and their grid."""
    choices = choices_of(arguments)
    asked = cells(request, choices)
    await stage.announce(asked)
    made: list[Cell] = []
    for one in asked:
        if stage.stopped:
            break
        made.append(await stage.cell(one))
    files = [file for cell in made for file in cell.files]
    info = together(made, batch_size=request.batch_size)
    if not files:
        return Sheet(files=[], info=info)
    field = "prompt" if choices.which == "positive" else "negative_prompt"
    columns, rows = titles((getattr(request, field) or "").split("|"), len(asked))
    pictures = tuple(files) + (b"",) * (len(asked) - len(files))
    work = GridRequest(
        pictures=pictures, columns=len(columns), margin=choices.margin, column_titles=columns, row_titles=rows
    )
    text = info["infotexts"][0]
    grid = await stage.grid(work, made[0], text)
    await stage.keep_grid(made[0], grid, "prompt_matrix")
    return Sheet(files=[grid, *files], info=info | {"index_of_first_image": 1, "infotexts": [text, *info["infotexts"]]})


def _active(texts: Sequence[str]) -> tuple[tuple[Caption, ...], ...]:
    return tuple(
        tuple(Caption(text, active=bool(number >> digit & 1)) for digit, text in enumerate(texts))
        for number in range(1 << len(texts))
    )
