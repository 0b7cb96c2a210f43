"""Which models are loaded: one worker process each. The hall's loop alone changes them."""

import logging
import time
from collections.abc import Callable

import msgspec

from server.core.errors import ServerError
from server.core.jobs import CancelMode, JobId, Outcome, Work
from server.core.memory import Footprint
from server.core.models import LoadedFacts, LoadSettings, ModelCard, ModelId, ModelKind
from server.workers.supervisor import Worker

logger = logging.getLogger(__name__)


class ResidentView(msgspec.Struct, frozen=True, kw_only=True):
    """How a loaded model stands. `state` is loading, ready or leaving; `last_used` is monotonic seconds."""

    model: ModelId
    kind: ModelKind
    state: str
    slots: int
    jobs: int
    pid: int | None
    footprint: Footprint
    last_used: float


class Resident:
    """A card with the worker that holds it."""

    def __init__(self, card: ModelCard, worker: Worker) -> None:
        self.card = card
        self.worker = worker
        self.facts: LoadedFacts | None = None


OnOutcomes = Callable[[ModelId, list[Outcome]], None]
OnDeath = Callable[[ModelId, str, list[str]], None]


class Residents:
    """Owns the workers.

    `on_outcomes` gets what they send; `on_death` an end that nobody asked for, with the last lines of output.
    """

    def __init__(self, *, on_outcomes: OnOutcomes, on_death: OnDeath) -> None:
        self._on_outcomes = on_outcomes
        self._on_death = on_death
        self._by_model: dict[ModelId, Resident] = {}
        self._leaving: set[ModelId] = set()

    def get(self, model: ModelId) -> Resident | None:
        """Return a loading or loaded model."""
        return self._by_model.get(model)

    async def load(self, card: ModelCard, settings: LoadSettings) -> LoadedFacts:
        """Start a worker and load the model into it.

        Raises:
            ServerError: what the engine said; the process has ended by then.
        """
        model = card.id
        began = time.monotonic()
        worker = await Worker.spawn(model, on_outcomes=lambda items: self._on_outcomes(model, items))
        resident = Resident(card, worker)
        self._by_model[model] = resident
        try:
            resident.facts = await worker.load(card, settings)
        except BaseException as error:
            await worker.stop()
            self._by_model.pop(model, None)
            if isinstance(error, ServerError):
                logger.warning("model=%s could not be loaded: %s; last lines: %s", model, error, worker.tail()[-5:])
            raise
        held = sum(resident.facts.footprint.resident.values())
        logger.info("loaded model=%s in %.1f s using %.2f GiB", model, time.monotonic() - began, held / 1024**3)
        worker.when_gone(lambda how: self._gone(model, how))
        return resident.facts

    async def leave(self, model: ModelId) -> bool:
        """End the model's process and return when its memory is back; False when its death has been told before."""
        resident = self._by_model.get(model)
        if resident is None:
            return False
        self._leaving.add(model)
        await resident.worker.stop()
        logger.info("unloaded model=%s", model)
        return True

    def run(self, model: ModelId, job: JobId, work: Work) -> None:
        """Give a job to the model's worker; a worker that has just died tells it by its death."""
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
        """End every worker."""
        for model in list(self._by_model):
            await self.leave(model)

    def _gone(self, model: ModelId, how: str) -> None:
        resident = self._by_model.pop(model, None)
        if model in self._leaving:
            self._leaving.discard(model)
        elif resident is not None:
            tail = resident.worker.tail()
            logger.error("model=%s pid=%d died: %s; last lines: %s", model, resident.worker.pid, how, tail[-20:])
            self._on_death(model, how, tail)
