"""A plan becomes pictures: submitted to the house, collected, with what the answer needs to know of them."""

import asyncio
from typing import Any

from compat.a1111 import answer, checkpoints, convert
from compat.a1111.enlarged import Enlarged, key_of
from compat.a1111.extras import Hashes, clean
from compat.a1111.fingerprints import Fingerprints
from compat.a1111.networks import Mentioned, mentioned_embeddings
from compat.a1111.progress import Clock, Note, Notes
from compat.a1111.runs import Run
from compat.a1111.settings import A1111Settings
from server.core.errors import Cancelled, InvalidValue, UnknownModel
from server.core.image import ImageFinished, ImageReady
from server.core.jobs import CancelMode
from server.core.models import ModelCard, ModelKind
from server.core.pixels import PixelWork, UpscaleRequest
from server.service.service import JobStream, Service

MOST_BYTES = 512 * 1024 * 1024
"""Of all files of a request: what fits in one message to a worker."""


LEFT_OUT = {
    "sampler": "sampler_name",
    "schedule": "scheduler",
    "churn": "s_churn",
    "min_uncond": "s_min_uncond",
    "vae": "options.sd_vae",
    "clip_skip": "options.CLIP_stop_at_last_layers",
    "sigma_min": "options.sigma_min",
    "sigma_max": "options.sigma_max",
    "rho": "options.rho",
}
"""Names here of what an engine may leave out; the others are called alike."""


class Maker:
    """Runs plans and work on pixels. Owned by the door; cancelling a call abandons its job."""

    def __init__(self, service: Service, settings: A1111Settings, notes: Notes) -> None:
        self._service = service
        self._settings = settings
        self._notes = notes
        self._fingerprints = Fingerprints()
        self._enlarged = Enlarged()

    async def pictures(
        self, plan: convert.Plan, card: ModelCard, *, owner: str, tag: str = "", run: Run | None = None
    ) -> answer.Finished:
        """Make a plan's pictures; an interrupted job's are those it has.

        Raises:
            ServerError: what the job ended with.
        """
        clock = Clock.now()
        passes = 2 if plan.work.hires is not None else 1
        note = Note(batches=plan.work.batches, passes_per_batch=passes)
        hashing = asyncio.ensure_future(asyncio.to_thread(self._hashes, plan))
        try:
            pictures, end = await self._collected(plan.work, note, owner, tag, run)
            hashes = await hashing
        finally:
            hashing.cancel()
        return answer.Finished(
            pictures=pictures,
            card=await self._fingerprinted(card),
            timestamp=clock.stamp(clock.monotonic),
            version=self._settings.version,
            hashes=hashes,
            padded=end.padded,
            blank_mask=end.blank_mask,
            refined=end.refined,
            maps=end.maps,
            interrupted=end.reason == "stopped",
            ignored=tuple(LEFT_OUT.get(name, name) for name in end.ignored),
        )

    async def pixels(self, work: PixelWork, *, owner: str, run: Run | None = None) -> list[bytes]:
        """Do work on pixels and return the files.

        Raises:
            Cancelled: it was interrupted before it was done.
            InvalidValue: its pictures are too large together to be handed to a worker.
            ServerError: what the job ended with.
        """
        if bytes_of(work) > MOST_BYTES:
            raise InvalidValue.of("pictures", f"the pictures are more than {MOST_BYTES} bytes together")
        pictures, end = await self._collected(work, Note(), owner, "", run)
        if end.reason == "stopped" or not pictures:
            raise Cancelled("the work was interrupted before it was done", mode=CancelMode.STOP)
        return [picture.data for picture in pictures]

    async def enlarged(self, work: UpscaleRequest, *, owner: str, run: Run, most: int) -> bytes:
        """Enlarge one picture, or return what came of it before: the last `most` results are kept.

        Raises:
            Cancelled, InvalidValue, ServerError: as `pixels`.
        """
        key = await asyncio.to_thread(key_of, work)
        found = self._enlarged.get(key)
        if found is not None:
            run.done += 1
            return found
        (made,) = await self.pixels(work, owner=owner, run=run)
        self._enlarged.put(key, made, most=most)
        return made

    async def _collected(
        self, work: Any, note: Note, owner: str, tag: str, run: Run | None
    ) -> tuple[list[ImageReady], ImageFinished]:
        stream = self._service.submit(work, owner=owner, tag=tag or (run.tag if run is not None else ""))
        self._notes.put(stream.job, note if run is None else _within(note, run))
        if run is not None:
            run.job = stream.job
        try:
            async with stream:
                return await _collect(stream)
        finally:
            if run is not None:
                run.job = None
                run.done += note.batches * note.passes_per_batch

    async def _fingerprinted(self, card: ModelCard) -> ModelCard:
        """Return the card with its hash, which was computed beside the first pictures, if this is the first load."""
        try:
            await self._service.fingerprint(card.id)
            return self._service.find(card.id, ModelKind.CHECKPOINT)
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


def bytes_of(work: PixelWork) -> int:
    """Return the bytes of all files in a request. Pure."""
    values = (getattr(work, name) for name in work.__struct_fields__)
    files = (file for value in values for file in (value if isinstance(value, tuple) else (value,)))
    return sum(len(file) for file in files if isinstance(file, bytes))


def _within(note: Note, run: Run) -> Note:
    """Return the note of a job that is one of a run's."""
    return Note(
        batches=note.batches,
        passes_per_batch=note.passes_per_batch,
        label=run.label,
        before=run.done,
        total=max(run.total, 1),
    )


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
