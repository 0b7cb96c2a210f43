"""Which models exist: folders and configuration in, cards out. Reads headers only; never loads, never hangs."""

import logging
import stat
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from server.core.errors import UnknownModel
from server.core.models import Adapter, ModelCard, ModelKind
from server.registry import cards as making
from server.registry.cards import Draft, Probed
from server.registry.companions import automatic_vae, preview_decoder
from server.registry.folders import Found, Skipped, styles_file, walk
from server.registry.hashes import HashCache
from server.registry.index import NameIndex
from server.registry.legacy import with_conversion
from server.registry.probe.base import BrokenModel, Finding, NotMine
from server.registry.probe.identify import identify
from server.registry.projectors import with_projectors
from server.registry.starters import Starter, starters
from server.registry.text_adapters import chosen_adapters, fitting_adapters

logger = logging.getLogger(__name__)

NO_ALIASES: Mapping[str, str] = MappingProxyType({})

_ProbeKey = tuple[str, int, int, int, ModelKind]


class _Answered(msgspec.Struct, frozen=True):
    finding: Finding | None = None
    broken: str | None = None
    not_mine: str | None = None


class _Shelf(msgspec.Struct, frozen=True):
    """One state of the catalog: what stood in the folders, and how names find it with the hashes known then."""

    drafts: tuple[Draft, ...]
    skipped: tuple[Skipped, ...]
    index: NameIndex
    hash_version: int
    fingerprint: int = 0


