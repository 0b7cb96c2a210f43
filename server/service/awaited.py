"""Who waits for a model to come or to leave, without a job of their own."""

import asyncio

from server.core.errors import ServerError
from server.core.jobs import JobId
from server.core.models import ModelId

Done = asyncio.Future[None]


class Awaited:
    """Owns the futures; those that nobody waits for any more are settled without harm."""

    def __init__(self) -> None:
        self._loads: dict[JobId, tuple[ModelId, Done]] = {}
        self._unloads: dict[ModelId, list[Done]] = {}

    def __contains__(self, job: JobId) -> bool:
        return job in self._loads

    @property
    def loads(self) -> int:
        """Return how many wait for a model to come."""
        return len(self._loads)

    def load(self, job: JobId, model: ModelId) -> Done:
        """Return what ends when the model is there; `job` is the name under which the scheduler knows of it."""
        done: Done = asyncio.get_running_loop().create_future()
        self._loads[job] = (model, done)
        return done

    def unload(self, model: ModelId) -> Done:
        """Return what ends when the model is gone."""
        done: Done = asyncio.get_running_loop().create_future()
        self._unloads.setdefault(model, []).append(done)
        return done

    def forget(self, job: JobId) -> bool:
        """Forget who waits for a model to come; tell whether it was still waited for."""
        return self._loads.pop(job, None) is not None

    def load_ended(self, job: JobId, error: ServerError | None = None) -> None:
        """End one wait for a model to come."""
        found = self._loads.pop(job, None)
        if found is not None:
            _settle(found[1], error)

    def came(self, model: ModelId) -> None:
        """Tell all who wait for a model to come; their jobs are granted later."""
        for wanted, done in self._loads.values():
            if wanted == model:
                _settle(done)

    def left(self, model: ModelId, error: ServerError | None = None) -> None:
        """Tell all who wait for a model to leave that it has, or why it does not."""
        for done in self._unloads.pop(model, []):
            _settle(done, error)

    def close(self, error: ServerError) -> None:
        """End all waits."""
        for _, done in self._loads.values():
            _settle(done, error)
        for model in list(self._unloads):
            self.left(model, error)


def _settle(done: Done, error: ServerError | None = None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
