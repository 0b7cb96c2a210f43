"""The house's side door, `/hearth/v1`: all models with their state, jobs, memory; load, unload, rescan, cancel.

Speaks the house's own JSON; nothing here copies another project. When others reach the server and no key is set, it
answers the server's own machine only. Paths of the machine are not told.
"""

import time
from typing import Any

import msgspec
from litestar import Request, Router, get, post
from litestar.params import FromPath, JSONBody

from server.core.jobs import CancelMode, JobId, JobState
from server.core.memory import PoolId
from server.core.models import ImageFacts, ModelCard, TextFacts
from server.http.auth import local_only, owner_of
from server.http.house import answer
from server.service.service import JobView, ResidentView, Service

_ADMIN = {"admin": True}


class ResidentState(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model: `state` is loading, ready or leaving; bytes per pool; `idle_s` seconds since its last use."""

    state: str
    slots: int
    jobs: int
    pid: int | None
    idle_s: float
    resident: dict[PoolId, int]
    working: dict[PoolId, int]


class ModelState(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the folders; `broken` is the reason why it cannot be used, `loaded` how it stands in memory."""

    id: str
    name: str
    kind: str
    architecture: str
    size: int
    modified: int
    aliases: tuple[str, ...]
    broken: str | None
    sha256: str | None
    text: TextFacts | None
    image: ImageFacts | None
    loaded: ResidentState | None


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """All models, sorted by name."""

    models: list[ModelState]


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job; times are seconds before now. `step` of `steps` in pass `pass_index` of `passes` are 0 for text."""

    id: str
    kind: str
    model: str
    state: str
    owner: str
    tag: str
    position: int
    pass_index: int
    passes: int
    step: int
    steps: int
    arrived_ago: float
    started_ago: float | None
    ended_ago: float | None


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """Live jobs, oldest first, then ended ones, newest first; with keys, those of the caller's key."""

    jobs: list[JobRow]


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes per pool that loaded models may hold and do hold; bytes of the machine's RAM."""

    limits: dict[PoolId, int]
    used: dict[PoolId, int]
    ram_total: int
    ram_free: int


class NamedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The body of load and unload."""

    model: str


class HowToCancel(msgspec.Struct, frozen=True, kw_only=True):
    """The body of cancel: `stop` hands over what is there, `skip` ends this batch only, `abandon` drops it."""

    mode: CancelMode = CancelMode.STOP


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """Whether there was such a live job."""

    cancelled: bool


def router(service: Service, *, open_to_all: bool = False) -> Router:
    """Return the routes. `open_to_all`: others reach the server and no key is set."""
    door = _Admin(service)
    return Router(
        "/hearth/v1",
        route_handlers=door.handlers(),
        guards=[local_only] if open_to_all else [],
        exception_handlers={Exception: answer},
        tags=["house"],
    )


class _Admin:
    def __init__(self, service: Service) -> None:
        self._service = service

    def handlers(self) -> list[Any]:
        """Return the route handlers."""
        return [*self._reading(), *self._models_changing(), self._cancelling()]

    def _reading(self) -> list[Any]:
        service = self._service

        @get("/models", opt=_ADMIN, sync_to_thread=False)
        def models() -> Models:
            """List all models, broken ones with the reason, loaded ones with their state."""
            return self._models()

        @get("/jobs", opt=_ADMIN, sync_to_thread=False)
        def jobs(request: Request[Any, Any, Any]) -> Jobs:
            """List live and recent jobs."""
            now, owner = time.monotonic(), owner_of(request)
            return Jobs(jobs=[_row(view, now) for view in service.jobs() if view.owner == owner or not owner])

        @get("/memory", opt=_ADMIN, sync_to_thread=False)
        def memory() -> Memory:
            """Tell what loaded models may hold and do hold."""
            view = service.memory()
            return Memory(limits=view.limits, used=view.used, ram_total=view.ram_total, ram_free=view.ram_free)

        return [models, jobs, memory]

    def _models_changing(self) -> list[Any]:
        service = self._service

        @post("/models/load", opt=_ADMIN, status_code=200)
        async def load(data: JSONBody[NamedModel]) -> Models:
            """Load a model; answers when it is ready."""
            await service.load(data.model)
            return self._models()

        @post("/models/unload", opt=_ADMIN, status_code=200)
        async def unload(data: JSONBody[NamedModel]) -> Models:
            """Unload a model; answers when its memory is back."""
            await service.unload(data.model)
            return self._models()

        @post("/models/rescan", opt=_ADMIN, status_code=200)
        async def rescan() -> Models:
            """Read the model folders again."""
            await service.rescan()
            return self._models()

        return [load, unload, rescan]

    def _cancelling(self) -> Any:
        service = self._service

        @post("/jobs/{job:str}/cancel", opt=_ADMIN, status_code=200, sync_to_thread=False)
        def cancel(request: Request[Any, Any, Any], job: FromPath[str], data: JSONBody[HowToCancel]) -> Cancelled:
            """End a job early; with keys, only one of the caller's own."""
            owner = owner_of(request)
            live = (JobState.WAITING, JobState.RUNNING)
            mine = [view for view in service.jobs() if view.id == job and view.state in live]
            if not mine or (owner and mine[0].owner != owner):
                return Cancelled(cancelled=False)
            return Cancelled(cancelled=service.cancel(JobId(job), data.mode))

        return cancel

    def _models(self) -> Models:
        now = time.monotonic()
        residents = {view.model: view for view in self._service.memory().residents}
        return Models(models=[_state(card, residents.get(card.id), now) for card in self._service.models()])


def _state(card: ModelCard, resident: ResidentView | None, now: float) -> ModelState:
    return ModelState(
        id=card.id,
        name=card.name,
        kind=card.kind,
        architecture=card.architecture,
        size=card.size,
        modified=card.modified,
        aliases=card.aliases,
        broken=card.broken,
        sha256=card.sha256,
        text=card.text,
        image=card.image,
        loaded=None if resident is None else _resident(resident, now),
    )


def _resident(view: ResidentView, now: float) -> ResidentState:
    return ResidentState(
        state=view.state,
        slots=view.slots,
        jobs=view.jobs,
        pid=view.pid,
        idle_s=round(max(0.0, now - view.last_used), 3) if not view.jobs else 0.0,
        resident=view.footprint.resident,
        working=view.footprint.working,
    )


def _row(view: JobView, now: float) -> JobRow:
    def ago(moment: float | None) -> float | None:
        return None if moment is None else round(max(0.0, now - moment), 3)

    return JobRow(
        id=view.id,
        kind=view.kind,
        model=view.model,
        state=view.state,
        owner=view.owner,
        tag=view.tag,
        position=view.position,
        pass_index=view.pass_index,
        passes=view.passes,
        step=view.step,
        steps=view.steps,
        arrived_ago=ago(view.arrived) or 0.0,
        started_ago=ago(view.started),
        ended_ago=ago(view.ended),
    )
