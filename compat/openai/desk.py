"""What every handler of this door asks first: which model answers, and which fields have no effect."""

import logging
from collections.abc import Sequence

from compat.openai import cards
from compat.openai.picture_urls import Turn, name_pictures, with_pictures
from compat.openai.settings import OpenAiSettings
from server.core.errors import Unsupported
from server.core.models import ModelKind
from server.http.disconnect import unless_disconnected
from server.http.fetch import Fetcher
from server.http.json_body import JsonBody, tellable
from server.service.service import Service

logger = logging.getLogger(__name__)

_MOST_TOLD = 256


class Desk:
    """Service and settings, and the memory of which ignored fields the log has been told of."""

    def __init__(self, service: Service, settings: OpenAiSettings) -> None:
        self.service = service
        self.settings = settings
        self._fetcher = Fetcher(allowed=settings.fetch_images)
        self._told: set[str] = set()

    def model(self, name: str | None, role: cards.Role = cards.Role.WRITER) -> str:
        """Return the model that a request names, else the default one for that role; raise UnknownModel."""
        if name:
            return name
        service, settings = self.service, self.settings
        wanted = {
            cards.Role.WRITER: settings.default_model,
            cards.Role.EMBEDDER: settings.default_embedder,
            cards.Role.RERANKER: settings.default_reranker,
        }[role]
        suited = cards.suited(service.models(ModelKind.TEXT), role)
        return cards.default_model(wanted, suited, service.memory().residents)

    async def seen(self, turns: Sequence[Turn], where: Sequence[str], request: JsonBody) -> list[Turn]:
        """Return messages or items with pictures in the place of their addresses, see `with_pictures`."""
        if not name_pictures(turns):
            return list(turns)
        return await unless_disconnected(request, with_pictures(turns, where, self._fetcher))

    def noted(self, ignored: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of fields without effect that can be told, and say them in the log, once each.

        Raises:
            Unsupported: there are such fields, and the settings are strict.
        """
        names = tellable(ignored)
        if ignored and self.settings.strict:
            name = names[0] if names else "(unprintable)"
            raise Unsupported.of(name, f"'{name}' has no effect on this server, and its settings are strict")
        return self.told(names)

    def told(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return these names of fields that turned out to have no effect, and say them in the log, once each."""
        for name in names:
            if name not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add(name)
                logger.info("requests have the field %s, which is accepted without effect", name)
        return names
