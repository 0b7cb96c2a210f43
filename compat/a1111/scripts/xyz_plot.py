"""X/Y/Z plot: a picture for each triple of values, as grids side by side.

Returned are the whole grid, then (when asked for) the grid of each z value, then (when asked for) the pictures. Cells
of dear axes are made together: a checkpoint is loaded once, whatever axis it stands on.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from compat.a1111 import answer
from compat.a1111.convert import draw_seed
from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.menu import Menu
from compat.a1111.scripts.stage import MOST_CELLS, Stage, seeded, together
from compat.a1111.scripts.xyz_axes import NOTHING, SEEDS, Axis, axes_of
from compat.a1111.workshop import Asked, Cell, Sheet
from server.core.errors import InvalidValue
from server.core.pixels import Caption, GridRequest

TYPES, VALUES, DROPDOWNS = (0, 3, 6), (1, 4, 7), (2, 5, 8)
LEGEND, LONE_IMAGES, SUB_GRIDS, NO_FIXED_SEEDS = 9, 10, 11, 12
VARY = (13, 14, 15)
MARGIN, AS_TEXT = 16, 17
DEFAULTS = (
    *("Seed", "", None, NOTHING, "", None, NOTHING, "", None),
    *(True, False, False, False, False, False, False, 0, False),
)
TITLE = "X/Y/Z plot"
LETTERS = ("X", "Y", "Z")

Place = tuple[int, int, int]
Titles = tuple[tuple[Caption, ...], ...]


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """The script's arguments, with the axes' values; `written` are those as the request has them."""

    axes: tuple[Axis, Axis, Axis]
    values: tuple[list[Any], list[Any], list[Any]]
    written: tuple[str, str, str]
    legend: bool
    lone_images: bool
    sub_grids: bool
    fixed_seeds: bool
    vary: tuple[bool, bool, bool]
    margin: int

    @property
    def sizes(self) -> Place:
        """Return how many values each axis has."""
        x, y, z = (len(values) for values in self.values)
        return x, y, z

    def index(self, place: Place) -> int:
        """Return where a cell stands among all: x runs fastest."""
        x, y, z = place
        return x + y * self.sizes[0] + z * self.sizes[0] * self.sizes[1]

    def order(self) -> list[Place]:
        """Return all cells in the order in which they are made: the dearest axis changes least often."""
        ranked = sorted(range(3), key=lambda axis: -self.axes[axis].cost)
        ranges = [range(self.sizes[axis]) for axis in ranked]
        places = []
        for chosen in itertools.product(*ranges):
            by_axis = dict(zip(ranked, chosen, strict=True))
            places.append((by_axis[0], by_axis[1], by_axis[2]))
        return places


def plot_of(arguments: Arguments, route: str, menu: Menu, draw: Callable[[], int] = draw_seed) -> Plot:
    """Read the arguments.

    Raises:
        InvalidValue: values that cannot be read, or too many cells.
        Unsupported: an axis that is not offered.
    """
    offered = axes_of(route)
    as_text = arguments.flag(AS_TEXT)
    fixed = not arguments.flag(NO_FIXED_SEEDS)
    axes, values, written = [], [], []
    for kind, text, dropdown in zip(TYPES, VALUES, DROPDOWNS, strict=True):
        axis = offered[arguments.index(kind, [one.label for one in offered])]
        chosen = arguments.texts(dropdown)
        found = axis.values(arguments.text(text), chosen, as_text=as_text, menu=menu)
        if fixed and axis.label in SEEDS:
            found = [draw() if value == -1 else value for value in found]
        listed = axis.listed is not None and bool(chosen) and not as_text
        axes.append(axis)
        values.append(found)
        written.append(", ".join(chosen) if listed else arguments.text(text))
    count = len(values[0]) * len(values[1]) * len(values[2])
    if count > MOST_CELLS:
        raise InvalidValue.of("script_args", f"these are {count} cells; {MOST_CELLS} are the most")
    return Plot(
        axes=(axes[0], axes[1], axes[2]),
        values=(values[0], values[1], values[2]),
        written=(written[0], written[1], written[2]),
        legend=arguments.flag(LEGEND),
        lone_images=arguments.flag(LONE_IMAGES),
        sub_grids=arguments.flag(SUB_GRIDS),
        fixed_seeds=fixed,
        vary=(arguments.flag(VARY[0]), arguments.flag(VARY[1]), arguments.flag(VARY[2])),
        margin=arguments.integer(MARGIN, 0, 500),
    )


def cell_request(request: Asked, plot: Plot, place: Place) -> Asked:
    """Return the request of a cell; raise InvalidValue. Pure."""
    for axis, values, at in zip(plot.axes, plot.values, place, strict=True):
        if axis.change is not None:
            request = axis.change(request, values[at], values)
    if any(plot.vary):
        step, seed = 1, request.seed or 0
        for varies, at, size in zip(plot.vary, place, plot.sizes, strict=True):
            seed += at * step if varies else 0
            step *= size if varies else 1
        request = msgspec.structs.replace(request, seed=seed)
    return request


def entries(plot: Plot) -> dict[str, Any]:
    """Return what the infotext of the grid says of the script. Pure."""
    told: dict[str, Any] = {"Script": TITLE}
    for letter, axis, written, values in zip(LETTERS, plot.axes, plot.written, plot.values, strict=True):
        if axis.label == NOTHING:
            continue
        told |= {f"{letter} Type": axis.label, f"{letter} Values": written}
        if axis.label in SEEDS and plot.fixed_seeds:
            told[f"Fixed {letter} Values"] = ", ".join(str(value) for value in values)
    return told


async def run(stage: Stage, request: Asked, arguments: Arguments) -> Sheet:
    """Make all cells and their grids."""
    route = "txt2img" if not hasattr(request, "init_images") else "img2img"
    plot = plot_of(arguments, route, stage.menu())
    base = seeded(request) if plot.fixed_seeds else request
    order = plot.order()
    await stage.announce([cell_request(base, plot, place) for place in order])
    made: dict[int, Cell] = {}
    for place in order:
        if stage.stopped:
            break
        made[plot.index(place)] = await stage.cell(cell_request(base, plot, place))
    shown = {index: cell for index, cell in made.items() if cell.files}
    cells = [made[index] for index in sorted(made)]
    if not shown:
        return Sheet(files=[], info=together(cells))
    return await _sheet(stage, plot, shown)


async def _sheet(stage: Stage, plot: Plot, shown: dict[int, Cell]) -> Sheet:
    first = shown[min(shown)]
    text = _grid_text(first, plot)
    across, down, deep = plot.sizes
    count = across * down
    grids = []
    for z in range(deep):
        pictures = [shown[k].files[0] if k in shown else b"" for k in range(z * count, (z + 1) * count)]
        work = GridRequest(
            pictures=tuple(pictures),
            columns=across,
            margin=plot.margin,
            column_titles=_titles(plot, 0) if plot.legend else (),
            row_titles=_titles(plot, 1) if plot.legend else (),
        )
        grids.append(await stage.grid(work, first, text) if any(pictures) else b"")
    whole = grids[0]
    if deep > 1:
        side_by_side = GridRequest(
            pictures=tuple(grids), columns=deep, column_titles=_titles(plot, 2) if plot.legend else ()
        )
        whole = await stage.grid(side_by_side, first, text)
    await stage.keep_grid(first, whole, "xyz_grid")
    sub_grids = [grid for grid in grids if grid] if plot.sub_grids else []
    if deep > 1:
        for grid in sub_grids:
            await stage.keep_grid(first, grid, "xyz_grid")
    cells = [shown[index] for index in sorted(shown)]
    info = _info(cells, [text] * (1 + len(sub_grids)))
    lone = [cell.files[0] for cell in cells] if plot.lone_images else []
    return Sheet(files=[whole, *sub_grids, *lone], info=info)


def _info(cells: Sequence[Cell], texts: list[str]) -> dict[str, Any]:
    infos = [cell.info() for cell in cells]
    told = dict(infos[0])
    for name in ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds"):
        told[name] = [one[name][0] for one in infos]
    told["infotexts"] = [*texts, *(cell.texts[0] for cell in cells)]
    return told | {"index_of_first_image": 1}


def _grid_text(first: Cell, plot: Plot) -> str:
    return answer.infotexts(first.planned.plan, first.finished, behind=entries(plot))[0]


def _titles(plot: Plot, axis: int) -> Titles:
    return tuple((Caption(plot.axes[axis].title(value)),) for value in plot.values[axis])
