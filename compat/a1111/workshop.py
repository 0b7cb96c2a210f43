"""What a request and a script have in common: choosing the checkpoint, planning, making, grids and saved files."""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from compat.a1111 import answer, checkpoints, convert, img2img, naming, wire
from compat.a1111.colours import colour_of
from compat.a1111.file_formats import Form, delivered, extension_of, form_of
from compat.a1111.interrogate import Captioner
from compat.a1111.making import Maker
from compat.a1111.options import CHECKPOINT, OptionStore, OptionValues
from compat.a1111.refusals import Refused, bad_image
from compat.a1111.runs import Run
from compat.a1111.saving import OutputFolder
from compat.a1111.scripts.menu import Menu
from compat.a1111.settings import A1111Settings
from compat.a1111.styles import StyleBook
from compat.a1111.upscalers import Upscaler, upscalers
from server.core.errors import BadImage
from server.core.image import ImageReady
from server.core.models import ModelCard, ModelKind
from server.core.pixels import GridRequest
from server.http.picture_files import kind_of
from server.http.png import add_text
from server.service.service import Service

logger = logging.getLogger(__name__)

Asked = wire.Txt2Img | wire.Img2Img


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A plan with its checkpoint. `ignored` names what was left out of the request."""

    plan: convert.Plan
    card: ModelCard
    ignored: tuple[str, ...] = ()

    @property
    def passes(self) -> int:
        """Return how many passes it takes, as `progress` counts them."""
        return self.plan.work.batches * (2 if self.plan.work.hires is not None else 1)

    @property
    def route(self) -> str:
        """Return the name of the route that such a request comes by."""
        return "txt2img" if self.plan.given is None else "img2img"


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One plan's pictures: their infotexts, and the files with these inside."""

    planned: Planned
    finished: answer.Finished
    texts: list[str]
    files: list[bytes]

    @property
    def images(self) -> list[bytes]:
        """Return the pictures, each followed by the masks that the request asks for."""
        pairs = zip(self.files, self.finished.pictures, strict=True)
        return [
            file for own, picture in pairs for file in (own, *further(self.planned.plan, picture, "return").values())
        ]

    def info(self) -> dict[str, Any]:
        """Return what the `info` string holds."""
        return answer.info(self.planned.plan, self.finished, self.texts)


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered: the files in order, and what the `info` string holds."""

    files: list[bytes]
    info: dict[str, Any]


class Workshop:
    """Plans and makes. Owned by the door; `folder` None saves nothing."""

    def __init__(
        self, service: Service, settings: A1111Settings, options: OptionStore, styles: StyleBook, maker: Maker
    ) -> None:
        self._service = service
        self._settings = settings
        self._options = options
        self._styles = styles
        self.maker = maker
        self.captioner = Captioner(service, settings)
        self.folder = OutputFolder(settings.output_dir) if settings.output_dir else None

    def selected(self) -> ModelCard | None:
        """Return the current checkpoint: the chosen one while it exists, else the default, else the first usable."""
        cards = self._service.models(ModelKind.CHECKPOINT)
        for name in (self._options.values().get(CHECKPOINT), self._settings.default_model):
            found = checkpoints.find(name, cards) if isinstance(name, str) and name else None
            if found is not None:
                return found
        usable = [card for card in cards if card.broken is None]
        return next(iter([*usable, *cards]), None)

    def upscalers(self) -> tuple[Upscaler, ...]:
        """Return the upscalers that can be used."""
        return upscalers(self._service.models(ModelKind.UPSCALER))

    def menu(self) -> Menu:
        """Return what axes of a plot may be set to."""
        cards = self._service.models
        return Menu(
            checkpoints=cards(ModelKind.CHECKPOINT),
            upscalers=tuple(one.name for one in self.upscalers()),
            vaes=tuple(card.name.replace("\\", "/").rsplit("/", 1)[-1] for card in cards(ModelKind.VAE)),
            styles=tuple(self._styles.all()),
        )

    def options(self) -> OptionValues:
        """Return the options as they are now."""
        return self._options.values()

    def current(self, overrides: Mapping[str, Any]) -> ModelCard:
        """Return the checkpoint of a request; one that is not known is passed over, as A1111 does.

        Raises:
            Refused: there is none at all.
        """
        wanted = overrides.get(CHECKPOINT)
        cards = self._service.models(ModelKind.CHECKPOINT)
        found = checkpoints.find(wanted, cards) if isinstance(wanted, str) else None
        card = found or self.selected()
        if card is None:
            raise Refused.raised("FileNotFoundError", "No checkpoints found", status=404)
        return card

    def context(self, card: ModelCard) -> convert.Context:
        """Return what a request for this checkpoint is read against."""
        models = self._service.models
        return convert.Context(
            model=card.id,
            model_file=card.files[0] if card.files else "",
            settings=self._settings,
            options=self._options.values(),
            styles=self._styles.all(),
            loras=models(ModelKind.LORA),
            embeddings=models(ModelKind.EMBEDDING),
            hypernetworks=models(ModelKind.HYPERNETWORK),
            controlnets=models(ModelKind.CONTROLNET),
            encoders=models(ModelKind.IMAGE_ENCODER),
            annotators=models(ModelKind.ANNOTATOR),
            vaes=models(ModelKind.VAE),
            upscalers=self.upscalers(),
            checkpoints=models(ModelKind.CHECKPOINT),
        )

    async def planned(self, request: Asked, more: Mapping[str, Any] = answer.NOTHING) -> Planned:
        """Decide a request. `more` are entries for its infotext.

        Raises:
            InvalidValue, Unsupported, Refused: as `convert.plan` and `img2img.plan`.
        """
        card = self.current(request.override_settings or {})
        context = self.context(card)
        # in a thread: a prompt may be 64 KiB of brackets
        plan = await asyncio.to_thread(_decided, request, context)
        if more:
            plan = msgspec.structs.replace(plan, more=more)
        return Planned(plan=plan, card=card, ignored=(*plan.ignored, *self._unknown_override(request)))

    async def cell(self, planned: Planned, *, owner: str, tag: str = "", run: Run | None = None) -> Cell:
        """Make a plan's pictures, and save them when that is asked for.

        Raises:
            Refused: an init picture is none.
            ServerError: what the job ended with.
        """
        await asyncio.to_thread(self._keep_init, planned.plan)
        try:
            finished = await self.maker.pictures(planned.plan, planned.card, owner=owner, tag=tag, run=run)
        except BadImage as error:
            raise (error if planned.plan.given is None else bad_image(error)) from None
        return await asyncio.to_thread(cell_of, planned, finished)

    async def keep(self, cell: Cell, files: list[bytes] | None = None, *, owner: str) -> bool:
        """Save pictures where the request and the options want that; tell whether it went well.

        `files` are saved in place of the cell's own.
        """
        plan = cell.planned.plan
        if not self._saves(plan) or not plan.options.flag("samples_save"):
            return True
        form = form_of(plan.options)
        saved = [(index, "", file) for index, file in enumerate(files)] if files is not None else to_save(cell)
        written = await delivered([file for _, _, file in saved], form, self.maker, owner=owner)
        named = [(index, suffix, file) for (index, suffix, _), file in zip(saved, written, strict=True)]
        return await asyncio.to_thread(self._keep, cell, named, form)

    async def keep_grid(self, cell: Cell, grid: bytes, base: str = "grid", *, owner: str) -> bool:
        """Save a grid of pictures that begins with the cell's first one; tell whether it went well."""
        plan = cell.planned.plan
        if not self._saves(plan) or not plan.options.flag("grid_save"):
            return True
        place = naming.of_grid(plan.options, cell.planned.route, facts_of(cell, 0), base)
        form = form_of(plan.options, "grid_format")
        (written,) = await delivered([grid], form, self.maker, owner=owner)
        return await asyncio.to_thread(self._save, place, written, form, None)

    def form(self, request: Asked) -> Form:
        """Return the format of a request's pictures; raise Refused when the options name none that is known."""
        options = self.options().with_overrides(request.override_settings or {})
        form_of(options, "grid_format")
        return form_of(options)

    async def grid(self, work: GridRequest, text: str, options: OptionValues, *, owner: str, run: Run | None) -> bytes:
        """Have pictures put side by side; `text` is the grid's infotext. Raise what the job ended with."""
        coloured = msgspec.structs.replace(work, background=colour_of(options.text("grid_background_color")))
        (grid,) = await self.maker.pixels(coloured, owner=owner, run=run)
        return add_text(grid, {"parameters": text}) if options.flag("enable_pnginfo") else grid

    def _saves(self, plan: convert.Plan) -> bool:
        return plan.request.save_images and self.folder is not None

    def _keep(self, cell: Cell, files: list[tuple[int, str, bytes]], form: Form) -> bool:
        options = cell.planned.plan.options
        went_well = True
        for index, suffix, file in files:
            place = naming.of_sample(options, cell.planned.route, facts_of(cell, index), suffix)
            text = cell.texts[min(index, len(cell.texts) - 1)] if cell.texts else ""
            went_well = self._save(place, file, form, text if options.flag("save_txt") else None) and went_well
        if cell.texts and self.folder is not None:
            try:
                self.folder.remember(cell.texts[0])
            except OSError as error:
                logger.warning("params.txt could not be written: %s", error.strerror or error)
        return went_well

    def _keep_init(self, plan: convert.Plan) -> None:
        """Save the pictures that a request begins with, where the options want that."""
        if plan.given is None or plan.given.digest is None or self.folder is None:
            return
        for file in plan.given.init.images:
            place = naming.of_init(plan.options, img2img.digest_of(file))
            try:
                self.folder.keep(place, file, extension=_extension(file))
            except OSError as error:
                logger.warning("an init picture could not be saved: %s", error.strerror or error)

    def _save(self, place: naming.Place, file: bytes, form: Form, text: str | None) -> bool:
        if self.folder is None:
            return True
        try:
            self.folder.save(place, file, extension=extension_of(file, form), text=text)
        except OSError as error:
            logger.warning("a picture could not be saved: %s", error.strerror or error)
            return False
        return True

    def _unknown_override(self, request: Asked) -> tuple[str, ...]:
        wanted = (request.override_settings or {}).get(CHECKPOINT)
        if wanted is None:
            return ()
        cards = self._service.models(ModelKind.CHECKPOINT)
        known = isinstance(wanted, str) and checkpoints.find(wanted, cards) is not None
        return () if known else (f"override_settings.{CHECKPOINT}",)


