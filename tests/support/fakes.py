"""A house without real models: cards of fake engines, a shelf, a provision, a running service over child processes."""

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from server.core.errors import UnknownModel
from server.core.image import ImageReady
from server.core.jobs import Event, Work
from server.core.memory import MIB, RAM, Footprint, MemoryBudget, PoolId
from server.core.models import ImageSettings, LoadSettings, ModelCard, ModelId, ModelKind, Runtime, TextSettings
from server.core.text import TextDelta
from server.engines.fake_model import FakeModel
from server.registry.spare import SpareWish
from server.service.limits import Limits
from server.service.loop import Loop
from server.service.scheduler import Scheduler
from server.service.service import Service
from server.service.stream import JobStream
from tests.support.builders import card

BUDGET_MB = 1000
FAST = Limits(tick=0.02, cancel=30.0, stop=5.0)


def text_model(folder: Path, name: str = "talker", **settings: object) -> ModelCard:
    """Write a fake text model (`settings` as in FakeModel) and return its card."""
    return _model(folder, name, Runtime.FAKE_TEXT, FakeModel(**settings))  # type: ignore[arg-type]


def image_model(folder: Path, name: str = "painter", **settings: object) -> ModelCard:
    """Write a fake image model (`settings` as in FakeModel, but for one slot) and return its card."""
    return _model(folder, name, Runtime.FAKE_IMAGE, FakeModel(**{"slots": 1, **settings}))  # type: ignore[arg-type]


def _model(folder: Path, name: str, runtime: Runtime, model: FakeModel) -> ModelCard:
    file = folder / f"{name}.json"
    file.write_bytes(msgspec.json.encode(model))
    return card(name, runtime=runtime, file=str(file))


class FakeShelf:
    """A catalog of given cards, found by id and alias."""

    def __init__(self, *cards: ModelCard) -> None:
        self._cards = list(cards)
        self.scans = 0

    def cards(self, *kinds: ModelKind) -> tuple[ModelCard, ...]:
        """Return the cards of these kinds, of all with none given."""
        return tuple(card for card in self._cards if not kinds or card.kind in kinds)

    def find(self, name: str, *kinds: ModelKind) -> ModelCard:
        """Return the card of that id or alias; raise UnknownModel."""
        for found in self.cards(*kinds):
            if name == found.id or name in found.aliases:
                return found
        raise UnknownModel.named(name, [card.id for card in self._cards if card.id[:1] == name[:1]])

    def remove(self, name: str) -> None:
        """Take a card away, as when its file is deleted."""
        self._cards = [card for card in self._cards if card.id != name]

    def scan(self) -> None:
        """Count the call."""
        self.scans += 1


@dataclass
class FakeProvision:
    """Expects what the fake model's file claims, or what `expects` says (MiB by model); remembers what it is told."""

    expects: dict[str, int] = field(default_factory=dict)
    works: dict[str, int] = field(default_factory=dict)
    spares: SpareWish | None = None
    jobs: dict[str, dict[PoolId, int]] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    learned: dict[str, Footprint] = field(default_factory=dict)
    fingerprints: list[str] = field(default_factory=list)

    def settings(self, card: ModelCard) -> LoadSettings:
        """Return the defaults of the card's kind."""
        return ImageSettings() if card.kind is ModelKind.CHECKPOINT else TextSettings()

    def expected(self, card: ModelCard) -> Footprint:
        """Return what the card will hold."""
        megabytes = self.expects.get(card.id)
        if megabytes is None and not card.files:
            megabytes = 64
        if megabytes is None:
            megabytes = msgspec.json.decode(Path(card.files[0]).read_bytes(), type=FakeModel).resident_mb
        return Footprint(resident={RAM: megabytes * MIB})

    def learn(self, card: ModelCard, footprint: Footprint) -> None:
        """Remember what it did hold."""
        self.learned[card.id] = footprint

    def working(self, card: ModelCard, work: Work | None) -> dict[PoolId, int]:
        """Return what `works` says that a job on the card takes (MiB by model)."""
        return {RAM: self.works[card.id] * MIB} if card.id in self.works else {}

    def note_job(self, card: ModelCard, work: Work, taken: Mapping[PoolId, int]) -> None:
        """Remember what a job took."""
        self.jobs[card.id] = dict(taken)

    def spare(self, loaded: Collection[ModelId]) -> SpareWish | None:
        """Return what `spares` says."""
        return self.spares

    def is_pinned(self, card: ModelCard) -> bool:
        """Tell whether the card stays."""
        return card.id in self.pinned

    async def fingerprint(self, card: ModelCard) -> None:
        """Note the call."""
        self.fingerprints.append(card.id)


@dataclass(frozen=True)
class House:
    """A running service and its parts."""

    service: Service
    loop: Loop
    shelf: FakeShelf
    provision: FakeProvision

    def pid(self, model: str) -> int:
        """Return the process id of a loaded model's worker."""
        (pid,) = (view.pid for view in self.loop.residents() if view.model == model)
        assert pid is not None
        return pid


@contextlib.asynccontextmanager
async def house(
    *cards: ModelCard,
    budget_mb: int = BUDGET_MB,
    queue_limit: int = 512,
    patience_s: float = 5.0,
    limits: Limits = FAST,
    provision: FakeProvision | None = None,
) -> AsyncIterator[House]:
    """Run a service over fake models in real child processes."""
    budget = MemoryBudget(limits={RAM: budget_mb * MIB})
    provision = provision or FakeProvision()
    shelf = FakeShelf(*cards)
    loop = Loop(Scheduler(budget, patience_s=patience_s), provision, limits=limits)
    service = Service(shelf, loop, budget=budget, queue_limit=queue_limit, machine_ram=lambda: (8 << 30, 4 << 30))
    loop.start()
    try:
        yield House(service, loop, shelf, provision)
    finally:
        await loop.close()


async def collected(stream: JobStream) -> list[Event]:
    """Return all events of a stream; raise the error that ends it."""
    return [event async for event in stream]


def text_in(events: list[Event], choice: int = 0) -> str:
    """Return the text of one choice."""
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.choice == choice)


def pictures_in(events: list[Event]) -> list[ImageReady]:
    """Return the finished pictures."""
    return [event for event in events if isinstance(event, ImageReady)]


async def said(stream: JobStream) -> str:
    """Return the whole text of a stream."""
    return text_in(await collected(stream))


async def first(stream: JobStream, kind: type[Event]) -> Event:
    """Read on to the first event of a kind and return it."""
    async for event in stream:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"the stream ended without a {kind.__name__}")
