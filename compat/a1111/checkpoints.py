"""Checkpoints as A1111 names them: titles, short hashes, and the many texts that find one."""

import re
from collections.abc import Sequence

from server.core.models import ModelCard

SHORT = 10

_HASH_SUFFIX = re.compile(r" \[[0-9a-fA-F]{8,64}\]\Z")

_ANY_SUFFIX = re.compile(r"\s*\[[^\]]+\]\s*\Z")


def short_hash(card: ModelCard) -> str | None:
    """Return the first 10 hex digits of the file's SHA-256, None while it is unknown."""
    return None if card.sha256 is None else card.sha256[:SHORT]


def title(card: ModelCard) -> str:
    """Return the name with the hash behind it, once that is known."""
    short = short_hash(card)
    return card.name if short is None else f"{card.name} [{short}]"


def model_name(card: ModelCard) -> str:
    """Return the name without extension and with folders joined by underscores."""
    plain = card.name.replace("/", "_").replace("\\", "_")
    return plain.rsplit(".", 1)[0] if "." in plain else plain


def find(name: str, cards: Sequence[ModelCard]) -> ModelCard | None:
    """Return the card that a title, name, stem, hash or alias means, None for none.

    A hash behind a known name need not be right: clients keep titles longer than files keep their content.
    """
    by_name: dict[str, ModelCard] = {}
    for card in cards:
        for word in _words(card):
            by_name.setdefault(word, card)
    return by_name.get(name) or by_name.get(_HASH_SUFFIX.sub("", name))


def closest(name: str, cards: Sequence[ModelCard]) -> ModelCard | None:
    """Return the card that a name means exactly, else that with the shortest title which holds it.

    So are refiners and checkpoints of a second pass looked up. A hash behind the name is left out if nothing holds it.
    """
    for word in (name, _ANY_SUFFIX.sub("", name)):
        found = find(word, cards)
        if found is not None:
            return found
        holding = [card for card in cards if word in title(card)]
        if holding:
            return min(holding, key=lambda card: len(title(card)))
    return None


def _words(card: ModelCard) -> list[str]:
    words = [title(card), card.name, model_name(card), card.stem, card.id, *card.aliases]
    short = short_hash(card)
    if card.sha256 is not None and short is not None:
        words += [f"{card.stem} [{short}]", short, card.sha256]
    return words
