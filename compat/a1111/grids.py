"""The grid of an ordinary request: made when pictures are saved, shown if options say so."""

from collections.abc import Iterator

from compat.a1111.options import OptionValues
from compat.a1111.runs import Run
from compat.a1111.workshop import Cell, Sheet, Workshop
from server.core.pixels import GridRequest

MOST_BYTES = 60 * 1024 * 1024
"""Of all pictures of a grid: what fits in one message to a worker."""


async def gridded(workshop: Workshop, cell: Cell, run: Run) -> tuple[Sheet, bool]:
    """Return the cell's pictures with their grid where there is to be one, and whether the grid's file was kept."""
    files, info = cell.images, cell.info()
    options = cell.planned.plan.options
    fits = sum(map(len, files)) <= MOST_BYTES
    few = len(files) < 2 and options.flag("grid_only_if_multiple")
    wanted = options.flag("return_grid") or options.flag("grid_save")
    if not files or few or not wanted or not fits or run.stopped:
        return Sheet(files=files, info=info), True
    text = cell.texts[0]
    rows = rows_of(options, len(files), cell.planned.plan.work.batch_size)
    work = GridRequest(pictures=tuple(files), columns=-(-len(files) // rows))
    grid = await workshop.grid(work, text, options, owner=run.owner, run=run)
    kept = await workshop.keep_grid(cell, grid, owner=run.owner)
    if not options.flag("return_grid"):
        return Sheet(files=files, info=info), kept
    info |= {"index_of_first_image": 1, "infotexts": [text, *cell.texts]}
    return Sheet(files=[grid, *files], info=info), kept


def rows_of(options: OptionValues, count: int, batch_size: int) -> int:
    """Return the rows of an ordinary grid (`n_rows`). Pure."""
    asked = options.integer("n_rows", -1, 1000)
    if asked > 0:
        rows = asked
    elif asked == 0:
        rows = batch_size
    elif options.flag("grid_prevent_empty_spots"):
        rows = next(_divisors(count))
    else:
        rows = round(count**0.5)
    return max(min(rows, count), 1)


def _divisors(count: int) -> Iterator[int]:
    return (rows for rows in range(int(count**0.5), 0, -1) if count % rows == 0)
