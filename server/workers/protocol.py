"""The messages between parent and child, both ways. No logic.

New fields get defaults, so that neighbouring versions understand each other.
"""

import msgspec

from server.core.errors import ErrorData
from server.core.jobs import CancelMode, JobId, Outcome, Work
from server.core.models import LoadedFacts, LoadSettings, ModelCard, Runtime

PROTOCOL = 1


class Warm(msgspec.Struct, frozen=True, kw_only=True, tag="warm"):
    """Import what the engine of this runtime needs, and wait for a model of it. May come before `Load`.

    `room` are bytes of RAM to have ready for weights.
    """

    runtime: Runtime
    room: int = 0


class Load(msgspec.Struct, frozen=True, kw_only=True, tag="load"):
    """Load this model. First message of a worker's life, but for `Warm`."""

    card: ModelCard
    settings: LoadSettings


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """Take this job."""

    job: JobId
    work: Work


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    """End this job early."""

    job: JobId
    mode: CancelMode


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """Close the engine and end the process."""


Down = Warm | Load | Run | Cancel | Stop


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The child is up."""

    protocol: int
    pid: int


class Warmed(msgspec.Struct, frozen=True, kw_only=True, tag="warmed"):
    """The libraries are there; the process holds so many bytes of RAM, or soon will."""

    held: int


class LoadProgress(msgspec.Struct, frozen=True, kw_only=True, tag="load_progress"):
    """The loaded fraction, 0 ... 1."""

    fraction: float


class Loaded(msgspec.Struct, frozen=True, kw_only=True, tag="loaded"):
    """The model is ready."""

    facts: LoadedFacts


class NotLoaded(msgspec.Struct, frozen=True, kw_only=True, tag="not_loaded"):
    """The model could not be loaded; the child ends."""

    error: ErrorData


class Outcomes(msgspec.Struct, frozen=True, kw_only=True, tag="outcomes"):
    """What came out of one engine step, for all jobs: one frame a step."""

    items: list[Outcome]


Up = Hello | Warmed | LoadProgress | Loaded | NotLoaded | Outcomes
