"""How cards are loaded and what they hold: estimated at first, remembered once a worker has measured it."""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import msgspec

from server.core.errors import LoadFailed
from server.core.image import ImageRequest
from server.core.jobs import Work
from server.core.memory import RAM, DeviceProfile, Footprint, PoolId, most
from server.core.models import (
    Adapter,
    ImageSettings,
    LoadSettings,
    ModelCard,
    ModelId,
    ModelKind,
    Runtime,
    TextSettings,
)
from server.core.text_settings import problems
from server.registry.footprint import (
    IMAGE_PROCESS,
    converted_bytes,
    draft_cache_bytes,
    estimate,
    pool_of,
    usual_pass,
    vae_bytes,
)
from server.registry.hashes import HashCache
from server.registry.job_book import JobBook
from server.registry.job_memory import estimated
from server.registry.legacy import needs_conversion
from server.registry.spare import SpareWish
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


AdaptersFor = Callable[[ModelCard, Sequence[str | Adapter] | None], tuple[Adapter, ...]]
"""Returns the adapters of a text model with their files, given those that its settings name (None = none are named)."""


DraftFor = Callable[[str], ModelCard | None]
"""Returns the text model of a name, None when there is none."""


Checkpoints = Callable[[], Sequence[ModelCard]]
"""Returns the checkpoints that there are."""

WARMED = (Runtime.DIFFUSION, Runtime.FAKE_IMAGE)
"""Runtimes whose imports take seconds."""


def no_vae(_: ModelCard) -> str | None:
    """Know no VAE files, or no decoders."""
    return None


def no_draft(_: str) -> ModelCard | None:
    """Know no text models."""
    return None


