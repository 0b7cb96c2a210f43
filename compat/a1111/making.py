"""A plan becomes pictures: submitted to the house, collected, with what the answer needs to know of them."""

import asyncio
from typing import Any

from compat.a1111 import answer, checkpoints, convert
from compat.a1111.extras import Hashes, clean
from compat.a1111.fingerprints import Fingerprints
from compat.a1111.networks import Mentioned, mentioned_embeddings
from compat.a1111.progress import Clock, Note, Notes
from compat.a1111.runs import Run
from compat.a1111.settings import A1111Settings
from server.core.errors import Cancelled, UnknownModel
from server.core.image import ImageFinished, ImageReady
from server.core.jobs import CancelMode
from server.core.models import ModelCard, ModelKind
from server.core.pixels import PixelWork
from server.service.service import JobStream, Service


class Maker:
    """Runs plans and work on pixels. Owned by the door; cancelling a call abandons its job."""

    def __init__(self, service: Service, settings: A1111Settings, notes: Notes) -> None:
        self._service = service
        self._settings = settings
        self._notes = notes
        self._fingerprints = Fingerprints()

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
            card=self._again(card),
            timestamp=clock.stamp(clock.monotonic),
            version=self._settings.version,
            hashes=hashes,
            padded=end.padded,
            blank_mask=end.blank_mask,
            refined=end.refined,
            maps=end.maps,
        )

    async def pixels(self, work: PixelWork, *, owner: str, run: Run | None = None) -> list[bytes]:
        """Do work on pixels and return the files (PNG).

        Raises:
            Cancelled: it was interrupted before it was done.
            ServerError: what the job ended with.
        """
        pictures, end = await self._collected(work, Note(), owner, "", run)
        if end.reason == "stopped" or not pictures:
            raise Cancelled("the work was interrupted before it was done", mode=CancelMode.STOP)
        return [picture.png for picture in pictures]

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

    def _again(self, card: ModelCard) -> ModelCard:
        """Return the card as it is now: its hash is computed while the model loads."""
        try:
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