class Catalog:
    """All models of some folders. Empty until `scan`; readers always see one whole state.

    `aliases` maps further names to model names. `projectors` says by which file a text model sees, see
    `with_projectors`. `converted` is where models of 2023 are converted to, None = nowhere. `allow_pickle` only tells
    whether pickle files count as usable; they are never read here.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        hashes: HashCache,
        aliases: Mapping[str, str] = NO_ALIASES,
        projectors: Mapping[str, str] = NO_ALIASES,
        converted: Path | None = None,
        starter: Starter = "never",
        allow_pickle: bool = False,
    ) -> None:
        self._folders = tuple(folders)
        self._aliases = dict(aliases)
        self._projectors = dict(projectors)
        self._converted = converted
        self._starter = starter
        self._allow_pickle = allow_pickle
        self._hashes = hashes
        self._scanning = threading.Lock()
        self._swapping = threading.Lock()  # held for an assignment only: readers never wait for a scan
        self._answers: dict[_ProbeKey, _Answered] = {}
        self._told: set[str] = set()
        self._state = _Shelf((), (), NameIndex((), {}), hashes.version)

    def cards(self, *kinds: ModelKind) -> tuple[ModelCard, ...]:
        """Return the cards of these kinds (of all with none given), broken ones too, by kind and natural name."""
        cards = self._current().index.cards
        return tuple(card for card in cards if card.kind in kinds) if kinds else cards

    def find(self, name: str, *kinds: ModelKind) -> ModelCard:
        """Return the card of that id, name, alias, title or hash; raise UnknownModel with close names."""
        return self._current().index.find(name, *kinds)

    def skipped(self) -> tuple[Skipped, ...]:
        """Return files and folders that are not listed, with the reason."""
        return self._state.skipped

    def styles_file(self) -> Path | None:
        """Return the file of prompt styles in a models folder or one level above, None when there is none."""
        return styles_file(self._folders)

    def automatic_vae(self, card: ModelCard) -> str | None:
        """Return the file of the VAE that belongs to a checkpoint by its name, None when there is none."""
        return automatic_vae(card, self.cards(ModelKind.VAE))

    def preview_decoder(self, card: ModelCard) -> str | None:
        """Return the file of the tiny decoder for a checkpoint's previews, None when there is none."""
        return preview_decoder(card, self.cards(ModelKind.PREVIEW))

    def text_adapters(self, card: ModelCard, wanted: Sequence[str | Adapter] | None) -> tuple[Adapter, ...]:
        """Return the adapters of a text model with their files: those that are wanted, None = those that fit it."""
        if wanted is None:
            return fitting_adapters(card, self.cards(ModelKind.TEXT_LORA))
        return chosen_adapters(wanted, self._text_adapter)

    def text_model(self, name: str) -> ModelCard | None:
        """Return the text model of a name, None when there is none."""
        try:
            return self.find(name, ModelKind.TEXT)
        except UnknownModel:
            return None

    def _text_adapter(self, name: str) -> ModelCard | None:
        try:
            return self.find(name, ModelKind.TEXT_LORA)
        except UnknownModel:
            return None

    @property
    def scanned(self) -> int:
        """Return the fingerprint of what the last scan saw."""
        return self._state.fingerprint

    def fingerprint(self) -> int:
        """Return a number that changes when a folder or file does; blocks shortly, opens nothing."""
        return hash(tuple(walk(self._folders)))

    def scan(self) -> tuple[ModelCard, ...]:
        """Read the folders again and return all cards. Blocks; one scan at a time."""
        with self._scanning:
            began = time.monotonic()
            answers: dict[_ProbeKey, _Answered] = {}
            probed: list[Probed] = []
            skipped: list[Skipped] = []
            entries = tuple(walk(self._folders))
            for entry in entries:
                if isinstance(entry, Skipped):
                    skipped.append(entry)
                    continue
                answered = self._probe(entry, answers)
                if answered.not_mine is not None:
                    skipped.append(Skipped(str(entry.path), answered.not_mine))
                else:
                    probed.append(Probed(entry, answered.finding, answered.broken))
            usable = {item.found.kind for item in probed if _is_usable(item)}
            for found in starters(self._starter, usable):
                answered = self._probe(found, answers)
                probed.append(Probed(found, answered.finding, answered.broken))
            self._answers = answers
            made = self._shelf(making.build(probed), tuple(skipped), hash(entries))
            with self._swapping:
                self._state = made
        self._tell(time.monotonic() - began)
        return self._state.index.cards

    def _probe(self, found: Found, answers: dict[_ProbeKey, _Answered]) -> _Answered:
        """Return what a file is, from memory when it has not changed."""
        key = (str(found.path), found.size, found.mtime_ns, found.inode, found.kind)
        answered = self._answers.get(key)
        if answered is None:
            answered = self._ask(found)
        answers[key] = answered
        return answered

    def _ask(self, found: Found) -> _Answered:
        try:
            return _Answered(finding=identify(found.path, found.kind, allow_pickle=self._allow_pickle))
        except NotMine as error:
            return _Answered(not_mine=str(error))
        except BrokenModel as error:
            return _Answered(broken=str(error))
        except OSError as error:
            return _Answered(broken=f"cannot be read: {error.strerror}")

    def _current(self) -> _Shelf:
        """Return the state, with hashes that have become known since it was made."""
        state = self._state
        if state.hash_version == self._hashes.version:
            return state
        renewed = self._shelf(state.drafts, state.skipped, state.fingerprint)
        with self._swapping:
            if self._state is state:
                self._state = renewed
        return renewed

    def _shelf(self, drafts: tuple[Draft, ...], skipped: tuple[Skipped, ...], fingerprint: int) -> _Shelf:
        version = self._hashes.version
        cards = [making.with_hash(draft.card, self._hash(draft)) for draft in drafts]
        cards = [
            with_conversion(card, self._converted, draft.mtime_ns) for card, draft in zip(cards, drafts, strict=True)
        ]
        cards = with_projectors(cards, self._projectors)
        return _Shelf(drafts, skipped, NameIndex(cards, self._aliases), version, fingerprint)

    def _hash(self, draft: Draft) -> str | None:
        card = draft.card
        return self._hashes.lookup(card.files[0], card.size, draft.mtime_ns) if len(card.files) == 1 else None

    def _tell(self, seconds: float) -> None:
        state = self._state
        broken = [card for card in state.index.cards if card.broken is not None]
        logger.info("scan: %d models, %d of them broken, in %.2f s", len(state.index.cards), len(broken), seconds)
        for card in broken:
            self._warn(f"{card.files[0]}: {card.broken}")
        for item in state.skipped:
            self._warn(f"{item.path}: not listed: {item.reason}")
        for alias in state.index.lost:
            self._warn(f"alias {alias!r} names no model: {self._aliases[alias]!r} is not known")
        for folder in self._folders:
            if _is_open_to_all(folder):
                self._warn(f"{folder}: everyone on this machine can write to this models folder")

    def _warn(self, text: str) -> None:
        """Say a thing once, not at every scan."""
        if text not in self._told:
            self._told.add(text)
            logger.warning("%s", text)


def _is_usable(item: Probed) -> bool:
    return item.reason is None and item.finding is not None and item.finding.broken is None


def _is_open_to_all(folder: Path) -> bool:
    try:
        mode = folder.stat().st_mode
    except OSError:
        return False
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX
