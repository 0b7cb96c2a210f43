"""The door itself: A1111's one user's worth of state (options, styles, the current checkpoint), and what it does.

The core knows no current model; every request leaves here with the checkpoint it names.
"""

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from compat.a1111 import checkpoints, checks, pasting, postprocess, wire
from compat.a1111.addresses import Addresses
from compat.a1111.file_formats import delivered
from compat.a1111.grids import gridded
from compat.a1111.making import Maker
from compat.a1111.options import CHECKPOINT, CHECKPOINT_HASH, OptionStore
from compat.a1111.postprocess_wire import BatchAnswer, BatchExtras, SingleAnswer, SingleExtras
from compat.a1111.progress import Notes, pictures_of, to_end
from compat.a1111.refusals import unknown_checkpoint
from compat.a1111.runs import Runs
from compat.a1111.scripts import table
from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.stage import Stage
from compat.a1111.settings import A1111Settings
from compat.a1111.styles import StyleBook
from compat.a1111.workshop import Asked, Sheet, Workshop, answered, sheet_of
from server.core.jobs import CancelMode
from server.core.models import ModelCard, ModelKind
from server.service.service import Service

logger = logging.getLogger(__name__)

_TELLABLE = re.compile(r"[A-Za-z0-9_.:+' -]{1,80}")
_MOST_TOLD = 64


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, and the names of what was left out of the request, fit for a header."""

    answer: wire.ImagesAnswer
    ignored: tuple[str, ...] = ()


class Door:
    """Everything a handler may ask for. One object per server; used in the event loop's thread."""

    def __init__(self, service: Service, settings: A1111Settings) -> None:
        self.service = service
        self.settings = settings
        self.options = OptionStore(settings.options_file)
        self.styles = StyleBook(settings.styles_files)
        self.notes = Notes()
        self.runs = Runs()
        self.addresses = Addresses(settings)
        maker = Maker(service, settings, self.notes)
        self.workshop = Workshop(service, settings, self.options, self.styles, maker)
        self._saving = asyncio.Lock()
        self._told: set[str] = set()

    def selected(self) -> ModelCard | None:
        """Return the current checkpoint."""
        return self.workshop.selected()

    def shown_options(self) -> dict[str, Any]:
        """Return `GET options`: the current checkpoint's title is never null while there is a checkpoint."""
        card = self.selected()
        shown = self.options.shown()
        shown[CHECKPOINT] = None if card is None else checkpoints.title(card)
        shown[CHECKPOINT_HASH] = (card.sha256 if card is not None else None) or ""
        return shown

    async def set_options(self, changes: Mapping[str, Any]) -> None:
        """Do `POST options`: another checkpoint is loaded first, and nothing is applied if that fails.

        Raises:
            UnknownModel, and what loading raises.
        """
        taken = dict(changes)
        wanted = taken.pop(CHECKPOINT, None)
        if wanted is not None:
            card = self._named(wanted)
            now = self.selected()
            if now is None or now.id != card.id:
                await self.service.load(card.id)
            taken[CHECKPOINT] = card.name
        self.options.update(taken)
        async with self._saving:
            try:
                await asyncio.to_thread(self.options.save)
            except OSError as error:
                logger.warning("the options could not be written: %s", error)

    async def unload(self) -> None:
        """Do `unload-checkpoint`: end the processes of all checkpoints; raise ModelBusy while one works."""
        for resident in self.service.memory().residents:
            if resident.kind is ModelKind.CHECKPOINT:
                await self.service.unload(resident.model)

    async def reload(self) -> None:
        """Do `reload-checkpoint`: load the current one; raise what loading raises."""
        await self.service.load(self.workshop.current({}).id)

    def end(self, mode: CancelMode, owner: str) -> None:
        """Do `interrupt` (STOP) and `skip`: the caller's running picture jobs; later ones are not touched.

        A script whose job is interrupted begins no further one.
        """
        ended = set()
        for view in to_end(pictures_of(self.service.jobs(), owner)):
            if self.service.cancel(view.id, mode):
                self.notes.ended(view.id, mode)
                ended.add(view.id)
        if mode is CancelMode.STOP:
            self.runs.stop(owner, ended)

    async def make(self, request: Asked, owner: str, sent: Iterable[str] = ()) -> Made:
        """Do txt2img or img2img. Cancelling this coroutine abandons its jobs.

        `sent` are the fields that the client sent: an infotext fills the others.

        Raises:
            InvalidValue, Unsupported, Refused: as `convert.plan` and `img2img.plan`; an unknown script; a picture that
                turns out to be none.
            ServerError: what a job ended with.
        """
        filled = await self._filled(await self.addresses.fetched(request), sent)
        form = self.workshop.form(filled)
        if filled.script_name:
            sheet, ignored, kept = await self._scripted(filled, owner)
        else:
            sheet, ignored, kept = await self._plain(filled, owner)
        if request.save_images and self.workshop.folder is None:
            ignored = (*ignored, "save_images")
        if not kept:
            sheet.info["save_error"] = "pictures could not be written; the server's log says why"
        if request.send_images:
            files = await delivered(sheet.files, form, self.workshop.maker, owner=owner)
            sheet = msgspec.structs.replace(sheet, files=files)
        made = await asyncio.to_thread(answered, filled, sheet)  # base64 of pictures
        return Made(answer=made, ignored=self._tell(ignored))

    async def caption(self, asked: wire.InterrogateRequest, owner: str) -> wire.CaptionAnswer:
        """Do `interrogate`; raise as `Captioner.answer`."""
        asked = await self.addresses.fetched(asked)
        return await self.workshop.captioner.answer(asked, self.options.values(), owner)

    async def extras(self, asked: SingleExtras | BatchExtras, owner: str) -> SingleAnswer | BatchAnswer:
        """Enlarge finished pictures.

        Raises:
            Unreadable, Refused, Unsupported: as `postprocess.chosen`.
            ServerError: what a job ended with.
        """
        choice = postprocess.chosen(asked, self.workshop.upscalers(), self.options.values())
        asked = await self.addresses.fetched(asked)
        count = len(postprocess.entries(asked)) if isinstance(asked, BatchExtras) else 1
        with self.runs.opened(owner=owner, label=postprocess.LABEL, total=count * choice.jobs) as run:
            if isinstance(asked, SingleExtras):
                return await postprocess.single(asked, choice, self.workshop.maker, run)
            return await postprocess.batch(asked, choice, self.workshop.maker, run)

    async def _filled(self, request: Asked, sent: Iterable[str]) -> Asked:
        if not request.infotext:
            return request
        stored, styles = self.options.values(), tuple(self.styles.all().values())
        return await asyncio.to_thread(pasting.fill, request, sent, stored, styles)

    async def _plain(self, request: Asked, owner: str) -> tuple[Sheet, tuple[str, ...], bool]:
        planned = await self.workshop.planned(request)
        self._keep_overrides(request)
        tag = request.force_task_id or ""
        if not request.save_images:
            cell = await self.workshop.cell(planned, owner=owner, tag=tag)
            return sheet_of(cell), (*planned.ignored, *cell.finished.ignored), True
        with self.runs.opened(owner=owner, tag=tag, label="", total=planned.passes) as run:
            cell = await self.workshop.cell(planned, owner=owner, run=run)
            kept = await self.workshop.keep(cell, owner=owner)
            sheet, grid_kept = await gridded(self.workshop, cell, run)
            sheet.files.extend(cell.finished.maps)
            return sheet, (*planned.ignored, *cell.finished.ignored), kept and grid_kept

    async def _scripted(self, request: Asked, owner: str) -> tuple[Sheet, tuple[str, ...], bool]:
        route = "img2img" if isinstance(request, wire.Img2Img) else "txt2img"
        script = table.find(request.script_name or "", route)
        arguments = Arguments(request.script_args, script.defaults)
        tag = request.force_task_id or ""
        with self.runs.opened(owner=owner, tag=tag, label=f"scripts_{route}", total=1) as run:
            stage = Stage(self.workshop, run)
            sheet = await script.run(
                stage, msgspec.structs.replace(request, script_name=None, script_args=[]), arguments
            )
            self._keep_overrides(request)
            return sheet, tuple(stage.ignored), stage.kept

    def _keep_overrides(self, request: Asked) -> None:
        """Let a request's settings hold from now on, where it does not want them restored; no file is written.

        As in A1111, a null and a checkpoint that is not known change nothing, and other clients work with them, too.
        """
        overrides = request.override_settings or {}
        if request.override_settings_restore_afterwards or not overrides:
            return
        taken = {name: value for name, value in overrides.items() if value is not None and checks.known(name)}
        wanted = taken.pop(CHECKPOINT, None)
        cards = self.service.models(ModelKind.CHECKPOINT)
        card = checkpoints.find(wanted, cards) if isinstance(wanted, str) else None
        if card is not None:
            taken[CHECKPOINT] = card.name
        self.options.update(taken)

    def _named(self, wanted: object) -> ModelCard:
        name = str(wanted)
        card = checkpoints.find(name, self.service.models(ModelKind.CHECKPOINT))
        if card is None:
            raise unknown_checkpoint(name)
        return card

    def _tell(self, ignored: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names that may stand in a header; log each of them once."""
        names = tuple(dict.fromkeys(name for name in ignored if _TELLABLE.fullmatch(name)))[:_MOST_TOLD]
        fresh = [name for name in names if name not in self._told]
        if fresh and len(self._told) < 1000:
            self._told.update(fresh)
            logger.info("parts of requests that have no effect here: %s", ", ".join(fresh))
        return names