class Ledger:
    """Settings and footprints of cards.

    `text` and `image` hold for all, `overrides` (model name -> settings by name) for some; a name is an id, a file
    name, a stem or an alias. `pinned` models stay once loaded. `vae_for` finds the VAE of a checkpoint whose settings
    name none, `preview_for` the decoder for its previews, `adapters_for` those of a text model,
    `draft_for` the model that a text model's settings name to guess for it. `limits` are the bytes
    of each pool that all models may hold together, none = not limited. `checkpoints` tells which there are, for the
    spare worker. `file` keeps measured footprints, `jobs_file` what jobs took. One thread only.
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
        adapters_for: AdaptersFor | None = None,
        draft_for: DraftFor = no_draft,
        limits: Mapping[PoolId, int] = NO_LIMITS,
        checkpoints: Checkpoints = tuple,
        file: Path | None = None,
        jobs_file: Path | None = None,
    ) -> None:
        self._text = text
        self._image = image
        self._devices = tuple(devices)
        self._hashes = hashes
        self._overrides = {name.casefold(): dict(table) for name, table in overrides.items()}
        self._pinned = {name.casefold() for name in pinned}
        self._vae_for = vae_for
        self._preview_for = preview_for
        self._adapters_for = adapters_for
        self._draft_for = draft_for
        self._limits = dict(limits)
        self._file = file
        self._measured = read_state(file, dict[str, Footprint]) or {}
        self._checkpoints = checkpoints
        self._jobs = JobBook(jobs_file)

    def settings(self, card: ModelCard) -> LoadSettings:
        """Return how the card is to be loaded; raise LoadFailed when its own settings make no sense."""
        if card.kind is ModelKind.TEXT:
            return self._text_settings(card)
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
        measured = self._measured.get(self._key(card, settings))
        if measured is not None:
            return measured
        more = sum(map(_size, _more_files(settings)))
        if isinstance(settings, TextSettings) and settings.draft:
            draft = self._draft_for(self._with_overrides(card, self._text).draft)
            more += draft_cache_bytes(draft.text, settings) if draft is not None and draft.text is not None else 0
        return estimate(card, settings, self._devices, more_bytes=more)

    def learn(self, card: ModelCard, footprint: Footprint) -> None:
        """Remember what the loaded card holds."""
        if sum(footprint.total().values()) <= 0:
            return
        key = self._key(card, self.settings(card))
        kept = {name: held for name, held in self._measured.items() if name != key}
        if self._measured.get(key) == footprint:
            return
        self._measured = {**dict(list(kept.items())[-REMEMBERED + 1 :]), key: footprint}
        write_state(self._file, self._measured)

    def working(self, card: ModelCard, work: Work | None) -> dict[PoolId, int]:
        """Return the bytes per pool that a job takes while it runs, None = one of the usual size.

        As measured when such a job was done on the model before, else estimated.
        """
        footprint, settings = self.expected(card), self.settings(card)
        if not isinstance(work, ImageRequest) or not isinstance(settings, ImageSettings):
            return dict(footprint.working)
        found = self._jobs.taken(self._key(card, settings), work)
        if found is not None:
            return found
        pool = pool_of(settings, self._devices)
        most_there = self._limits.get(pool)
        return estimated(
            work,
            footprint,
            usual_pass(card, settings, self._devices),
            pool,
            other_vae=0
            if work.vae in (None, settings.vae or card.files[0])
            else vae_bytes(card, settings, self._devices),
            limit=None if most_there is None else most_there - footprint.resident.get(pool, 0),
        )

    def note_job(self, card: ModelCard, work: Work, taken: Mapping[PoolId, int]) -> None:
        """Remember what a job took."""
        if isinstance(work, ImageRequest):
            self._jobs.note(self._key(card, self.settings(card)), work, taken)

    def spare(self, loaded: Collection[ModelId]) -> SpareWish | None:
        """Return the spare worker that would save the next switch its imports, None when none would."""
        if not self._image.warm:
            return None
        usable = [card for card in self._checkpoints() if card.broken is None and card.runtime in WARMED]
        absent = [card for card in usable if card.id not in loaded]
        if not absent or absent[0].runtime is None:
            return None
        # Jobs on what is loaded must not have to send it away.
        kept = most(self.expected(card).working for card in usable if card.id in loaded)
        return SpareWish(runtime=absent[0].runtime, need={RAM: IMAGE_PROCESS}, room=self._room(absent), kept=kept)

    def _room(self, absent: Sequence[ModelCard]) -> int:
        """Return the bytes for weights that the middle one of these checkpoints would use: nobody knows which comes."""
        needs = []
        for card in absent:
            with contextlib.suppress(LoadFailed):  # a card whose settings make no sense will not be loaded
                if card.runtime is Runtime.DIFFUSION:
                    needs.append(converted_bytes(card, self._with_overrides(card, self._image), self._devices))
        return sorted(needs)[(len(needs) - 1) // 2] if needs else 0

    def is_pinned(self, card: ModelCard) -> bool:
        """Tell whether the card stays once it is loaded."""
        return any(name in self._pinned for name in _names(card))

    async def fingerprint(self, card: ModelCard) -> None:
        """Have the hashes that pictures carry: of the checkpoint and of the VAE that replaces its own."""
        if card.kind is not ModelKind.CHECKPOINT:
            return
        settings = self.settings(card)
        await self._hashes.compute(card.files[0])
        if isinstance(settings, ImageSettings) and settings.vae is not None:
            await self._hashes.compute(settings.vae)

    def _text_settings(self, card: ModelCard) -> TextSettings:
        settings = self._with_overrides(card, self._text)
        for key, text in problems(settings):
            raise LoadFailed(f"the settings of model {card.id!r} in the configuration: {key} {text}", model=card.id)
        loras = settings.loras if self._adapters_for is None else self._adapters_for(card, settings.loras)
        return msgspec.structs.replace(settings, loras=loras, mmproj=card.projector, draft=self._draft(card, settings))

    def _draft(self, card: ModelCard, settings: TextSettings) -> str:
        """Return the file of the model that guesses, empty for none."""
        if not settings.draft or not settings.speculation:
            return ""
        found = self._draft_for(settings.draft)
        if found is not None and found.id == card.id:
            return ""
        if found is not None and found.broken is None:
            return _loadable(found)
        file = Path(settings.draft).expanduser()
        if not file.is_file():
            text = f"the settings of model {card.id!r} in the configuration: draft {settings.draft!r} is no text model"
            raise LoadFailed(text if found is None else f"{text} that can be loaded: {found.broken}", model=card.id)
        return str(file.absolute())

    def _key(self, card: ModelCard, settings: LoadSettings) -> str:
        """Return the name under which measured figures are kept: a card as it is, loaded in this way."""
        if isinstance(settings, ImageSettings) and pool_of(settings, self._devices) == RAM:
            # There the limit decides about nothing that is measured: only on devices do parts stay or go by it.
            settings = msgspec.structs.replace(settings, memory_limit=0, warm=True)
        digest = hashlib.sha256(msgspec.json.encode(settings)).hexdigest()[:16]
        return f"{card.id}|{card.size}|{card.modified}|{digest}"

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


def _more_files(settings: LoadSettings) -> tuple[str, ...]:
    """Return the files that are loaded beside the model's own: what replaces its VAE, or adapters and projector."""
    if isinstance(settings, ImageSettings):
        return (settings.vae,) if settings.vae else ()
    adapters = (item.file for item in settings.loras or () if isinstance(item, Adapter))
    return tuple(file for file in (*adapters, settings.mmproj, settings.draft) if file)


def _loadable(card: ModelCard) -> str:
    """Return the file of a model that another one's worker can load."""
    if not needs_conversion(card):
        return card.files[0]
    if Path(card.converted).is_file():
        return card.converted
    text = f"draft {card.id!r} is in a format of 2023; it is converted when it is first used as a model by itself"
    raise LoadFailed(text, model=card.id)


def _size(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0
