"""What the handlers ask of the store, without blocking: earlier items, and a place for finished responses."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from compat.openai.errors import PreviousResponseNotFound, ResponseNotFound
from compat.openai.responses import output, wire
from compat.openai.responses.items import PICTURE, REFERENCE, Placed, kind_of
from compat.openai.responses.store import Limits, ResponseStore, Stored, StoreFailed
from compat.openai.settings import OpenAiSettings
from server.core.errors import Broken, InvalidValue

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class _Answer(msgspec.Struct):
    """What is read of a stored response."""

    output: list[wire.Item] = []


class Memory:
    """The store, or none: then nothing is kept and nothing is found."""

    def __init__(self, settings: OpenAiSettings) -> None:
        limits = Limits(kept=settings.responses_kept, bytes=settings.responses_bytes, days=settings.responses_days)
        file = settings.responses_file
        self._store = ResponseStore(Path(file), limits) if file else None

    @property
    def is_there(self) -> bool:
        """Tell whether responses are kept at all."""
        return self._store is not None

    async def before(self, previous: str | None, owner: str) -> list[Placed]:
        """Return the conversation up to a stored response, input and output.

        Raises:
            PreviousResponseNotFound: it, or one before it, is not there.
        """
        if previous is None:
            return []
        chain: tuple[Stored, ...] = ()
        if self._store is not None:
            chain = await _ask(self._store.chain, previous, owner, time.time())
        if not chain:
            raise PreviousResponseNotFound(f"Previous response with id {previous!r} not found.")
        items = [item for stored in chain for item in (*_input(stored), *_output(stored))]
        return [(item, "previous_response_id") for item in items]

    async def resolved(self, items: Sequence[Placed], owner: str) -> list[Placed]:
        """Return the items with those in place that are only referred to; raise InvalidValue for unknown ones.

        A picture's item without its picture refers to the stored one; when that is gone, it is taken as it is.
        """
        found: list[Placed] = []
        for item, where in items:
            if kind_of(item) == REFERENCE:
                found.append((await self._referred(item.id, where, owner), where))
            elif kind_of(item) == PICTURE and not item.result:
                found.append((await self._stored(item.id, owner) or item, where))
            else:
                found.append((item, where))
        return found

    async def _referred(self, identity: str | None, where: str, owner: str) -> wire.Item:
        found = await self._stored(identity, owner)
        if found is None:
            raise InvalidValue.of(f"{where}.id", f"Item with id {identity!r} not found.")
        return found

    async def _stored(self, identity: str | None, owner: str) -> wire.Item | None:
        holder = None
        if identity and self._store is not None:
            holder = await _ask(self._store.holder, identity, owner)
        items = (*_output(holder), *_input(holder)) if holder else ()
        return next((item for item in items if item.id == identity), None)

    async def keep(self, response: output.Response, items: list[wire.Item], owner: str) -> None:
        """Store a finished response; when that fails the log says so, and the answer is good all the same."""
        if self._store is None:
            return
        stored = Stored(
            id=response.id,
            owner=owner,
            previous=response.previous_response_id,
            input=msgspec.json.encode(items),
            response=msgspec.json.encode(response),
            items=tuple(item.id for item in (*response.output, *items) if item.id),
        )
        try:
            await asyncio.to_thread(self._store.save, stored, time.time())
        except StoreFailed as error:
            logger.warning("a response could not be stored: %s", error)

    async def get(self, response: str, owner: str) -> Stored:
        """Return a stored response; raise ResponseNotFound."""
        found = await _ask(self._store.find, response, owner) if self._store is not None else None
        if found is None:
            raise ResponseNotFound(f"Response with id {response[:64]!r} not found.")
        return found

    async def delete(self, response: str, owner: str) -> None:
        """Forget a stored response; raise ResponseNotFound."""
        if self._store is None or not await _ask(self._store.delete, response, owner):
            raise ResponseNotFound(f"Response with id {response[:64]!r} not found.")


async def _ask(question: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(question, *args, **named)
    except StoreFailed as error:
        logger.exception("the store of responses cannot be used")
        raise Broken("the store of responses cannot be used; the log has the reason") from error


def _input(stored: Stored) -> list[wire.Item]:
    return msgspec.json.decode(stored.input, type=list[wire.Item])


def _output(stored: Stored) -> list[wire.Item]:
    return msgspec.json.decode(stored.response, type=_Answer).output
