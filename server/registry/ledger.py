"""How cards are loaded and what they hold: estimated at first, remembered once a worker has measured it."""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import msgspec

from server.core.errors import LoadFailed
from server.core.memory import DeviceProfile, Footprint, PoolId
from server.core.models import ImageSettings, LoadSettings, ModelCard, ModelKind, TextSettings
from server.registry.footprint import estimate, pool_of
from server.registry.hashes import HashCache
from server.registry.statefile import read_state, write_state

logger = logging.getLogger(__name__)

Settings = TypeVar("Settings", TextSettings, ImageSettings)
Overrides = Mapping[str, Mapping[str, object]]
VaeFor = Callable[[ModelCard], str | None]
"""Returns the VAE file that belongs to a checkpoint."""

NO_OVERRIDES: Overrides = MappingProxyType({})
NO_LIMITS: Mapping[PoolId, int] = MappingProxyType({})
REMEMBERED = 1000


PreviewFor = Callable[[ModelCard], str | None]
"""Returns the file of a tiny decoder that previews of a checkpoint can be made with."""


def no_vae(_: ModelCard) -> str | None:
    """Know no VAE files, or no decoders."""
    return None


class Ledger:
    """Settings and footprints of cards.

    `text` and `image` hold for all, `overrides` (model name -> settings by name) for some; a name is an id, a file
    name, a stem or an alias. `pinned` models stay once loaded. `vae_for` finds the VAE of a checkpoint whose settings
    name none, `preview_for` the decoder for its previews. `limits` are the bytes of each pool that all models may hold
    together, none = not limited. `file` keeps measured footprints. One thread only.
    """

    def __init__(
        self,
        *,
        text: TextSettings,
        image: ImageSettings,
        devices: Sequence[DeviceProfile],
        hashes: HashCache,
        overrides: Overrides = NO_OVERRIDES,
        pinned: Collection[str] = (),
        vae_for: VaeFor = no_vae,
        preview_for: PreviewFor = no_vae,
        limits: Mapping[PoolId, int] = NO_LIMITS,
        file: Path | None = None,
    ) -> None:
        self._text = text
        self._image = image
        self._devices = tuple(devices)
        self._hashes = hashes
        self._overrides = {name.casefold(): dict(table) for name, table in overrides.items()}
        self._pinned = {name.casefold() for name in pinned}
        self._vae_for = vae_for
        self._preview_for = preview_for
        self._limits = dict(limits)
        self._file = file
        self._measured = read_state(file, dict[str, Footprint]) or {}

    def settings(self, card: ModelCard) -> LoadSettings:
        """Return how the card is to be loaded; raise LoadFailed when its own settings make no sense."""
        if card.kind is ModelKind.TEXT:
            return self._with_overrides(card, self._text)
        settings = self._with_overrides(card, self._image)
        if card.kind is not ModelKind.CHECKPOINT:
            return msgspec.structs.replace(settings, vae=None)
        if settings.vae is None:
            settings = msgspec.structs.replace(settings, vae=self._vae_for(card))
        if settings.preview_decoder is None:
            settings = msgspec.structs.replace(settings, preview_decoder=self._preview_for(card))
        if not settings.memory_limit:
            limit = self._limits.get(pool_of(settings, self._devices), 0)
            settings = msgspec.structs.replace(settings, memory_limit=limit)
        return settings

    def expected(self, card: ModelCard) -> Footprint:
        """Return what the card will hold: as measured with these settings before, else estimated."""
        settings = self.settings(card)
        measured = self._measured.get(_key(card, settings))
        if measured is not None:
            return measured
        vae = settings.vae if isinstance(settings, ImageSettings) else None
        return estimate(card, settings, self._devices, vae_bytes=_size(vae) if vae else 0)

    def learn(self, card: ModelCard, footprint: Footprint) -> None:
        """Remember what the loaded card holds."""
        if sum(footprint.total().values()) <= 0:
            return
        key = _key(card, self.settings(card))
        kept = {name: held for name, held in self._measured.items() if name != key}
        if self._measured.get(key) == footprint:
            return
        self._measured = {**dict(list(kept.items())[-REMEMBERED + 1 :]), key: footprint}
        write_state(self._file, self._measured)

    def is_pinned(self, card: ModelCard) -> bool:
        """Tell whether the card stays once it is loaded."""
        return any(name in self._pinned for name in _names(card))

    async def prepare(self, card: ModelCard) -> None:
        """Have the hashes that pictures carry: of the checkpoint and of the VAE that replaces its own."""
        if card.kind is not ModelKind.CHECKPOINT:
            return
        settings = self.settings(card)
        await self._hashes.compute(card.files[0])
        if isinstance(settings, ImageSettings) and settings.vae is not None:
            await self._hashes.compute(settings.vae)

    def _with_overrides(self, card: ModelCard, base: Settings) -> Settings:
        """Return the settings with what the configuration says of this card; keys of the other kind are left out."""
        changed: dict[str, object] = {}
        known = {field.name for field in msgspec.structs.fields(base)}
        for name in _names(card) & self._overrides.keys():
            changed |= {key: value for key, value in self._overrides[name].items() if key in known}
        if not changed:
            return base
        try:
            return msgspec.convert({**msgspec.to_builtins(base), **changed}, type(base))
        except msgspec.ValidationError as error:
            text = f"the settings of model {card.id!r} in the configuration are wrong: {error}"
            raise LoadFailed(text, model=card.id) from error


def _names(card: ModelCard) -> set[str]:
    return {name.casefold() for name in (card.id, card.name, card.stem, *card.aliases)}


def _key(card: ModelCard, settings: LoadSettings) -> str:
    digest = hashlib.sha256(msgspec.json.encode(settings)).hexdigest()[:16]
    return f"{card.id}|{card.size}|{card.modified}|{digest}"


def _size(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0
