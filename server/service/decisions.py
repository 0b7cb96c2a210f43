"""What the scheduler is told (events), what it answers (actions), and the stages of a resident: values only."""

from collections.abc import Mapping
from enum import Enum, auto

import msgspec

from server.core.errors import ErrorData
from server.core.jobs import JobId
from server.core.memory import PoolId
from server.core.models import ModelId


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """A job arrived. `need` is what its model is expected to hold, `working` what the job takes besides, by pool.

    `runtime` names the spare worker that its model could be loaded into.
    `since` is the time at which a job that is done again arrived first; it takes its old place in the queue. `owner`
    is who asked, empty when nobody in particular did.
    """

    job: JobId
    model: ModelId
    need: Mapping[PoolId, int]
    working: Mapping[PoolId, int] = {}
    runtime: str = ""
    owner: str = ""
    pinned: bool = False
    since: float | None = None


class Finished(msgspec.Struct, frozen=True):
    """A granted job has ended, whatever the way, and its slot is free."""

    job: JobId


class Withdrawn(msgspec.Struct, frozen=True):
    """A waiting job is no longer wanted."""

    job: JobId


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A load has ended well. `held` is measured."""

    model: ModelId
    slots: int
    held: Mapping[PoolId, int]


class LoadEnded(msgspec.Struct, frozen=True, kw_only=True):
    """A load has failed; the process is gone."""

    model: ModelId
    error: ErrorData


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model's process has ended. `died` when nobody had asked it to; `how` it did."""

    model: ModelId
    died: bool = False
    how: str = ""


class Grown(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model holds so much from now on: what a job has left behind in it counts, too."""

    model: ModelId
    held: Mapping[PoolId, int]


class SpareWanted(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing goes on, and a spare worker of this runtime would be of use; it would hold `need`.

    With `room` bytes of RAM more it would load faster, which is worth it while `kept` stays free beside them.
    """

    runtime: str
    need: Mapping[PoolId, int]
    room: int = 0
    kept: Mapping[PoolId, int] = {}


class SpareStarted(msgspec.Struct, frozen=True):
    """The process of this spare is there and may be given a model."""

    number: int


class SpareReady(msgspec.Struct, frozen=True, kw_only=True):
    """This spare has imported everything and holds so much."""

    number: int
    held: Mapping[PoolId, int]


class SpareGone(msgspec.Struct, frozen=True, kw_only=True):
    """The process of this spare has ended. `died` when nobody had asked it to."""

    number: int
    died: bool = False


class Worn(msgspec.Struct, frozen=True):
    """A model's process is not to be trusted any more (it ran out of memory): no new jobs, it leaves when idle."""

    model: ModelId


class Unload(msgspec.Struct, frozen=True):
    """Somebody wants this model away; ignored while jobs run on it."""

    model: ModelId


class Shutdown(msgspec.Struct, frozen=True):
    """Take nothing new: waiting jobs are refused, running ones go on, idle models leave."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed: pauses may be over, patience may have run out."""


SpareEvent = SpareWanted | SpareStarted | SpareReady | SpareGone
SchedulerEvent = (
    Submitted | Finished | Withdrawn | Loaded | LoadEnded | Gone | Grown | Worn | Unload | Shutdown | Tick | SpareEvent
)


class Grant(msgspec.Struct, frozen=True):
    """Give the job to the model's worker."""

    job: JobId
    model: ModelId


class Refuse(msgspec.Struct, frozen=True):
    """Tell the job that it will not be done."""

    job: JobId
    error: ErrorData


class Load(msgspec.Struct, frozen=True):
    """Start loading the model, into the spare worker if it is said so."""

    model: ModelId
    into_spare: bool = False


class Evict(msgspec.Struct, frozen=True):
    """End the model's process and tell when it is gone."""

    model: ModelId


class Warm(msgspec.Struct, frozen=True):
    """Start this spare worker, with so many bytes of RAM ready for weights."""

    number: int
    runtime: str
    room: int = 0


class Cool(msgspec.Struct, frozen=True):
    """End this spare worker and tell when it is gone."""

    number: int


Action = Grant | Refuse | Load | Evict | Warm | Cool


class Stage(Enum):
    """Where a resident is in its life; absent ones are not listed."""

    LOADING = auto()
    READY = auto()
    LEAVING = auto()
