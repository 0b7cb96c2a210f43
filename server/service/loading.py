"""Bringing a model up: what the registry provides for it, and the load itself with a limit of time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Protocol

from server.core.errors import LoadFailed
from server.core.jobs import Work
from server.core.memory import Footprint, PoolId
from server.core.models import (
    Adapter,
    AdapterFacts,
    LoadedFacts,
    LoadSettings,
    ModelCard,
    ModelId,
    ModelKind,
    TextSettings,
)
from server.registry.residents import Residents
from server.registry.spare import SpareWish


class Provision(Protocol):
    """What the registry knows about loading a card."""

    def settings(self, card: ModelCard) -> LoadSettings:
        """Return how the card is to be loaded."""
        ...

    def expected(self, card: ModelCard) -> Footprint:
        """Return what the loaded card will hold."""
        ...

    def learn(self, card: ModelCard, footprint: Footprint) -> None:
        """Remember what it did hold."""
        ...

    def is_pinned(self, card: ModelCard) -> bool:
        """Tell whether the card stays once it is loaded."""
        ...

    def working(self, card: ModelCard, work: Work | None) -> dict[PoolId, int]:
        """Return the bytes per pool that a job takes while it runs; None = one of the usual size."""
        ...

    def note_job(self, card: ModelCard, work: Work, taken: Mapping[PoolId, int]) -> None:
        """Remember what a job took."""
        ...

    def spare(self, loaded: Collection[ModelId]) -> SpareWish | None:
        """Return which worker should wait for a model, given those that are there; None for none."""
        ...

    async def fingerprint(self, card: ModelCard) -> None:
        """Return once the hashes are known that pictures of the card carry; the first time its files are read."""
        ...


def listed(settings: LoadSettings) -> tuple[AdapterFacts, ...]:
    """Return the adapters that a model would be loaded with, as far as is known before."""
    if not isinstance(settings, TextSettings):
        return ()
    wanted = [Adapter(name=item) if isinstance(item, str) else item for item in settings.loras or ()]
    return tuple(AdapterFacts(name=item.name, scale=item.scale, problem=item.problem or None) for item in wanted)


async def load_in_time(
    card: ModelCard, settings: LoadSettings, residents: Residents, *, limit_s: float, use_spare: bool = False
) -> LoadedFacts:
    """Load the card, or leave no worker of it behind.

    Raises:
        ServerError: what the engine said, or LoadFailed after `limit_s` seconds.
    """
    try:
        async with _in_time(card, limit_s):
            return await residents.load(card, settings, use_spare=use_spare)
    except BaseException:
        await residents.leave(card.id)
        raise


@contextlib.asynccontextmanager
async def _in_time(card: ModelCard, limit_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise LoadFailed(f"model {card.id!r} was not loaded within {limit_s:.0f} s", model=card.id) from None


def standing(card: ModelCard, footprint: Footprint) -> dict[PoolId, int]:
    """Return what a loaded model holds while nobody uses it.

    The buffers that text is computed in are made when its model is loaded; those of pictures come and go with a job.
    """
    return footprint.total() if card.kind is ModelKind.TEXT else dict(footprint.resident)
