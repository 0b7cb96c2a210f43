"""What a script works with: it asks for cells, grids and work on pixels, one after the other, and answers a sheet."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from compat.a1111.answer import NOTHING
from compat.a1111.convert import draw_seed
from compat.a1111.runs import Run
from compat.a1111.scripts.menu import Menu
from compat.a1111.workshop import Asked, Cell, Planned, Workshop
from server.core.errors import InvalidValue
from server.core.pixels import GridRequest, PixelWork
from server.http.png import add_text

MOST_CELLS = 1000
MOST_GRID_BYTES = 60 * 1024 * 1024
"""Of all pictures of a grid: what fits in one message to a worker."""


class Stage:
    """The jobs of one request with a script.

    `ignored` gathers what was left out; `kept` is False once a file could not be written.
    """

    def __init__(self, workshop: Workshop, run: Run) -> None:
        self.workshop = workshop
        self.run = run
        self.ignored: dict[str, None] = {}
        self.kept = True

    @property
    def stopped(self) -> bool:
        """Tell whether the script was interrupted: no further job may begin."""
        return self.run.stopped

    def menu(self) -> Menu:
        """Return what axes of a plot may be set to."""
        return self.workshop.menu()

    async def announce(self, requests: Sequence[Asked]) -> None:
        """Decide all requests to come, so that the last one's mistake is told before the first is made.

        Raises:
            InvalidValue, Unsupported, Refused: what is wrong with one of them, or they are too many.
        """
        if not requests:
            raise InvalidValue.of("script_args", "the script has nothing to do")
        if len(requests) > MOST_CELLS:
            raise InvalidValue.of("script_args", f"these are {len(requests)} requests; {MOST_CELLS} are the most")
        self.run.total = sum([(await self.workshop.planned(request)).passes for request in requests])

    async def cell(
        self,
        request: Asked,
        more: Mapping[str, Any] = NOTHING,
        *,
        keep: bool = True,
        latent_mask: bytes | None = None,
    ) -> Cell:
        """Make a request's pictures; `more` are entries for the infotext. `keep` saves them where that is wanted.

        `latent_mask` takes the place of the request's mask in latents.
        """
        planned = await self.workshop.planned(request, more)
        if latent_mask is not None:
            planned = masked(planned, latent_mask)
        self.ignored |= dict.fromkeys(planned.ignored)
        cell = await self.workshop.cell(planned, owner=self.run.owner, run=self.run)
        self.ignored |= dict.fromkeys(cell.finished.ignored)
        if keep:
            await self.keep(cell)
        return cell

    async def keep(self, cell: Cell, files: list[bytes] | None = None) -> None:
        """Save a cell's pictures, or `files` in their place."""
        self.kept = await self.workshop.keep(cell, files, owner=self.run.owner) and self.kept

    async def pixels(self, work: PixelWork, *, quiet: bool = False) -> list[bytes]:
        """Have work on pixels done; `quiet` work does not count as one of the run's passes."""
        done = self.run.done
        try:
            return await self.workshop.maker.pixels(work, owner=self.run.owner, run=self.run)
        finally:
            if quiet:
                self.run.done = done

    async def grid(self, work: GridRequest, first: Cell, text: str) -> bytes:
        """Return a grid; it is made even when the script was interrupted.

        Raises:
            InvalidValue: its pictures are too large together.
        """
        if sum(map(len, work.pictures)) > MOST_GRID_BYTES:
            raise InvalidValue.of("script_args", f"the pictures of a grid are more than {MOST_GRID_BYTES} bytes")
        options = first.planned.plan.options
        return await self.workshop.grid(work, text, options, owner=self.run.owner, run=self.run)

    async def keep_grid(self, cell: Cell, grid: bytes, base: str = "grid") -> None:
        """Save a grid where that is wanted."""
        self.kept = await self.workshop.keep_grid(cell, grid, base, owner=self.run.owner) and self.kept


def masked(planned: Planned, latent_mask: bytes) -> Planned:
    """Return a plan of an inpainting with another mask for latents."""
    plan = planned.plan
    init = plan.work.init
    assert init is not None
    assert init.inpaint is not None
    init = msgspec.structs.replace(init, inpaint=msgspec.structs.replace(init.inpaint, latent_mask=latent_mask))
    work = msgspec.structs.replace(plan.work, init=init)
    return msgspec.structs.replace(planned, plan=msgspec.structs.replace(plan, work=work))


def told(cell: Cell, picture: bytes) -> bytes:
    """Return a picture with the cell's infotext in it, where options want that."""
    text = cell.texts[0] if cell.texts else ""
    return add_text(picture, {"parameters": text}) if cell.planned.plan.options.flag("enable_pnginfo") else picture


def seeded(request: Asked) -> Asked:
    """Return the request with the seeds drawn that it leaves open, so that all cells have the same."""
    changes = {
        name: draw_seed()
        for name in ("seed", "subseed")
        if getattr(request, name) is None or getattr(request, name) == -1
    }
    return msgspec.structs.replace(request, **changes) if changes else request


def together(cells: Sequence[Cell], **changes: Any) -> dict[str, Any]:
    """Return the `info` of several cells: the first's, with the lists of all."""
    infos = [cell.info() for cell in cells]
    told = dict(infos[0])
    for name in ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds", "infotexts"):
        told[name] = [entry for one in infos for entry in one[name]]
    return told | changes