def cell_of(planned: Planned, finished: answer.Finished) -> Cell:
    """Return finished pictures with their texts. Pure; large files are copied."""
    texts = answer.infotexts(planned.plan, finished)
    told = planned.plan.options.flag("enable_pnginfo")
    pairs = zip(finished.pictures, texts, strict=True)
    files = [add_text(picture.png, {"parameters": text}) if told else picture.png for picture, text in pairs]
    return Cell(planned=planned, finished=finished, texts=texts, files=files)


def further(plan: convert.Plan, picture: ImageReady, purpose: Literal["return", "save"]) -> dict[str, bytes]:
    """Return a picture's mask and composite, as far as an option asks for them for this purpose, by name."""
    inpaint = None if plan.work.init is None else plan.work.init.inpaint
    if inpaint is None:
        return {}
    names = [
        name for name, made in (("mask", inpaint.return_mask), ("mask-composite", inpaint.return_composite)) if made
    ]
    option = {name: f"{purpose}_{name.replace('-', '_')}" for name in names}
    pairs = zip(names, picture.further, strict=False)
    return {name: file for name, file in pairs if plan.options.flag(option[name])}


def to_save(cell: Cell) -> list[tuple[int, str, bytes]]:
    """Return what is saved of a cell: for each file the picture's number and the end of the name.

    What an interrupt left unfinished is not, unless the option says so.
    """
    plan, finished = cell.planned.plan, cell.finished
    pairs = list(zip(cell.files, finished.pictures, strict=True))
    if finished.interrupted and pairs and not plan.options.flag("save_incomplete_images"):
        last = pairs[-1][1].index // plan.work.batch_size
        pairs = [pair for pair in pairs if pair[1].index // plan.work.batch_size != last]
    saved = []
    for file, picture in pairs:
        saved.append((picture.index, "", file))
        masks = further(plan, picture, "save")
        saved += [(picture.index, f"-{name}", mask) for name, mask in masks.items()]
    return saved


def sheet_of(cell: Cell) -> Sheet:
    """Return what is answered when one plan is all that was asked for: pictures with their masks, then the maps."""
    return Sheet(files=[*cell.images, *cell.finished.maps], info=cell.info())


def answered(request: Asked, sheet: Sheet) -> wire.ImagesAnswer:
    """Return the answer to a request. Pure; base64 of pictures takes a while."""
    images = [base64.b64encode(file).decode("ascii") for file in sheet.files if request.send_images]
    parameters: dict[str, Any] = msgspec.to_builtins(request)
    if isinstance(request, wire.Img2Img) and not request.include_init_images:
        parameters |= {"init_images": None, "mask": None}
    return wire.ImagesAnswer(images=images, parameters=parameters, info=json.dumps(sheet.info))


def facts_of(cell: Cell, index: int) -> naming.Facts:
    """Return what file names may tell of a cell's picture."""
    plan, finished = cell.planned.plan, cell.finished
    seeds, _ = answer.all_seeds(plan)
    picture = next((one for one in finished.pictures if one.index == index), None)
    return naming.Facts(
        seed=seeds[index] if index < len(seeds) else plan.seed,
        prompt=plan.texts.prompt,
        index=index,
        width=plan.size.width if picture is None else picture.width,
        height=plan.size.height if picture is None else picture.height,
        steps=plan.work.denoise.steps,
        cfg_scale=plan.work.denoise.cfg_scale,
        sampler=plan.sampling.sampler.name,
        schedule=plan.sampling.schedule.label,
        model_name=finished.card.stem,
        model_hash=checkpoints.short_hash(finished.card) or "",
        styles=tuple(plan.request.styles or ()),
        batch_size=plan.work.batch_size,
        clip_skip=plan.work.text.clip_skip,
        denoising=plan.request.denoising_strength,
        at=time.mktime(time.strptime(finished.timestamp, "%Y%m%d%H%M%S")) if finished.timestamp else time.time(),
    )


def _extension(file: bytes) -> str:
    others = {b"GIF8": "gif", b"BM": "bmp"}
    return kind_of(file) or next((name for start, name in others.items() if file.startswith(start)), "img")


def _decided(request: Asked, context: convert.Context) -> convert.Plan:
    if isinstance(request, wire.Img2Img):
        return img2img.plan(request, context)
    return convert.plan(request, context)
