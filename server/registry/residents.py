"""Which models are loaded: one worker process each. The hall's loop alone changes them."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

import msgspec

from server.core.errors import LoadFailed, ServerError
from server.core.jobs import CancelMode, JobId, Outcome, Work
from server.core.memory import Footprint, readable
from server.core.models import AdapterFacts, LoadedFacts, LoadSettings, ModelCard, ModelId, ModelKind
from server.registry.spare import SparePlace
from server.workers.supervisor import STOP_GRACE_S, Worker

logger = logging.getLogger(__name__)


class ResidentView(msgspec.Struct, frozen=True, kw_only=True):
    """How a loaded model stands. `state` is loading, ready or leaving; `last_used` is monotonic seconds.

    `context` is tokens per slot, 0 until it is known. `adapters` are those that a text model was loaded with.
    """

    model: ModelId
    kind: ModelKind
    state: str
    slots: int
    jobs: int
    pid: int | None
    footprint: Footprint
    last_used: float
    context: int = 0
    adapters: tuple[AdapterFacts, ...] = ()


class Resident:
    """A card with the worker that holds it. `leaving` once somebody asked it to."""

    def __init__(self, card: ModelCard, worker: Worker) -> None:
        self.card = card
        self.worker = worker
        self.facts: LoadedFacts | None = None
        self.leaving = False


OnOutcomes = Callable[[ModelId, list[Outcome]], None]
OnDeath = Callable[[ModelId, str, list[str]], None]


class Residents:
    """Owns the workers.

    `on_outcomes` gets what they send; `on_death` an end that nobody asked for, with the last lines of output. `spare`
    is a worker without a model.
    """

    def __init__(self, *, on_outcomes: OnOutcomes, on_death: OnDeath, stop_grace_s: float = STOP_GRACE_S) -> None:
        self.spare = SparePlace()
        self._on_outcomes = on_outcomes
        self._on_death = on_death
        self._stop_grace_s = stop_grace_s
        self._by_model: dict[ModelId, Resident] = {}

    def get(self, model: ModelId) -> Resident | None:
        """Return a loading or loaded model."""
        return self._by_model.get(model)

    async def load(self, card: ModelCard, settings: LoadSettings, *, use_spare: bool = False) -> LoadedFacts:
        """Start a worker, or take the spare, and load the model into it.

        Its death is told only after `watch`, so that it comes in order. A spare that dies meanwhile is replaced by a
        new worker: it may have been near its end before.

        Raises:
            ServerError: what the engine said; the process has ended by then. It has also when this is cancelled.
        """
        spare = self.spare.take() if use_spare else None
        if spare is not None:
            spare.engage(card.id, on_outcomes=partial(self._on_outcomes, card.id))
            resident = Resident(card, spare)
            try:
                return await self._load(resident, settings)
            except LoadFailed:
                if resident.leaving or not spare.ended_loading:
                    raise
        worker = await Worker.spawn(card.id, on_outcomes=partial(self._on_outcomes, card.id))
        return await self._load(Resident(card, worker), settings)

    async def _load(self, resident: Resident, settings: LoadSettings) -> LoadedFacts:
        card, worker = resident.card, resident.worker
        model = card.id
        began = time.monotonic()
        self._by_model[model] = resident
        try:
            resident.facts = await worker.load(card, settings)
        except BaseException as error:
            if not isinstance(error, ServerError):
                # Nobody waits for it any more, and a child that is loading does not listen.
                worker.kill()
            await worker.stop(self._stop_grace_s)
            self._forget(resident)
            if isinstance(error, ServerError):
                logger.warning("model=%s could not be loaded: %s; last lines: %s", model, error, worker.tail()[-20:])
            raise
        held = sum(resident.facts.footprint.resident.values())
        logger.info("loaded model=%s in %.1f s using %s", model, time.monotonic() - began, readable(held))
        return resident.facts

    def watch(self, model: ModelId) -> None:
        """Have the death of a loaded model told from now on; at once when it has died since `load` returned."""
        resident = self._by_model.get(model)
        if resident is not None:
            resident.worker.when_gone(partial(self._gone, resident))

    async def leave(self, model: ModelId) -> bool:
        """End the model's process and return when its memory is back; False when its death has been told before."""
        resident = self._by_model.get(model)
        if resident is None:
            return False
        resident.leaving = True
        await resident.worker.stop(self._stop_grace_s)
        self._forget(resident)
        logger.info("unloaded model=%s", model)
        return True

    def run(self, model: ModelId, job: JobId, work: Work) -> None:
        """Give a job to the model's worker; a worker that has just died tells it by its death.

        Raises:
            ProtocolError: the job is too large to travel.
        """
        resident = self._by_model.get(model)
        if resident is not None:
            resident.worker.run(job, work)

    def cancel(self, model: ModelId, job: JobId, mode: CancelMode) -> None:
        """Ask the model's worker for an early end of a job."""
        resident = self._by_model.get(model)
        if resident is not None:
            resident.worker.cancel(job, mode)

    def kill(self, model: ModelId) -> None:
        """End a worker that does not answer; its death is told like any other."""
        resident = self._by_model.get(model)
        if resident is not None:
            resident.worker.kill()

    async def close(self) -> None:
        """End every worker, all at the same time."""
        await asyncio.gather(self.spare.leave(), *(self.leave(model) for model in list(self._by_model)))

    def _forget(self, resident: Resident) -> None:
        # By identity: the model's next worker may have taken the place.
        if self._by_model.get(resident.card.id) is resident:
            del self._by_model[resident.card.id]

    def _gone(self, resident: Resident, how: str) -> None:
        self._forget(resident)
        if resident.leaving:
            return
        model, tail = resident.card.id, resident.worker.tail()
        logger.error("model=%s pid=%d died: %s; last lines: %s", model, resident.worker.pid, how, tail[-20:])
        self._on_death(model, how, tail)
