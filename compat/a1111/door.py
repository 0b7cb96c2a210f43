"""The door itself: A1111's one user's worth of state (options, styles, the current checkpoint), and what it does.

The core knows no current model; every request leaves here with the checkpoint it names.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from compat.a1111 import answer, checkpoints, convert, img2img, wire
from compat.a1111.extras import Hashes, clean
from compat.a1111.fingerprints import Fingerprints
from compat.a1111.networks import Mentioned, mentioned_embeddings
from compat.a1111.options import CHECKPOINT, CHECKPOINT_HASH, OptionStore
from compat.a1111.progress import Clock, Note, Notes, pictures_of, to_end
from compat.a1111.refusals import Refused, bad_image, unknown_checkpoint
from compat.a1111.settings import A1111Settings
from compat.a1111.styles import StyleBook
from compat.a1111.upscalers import upscalers
from server.core.errors import BadImage, Cancelled, UnknownModel
from server.core.image import ImageFinished, ImageReady
from server.core.jobs import CancelMode
from server.core.models import ModelCard, ModelKind
from server.service.service import JobStream, Service

logger = logging.getLogger(__name__)

Asked = TypeVar("Asked", wire.Txt2Img, wire.Img2Img)

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
        self._fingerprints = Fingerprints()
        self._saving = asyncio.Lock()
        self._told: set[str] = set()

    def selected(self) -> ModelCard | None:
        """Return the current checkpoint: the chosen one while it exists, else the default, else the first usable."""
        cards = self.service.models(ModelKind.CHECKPOINT)
        for name in (self.options.values().get(CHECKPOINT), self.settings.default_model):
            found = checkpoints.find(name, cards) if isinstance(name, str) and name else None
            if found is not None:
                return found
        usable = [card for card in cards if card.broken is None]
        return next(iter([*usable, *cards]), None)

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
        await self.service.load(self._current({}).id)

    def end(self, mode: CancelMode, owner: str) -> None:
        """Do `interrupt` (STOP) and `skip`: the caller's running picture jobs; later ones are not touched."""
        for view in to_end(pictures_of(self.service.jobs(), owner)):
            if self.service.cancel(view.id, mode):
                self.notes.ended(view.id, mode)

    async def txt2img(self, request: wire.Txt2Img, owner: str) -> Made:
        """Make pictures. Cancelling this coroutine abandons the job.

        Raises:
            InvalidValue, Unsupported, Refused: as `convert.plan`.
            ServerError: what the job ended with.
        """
        return await self._make(request, convert.plan, owner)

    async def img2img(self, request: wire.Img2Img, owner: str) -> Made:
        """Make pictures from pictures, as `txt2img` does.

        Raises:
            InvalidValue, Unsupported, Refused: as `img2img.plan`, and for a picture that turns out to be none.
            ServerError: what the job ended with.
        """
        try:
            return await self._make(request, img2img.plan, owner)
        except BadImage as error:
            raise bad_image(error) from None

    async def _make(self, request: Asked, decide: Callable[[Asked, convert.Context], convert.Plan], owner: str) -> Made:
        card = self._current(request.override_settings or {})
        # in a thread: a prompt may be 64 KiB of brackets
        context = self._context(card)
        plan: convert.Plan = await asyncio.to_thread(lambda: decide(request, context))
        clock = Clock.now()
        stream = self.service.submit(plan.work, owner=owner, tag=request.force_task_id or "")
        passes = 2 if plan.work.hires is not None else 1
        self.notes.put(stream.job, Note(batches=plan.work.batches, passes_per_batch=passes))
        hashing = asyncio.ensure_future(asyncio.to_thread(self._hashes, plan))
        try:
            async with stream:
                pictures, end = await _collect(stream)
            hashes = await hashing
        finally:
            hashing.cancel()
        finished = answer.Finished(
            pictures=pictures,
            card=self._again(card),
            timestamp=clock.stamp(clock.monotonic),
            version=self.settings.version,
            hashes=hashes,
            padded=end.padded,
            blank_mask=end.blank_mask,
        )
        ignored = (*plan.ignored, *self._unknown_override(request))
        made = await asyncio.to_thread(answer.from_core, plan, finished)  # base64 of pictures
        return Made(answer=made, ignored=self._tell(ignored))

    def _context(self, card: ModelCard) -> convert.Context:
        models = self.service.models
        return convert.Context(
            model=card.id,
            model_file=card.files[0] if card.files else "",
            settings=self.settings,
            options=self.options.values(),
            styles=self.styles.all(),
            loras=models(ModelKind.LORA),
            embeddings=models(ModelKind.EMBEDDING),
            hypernetworks=models(ModelKind.HYPERNETWORK),
            vaes=models(ModelKind.VAE),
            upscalers=upscalers(models(ModelKind.UPSCALER)),
        )

    def _current(self, overrides: Mapping[str, Any]) -> ModelCard:
        """Return the checkpoint of a request; one that is not known is passed over, as A1111 does."""
        wanted = overrides.get(CHECKPOINT)
        cards = self.service.models(ModelKind.CHECKPOINT)
        found = checkpoints.find(wanted, cards) if isinstance(wanted, str) else None
        card = found or self.selected()
        if card is None:
            raise Refused.raised("FileNotFoundError", "No checkpoints found", status=404)
        return card

    def _unknown_override(self, request: wire.Txt2Img | wire.Img2Img) -> tuple[str, ...]:
        wanted = (request.override_settings or {}).get(CHECKPOINT)
        if wanted is None:
            return ()
        cards = self.service.models(ModelKind.CHECKPOINT)
        known = isinstance(wanted, str) and checkpoints.find(wanted, cards) is not None
        return () if known else (f"override_settings.{CHECKPOINT}",)

    def _named(self, wanted: object) -> ModelCard:
        name = str(wanted)
        card = checkpoints.find(name, self.service.models(ModelKind.CHECKPOINT))
        if card is None:
            raise unknown_checkpoint(name)
        return card

    def _again(self, card: ModelCard) -> ModelCard:
        """Return the card as it is now: its hash is computed while the model loads."""
        try:
            return self.service.find(card.id, ModelKind.CHECKPOINT)
        except UnknownModel:
            return card

    def _hashes(self, plan: convert.Plan) -> Hashes:
        """Return the hashes that the infotext names. Reads files: runs in a thread."""
        options = plan.options
        loras = plan.loras if options.flag("lora_add_hashes_to_infotext") else ()
        named: list[Mentioned] = []
        if options.flag("textual_inversion_add_hashes_to_infotext"):
            for text in (plan.texts.prompt, plan.texts.negative):
                named += mentioned_embeddings(text, plan.embeddings)
        vae = None if plan.vae is None else self._fingerprints.of(plan.vae)
        digits = None if vae is None else vae[: checkpoints.SHORT]
        return Hashes(loras=self._digests(loras), embeddings=self._digests(named), vae=digits)

    def _digests(self, mentioned: tuple[Mentioned, ...] | list[Mentioned]) -> tuple[tuple[str, str], ...]:
        pairs = ((clean(one), self._fingerprints.of(one.card)) for one in mentioned)
        return tuple((name, digest) for name, digest in pairs if digest is not None)

    def _tell(self, ignored: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names that may stand in a header; log each of them once."""
        names = tuple(dict.fromkeys(name for name in ignored if _TELLABLE.fullmatch(name)))[:_MOST_TOLD]
        fresh = [name for name in names if name not in self._told]
        if fresh and len(self._told) < 1000:
            self._told.update(fresh)
            logger.info("parts of requests that have no effect here: %s", ", ".join(fresh))
        return names


async def _collect(stream: JobStream) -> tuple[list[ImageReady], ImageFinished]:
    """Return a job's pictures in order, and what its end told; an interrupted job's are those it has."""
    pictures: list[ImageReady] = []
    end = ImageFinished(reason="stopped")
    try:
        async for event in stream:
            match event:
                case ImageReady():
                    pictures.append(event)
                case ImageFinished():
                    end = event
                case _:
                    pass
    except Cancelled:
        pass
    return sorted(pictures, key=lambda picture: picture.index), end
