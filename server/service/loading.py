"""Bringing a model up: what the registry provides for it, and the load itself with a limit of time."""

import asyncio
from typing import Protocol

from server.core.errors import LoadFailed
from server.core.memory import Footprint
from server.core.models import Adapter, AdapterFacts, LoadedFacts, LoadSettings, ModelCard, TextSettings
from server.registry.residents import Residents


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

    async def prepare(self, card: ModelCard) -> None:
        """Do what must be done by the time the model is ready (its file's hash, say)."""
        ...


def listed(settings: LoadSettings) -> tuple[AdapterFacts, ...]:
    """Return the adapters that a model would be loaded with, as far as is known before."""
    if not isinstance(settings, TextSettings):
        return ()
    wanted = [Adapter(name=item) if isinstance(item, str) else item for item in settings.loras or ()]
    return tuple(AdapterFacts(name=item.name, scale=item.scale, problem=item.problem or None) for item in wanted)


async def load_prepared(card: ModelCard, provision: Provision, residents: Residents, *, limit_s: float) -> LoadedFacts:
    """Load the card and prepare it beside that; both or neither, so that no worker is left that nobody knows.

    Raises:
        ServerError: what the engine or the preparation said, or LoadFailed after `limit_s` seconds.
    """
    preparing = asyncio.create_task(provision.prepare(card), name=f"prepare {card.id}")
    try:
        facts = await _load_in_time(card, provision, residents, limit_s)
        await preparing
    except BaseException:
        preparing.cancel()
        await asyncio.gather(preparing, return_exceptions=True)
        await residents.leave(card.id)
        raise
    return facts


async def _load_in_time(card: ModelCard, provision: Provision, residents: Residents, limit_s: float) -> LoadedFacts:
    try:
        async with asyncio.timeout(limit_s):
            return await residents.load(card, provision.settings(card))
    except TimeoutError:
        raise LoadFailed(f"model {card.id!r} was not loaded within {limit_s:.0f} s", model=card.id) from None
