"""The whole of what a door may do."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from server.core.errors import InvalidValue, QueueFull, ShuttingDown, UnknownModel
from server.core.image import ImageRequest
from server.core.jobs import CancelMode, JobId, Work
from server.core.memory import MemoryBudget, PoolId
from server.core.models import AdapterFacts, ModelCard, ModelId, ModelKind
from server.core.pixels import MapRequest, PixelWork
from server.core.text import AdapterScale
from server.registry.built_in import PIXELS
from server.registry.residents import ResidentView
from server.service.adapters import AdapterScales
from server.service.board import JobView
from server.service.live import named
from server.service.loop import Loop
from server.service.stream import JobStream
from server.service.totals import TextTotals

__all__ = ["JobStream", "JobView", "MemoryView", "ResidentView", "Service", "TextTotals"]

LOADABLE = (ModelKind.TEXT, ModelKind.CHECKPOINT, ModelKind.UPSCALER, ModelKind.ANNOTATOR)

MachineRam = Callable[[], tuple[int, int]]
"""Returns total and free bytes of the machine's memory."""


class MemoryView(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes per pool: what loaded models may hold, what they hold, and the machine's RAM."""

    limits: dict[PoolId, int]
    used: dict[PoolId, int]
    ram_total: int
    ram_free: int
    residents: tuple[ResidentView, ...]


class Shelf(Protocol):
    """What the hall asks of the catalog."""

    def cards(self, *kinds: ModelKind) -> tuple[ModelCard, ...]:
        """Return the cards of these kinds, of all with none given."""
        ...

    def find(self, name: str, *kinds: ModelKind) -> ModelCard:
        """Return the card of that id, name or alias; raise UnknownModel."""
        ...

    def scan(self) -> object:
        """Read the folders again; may block."""
        ...


class Service:
    """Every verb a door may use. Owns nothing but its place in front of catalog and loop, and what was set there."""

    def __init__(
        self, catalog: Shelf, loop: Loop, *, budget: MemoryBudget, queue_limit: int, machine_ram: MachineRam
    ) -> None:
        self._catalog = catalog
        self._loop = loop
        self._budget = budget
        self._queue_limit = queue_limit
        self._machine_ram = machine_ram
        self._accepting = True
        self._scales = AdapterScales()

    @property
    def accepting(self) -> bool:
        """Tell whether new work is taken."""
        return self._accepting

    def models(self, *kinds: ModelKind) -> tuple[ModelCard, ...]:
        """Return all cards of these kinds (of all with none given), broken ones too, sorted by name."""
        return self._catalog.cards(*kinds)

    def find(self, name: str, *kinds: ModelKind) -> ModelCard:
        """Return the card of that id, name or alias; raise UnknownModel with close matches."""
        return self._catalog.find(name, *kinds)

    def submit(self, work: Work, *, owner: str = "", tag: str = "") -> JobStream:
        """Accept work for the model it names and return its stream.

        Raises:
            UnknownModel, InvalidValue: no such model, of another kind, or broken.
            QueueFull, ShuttingDown: not now.
        """
        if not self._accepting:
            raise ShuttingDown("the server is shutting down", retry_after=10)
        card = self._card(work)
        if self._loop.board.waiting >= self._queue_limit:
            text = f"{self._queue_limit} requests are waiting already; try again in a moment"
            raise QueueFull(text, retry_after=5)
        work = self._scales.into(work, card.id, lambda: self._loop.adapters(card))
        return self._loop.submit(card, named(work, card.id, owner), owner=owner, tag=tag)

    def adapters(self, model: str) -> tuple[AdapterFacts, ...]:
        """Return the adapters of a text model in the order in which requests count them; raise UnknownModel."""
        card = self._catalog.find(model, ModelKind.TEXT)
        return self._scales.told(card.id, self._loop.adapters(card))

    def set_adapters(self, model: str, scales: Sequence[AdapterScale]) -> None:
        """Let these adapters of a text model act on all requests from now on that name none, and no other.

        Raises:
            UnknownModel: no such model.
            InvalidValue: it has no such adapter, or that cannot be used.
        """
        card = self._catalog.find(model, ModelKind.TEXT)
        self._scales.set(card.id, scales, self._loop.adapters(card))

    async def load(self, model: str) -> None:
        """Return when the model is ready; raise UnknownModel, InvalidValue, DoesNotFit or LoadFailed."""
        await self._loop.load(self._loadable(model, *LOADABLE))

    async def fingerprint(self, model: str) -> None:
        """Return once the hashes are known that the model's pictures carry (`find` has them); raise UnknownModel.

        They are computed when a model has been loaded for the first time, beside its first job.
        """
        await self._loop.fingerprint(self._catalog.find(model))

    async def unload(self, model: str) -> None:
        """Return when the model's process is gone; raise ModelBusy while jobs run on it."""
        await self._loop.unload(self._resident(model))

    async def rescan(self) -> None:
        """Read the model folders again."""
        await asyncio.to_thread(self._catalog.scan)

    def jobs(self) -> tuple[JobView, ...]:
        """Return live jobs, oldest first, then ended ones, newest first."""
        return self._loop.board.views()

    def totals(self) -> TextTotals:
        """Return what all text jobs since the start of the server have used."""
        return self._loop.board.totals

    def cancel(self, job: JobId, mode: CancelMode) -> bool:
        """End a job early; False when there is no such live job."""
        return self._loop.cancel(job, mode)

    def memory(self) -> MemoryView:
        """Return who holds what."""
        total, free = self._machine_ram()
        return MemoryView(
            limits=dict(self._budget.limits),
            used=self._loop.used(),
            ram_total=total,
            ram_free=free,
            residents=self._loop.residents(),
        )

    def stop_accepting(self) -> None:
        """Refuse new work from now on."""
        self._accepting = False

    def _card(self, work: Work) -> ModelCard:
        """Return the model that the work names, of the kind that can do it."""
        if isinstance(work, PixelWork):
            kind = ModelKind.ANNOTATOR if isinstance(work, MapRequest) else ModelKind.UPSCALER
            return PIXELS if work.model == PIXELS.id else self._loadable(work.model, kind)
        return self._loadable(work.model, ModelKind.CHECKPOINT if isinstance(work, ImageRequest) else ModelKind.TEXT)

    def _resident(self, name: str) -> ModelId:
        try:
            return self._catalog.find(name, *LOADABLE).id
        except UnknownModel:
            # A model whose file has gone since it was loaded is known by its id alone.
            for resident in self._loop.residents():
                if resident.model == name:
                    return resident.model
            raise

    def _loadable(self, name: str, *kinds: ModelKind) -> ModelCard:
        try:
            card = self._catalog.find(name, *kinds)
        except UnknownModel:
            other = self._other_kind(name)
            if other is None:
                raise
            text = f"model {name!r} is a {other.kind} model; this request needs a {' or '.join(kinds)} model"
            raise InvalidValue.of("model", text) from None
        if card.broken is not None:
            raise InvalidValue.of("model", f"model {name!r} cannot be used: {card.broken}")
        return card

    def _other_kind(self, name: str) -> ModelCard | None:
        try:
            return self._catalog.find(name)
        except UnknownModel:
            return None
