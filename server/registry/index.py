"""Which name finds which card. One frozen value, built anew when something changes."""

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from server.core.errors import UnknownModel
from server.core.models import ModelCard, ModelKind

LONGEST_SHOWN = 200
CLOSE = 3

_TITLE = re.compile(r"^(?P<name>.+) \[[0-9a-fA-F]{8,64}\]$")

Names = Callable[[ModelCard], Iterable[str]]


class NameIndex:
    """Finds cards by id, configured alias, name, alias or hash: exactly, then in any case.

    A title with a hash (`model.safetensors [0123456789]`) also finds a card whose hash is not known yet: another
    program may have computed it before. `cards` carry the configured aliases; `lost` are those that name no card.
    """

    def __init__(self, cards: Iterable[ModelCard], configured: Mapping[str, str]) -> None:
        plain = _Tables(tuple(cards), (_ids, _names, _aliases, _hashes))
        added: dict[tuple[ModelKind, str], list[str]] = defaultdict(list)
        lost = []
        for alias, target in configured.items():
            card = plain.find(target, tuple(ModelKind))
            if card is None:
                lost.append(alias)
            else:
                added[card.kind, card.id].append(alias)
        self.lost = tuple(lost)
        self.cards = tuple(_with(card, added.get((card.kind, card.id), [])) for card in plain.cards)

        def chosen(card: ModelCard) -> Iterable[str]:
            return added.get((card.kind, card.id), ())

        self._tables = _Tables(self.cards, (_ids, chosen, _names, _aliases, _hashes))

    def find(self, name: str, *kinds: ModelKind) -> ModelCard:
        """Return the card of that name among these kinds (all with none given); raise UnknownModel."""
        wanted = kinds or tuple(ModelKind)
        card = self._tables.find(name, wanted)
        if card is None:
            raise UnknownModel.named(name[:LONGEST_SHOWN], self._close(name, wanted))
        return card

    def _close(self, name: str, kinds: Iterable[ModelKind]) -> list[str]:
        if len(name) > LONGEST_SHOWN:
            return []
        wanted = set(kinds)
        known = list(dict.fromkeys(str(card.id) for card in self.cards if card.kind in wanted))
        return difflib.get_close_matches(name, known, n=CLOSE)


class _Tables:
    """Names of one rank after the other; within a rank the first card has the name."""

    def __init__(self, cards: tuple[ModelCard, ...], ranks: Iterable[Names]) -> None:
        self.cards = cards
        self._exact: dict[ModelKind, dict[str, ModelCard]] = {kind: {} for kind in ModelKind}
        self._folded: dict[ModelKind, dict[str, ModelCard]] = {kind: {} for kind in ModelKind}
        for names in ranks:
            for card in cards:
                for name in names(card):
                    self._exact[card.kind].setdefault(name, card)
                    self._folded[card.kind].setdefault(name.casefold(), card)

    def find(self, name: str, kinds: Iterable[ModelKind]) -> ModelCard | None:
        for look in (self._look_exact, self._look_folded, self._look_title):
            for kind in kinds:
                card = look(name, kind)
                if card is not None:
                    return card
        return None

    def _look_exact(self, name: str, kind: ModelKind) -> ModelCard | None:
        return self._exact[kind].get(name)

    def _look_folded(self, name: str, kind: ModelKind) -> ModelCard | None:
        return self._folded[kind].get(name.casefold())

    def _look_title(self, name: str, kind: ModelKind) -> ModelCard | None:
        match = _TITLE.match(name) if len(name) <= 4096 else None
        if match is None:
            return None
        card = self._look_exact(match["name"], kind) or self._look_folded(match["name"], kind)
        return card if card is not None and card.sha256 is None else None


def _with(card: ModelCard, aliases: Iterable[str]) -> ModelCard:
    new = [alias for alias in aliases if alias not in (card.id, card.name, *card.aliases)]
    return msgspec.structs.replace(card, aliases=(*card.aliases, *new)) if new else card


def _ids(card: ModelCard) -> Iterator[str]:
    yield card.id


def _names(card: ModelCard) -> Iterator[str]:
    yield card.name


def _aliases(card: ModelCard) -> Iterator[str]:
    yield from card.aliases


def _hashes(card: ModelCard) -> Iterator[str]:
    yield from card.short_hashes
    if card.sha256 is not None:
        yield card.sha256
