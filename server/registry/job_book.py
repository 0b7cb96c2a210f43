"""What jobs were measured to take, kept from one run of the server to the next."""

from collections.abc import Mapping
from pathlib import Path

from server.core.image import ImageRequest
from server.core.memory import PoolId
from server.registry.job_memory import shape_of
from server.registry.statefile import read_state, write_state

REMEMBERED = 2000

MARGIN = 1.05
"""What the next job of the same shape may take more: measured peaks differ by some percent."""


class JobBook:
    """Remembers for each model and each shape of job the most that one took. `file` None = until the server ends."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._taken = read_state(file, dict[str, dict[PoolId, int]]) or {}

    def taken(self, model: str, request: ImageRequest) -> dict[PoolId, int] | None:
        """Return what such a job takes, with some margin; None when there was none yet. `model` is any unique name."""
        found = self._taken.get(_key(model, request))
        return None if found is None else {pool: int(count * MARGIN) for pool, count in found.items()}

    def note(self, model: str, request: ImageRequest, taken: Mapping[PoolId, int]) -> None:
        """Remember what a job took; written down only when it is more than before."""
        key = _key(model, request)
        before = self._taken.pop(key, {})
        most = {pool: max(taken.get(pool, 0), before.get(pool, 0)) for pool in {*taken, *before}}
        self._taken[key] = most
        if most == before:
            return
        while len(self._taken) > REMEMBERED:
            del self._taken[next(iter(self._taken))]
        write_state(self._file, self._taken)


def _key(model: str, request: ImageRequest) -> str:
    return f"{model}|{shape_of(request)}"
