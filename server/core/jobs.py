"""Accepted work: what was asked, how it stands, and how it ends."""

from enum import StrEnum
from typing import NewType

import msgspec

from server.core.errors import ErrorData
from server.core.image import ImageFinished, ImageReady, ImageRequest, ImageStarted, Preview, StepDone
from server.core.memory import PoolId
from server.core.pixels import (
    FrameRequest,
    GridRequest,
    GrowRequest,
    JoinRequest,
    LayRequest,
    MapRequest,
    PoseRequest,
    SplitRequest,
    UpscaleRequest,
)
from server.core.slots import SlotDone, SlotRequest
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    EmbeddingsReady,
    ReasoningDelta,
    RerankRequest,
    ScoresReady,
    TextDelta,
    TextFinished,
    TextStarted,
    Tokenized,
    TokenizeRequest,
    ToolCallDelta,
)

JobId = NewType("JobId", str)

Work = (
    ChatRequest
    | CompletionRequest
    | EmbeddingRequest
    | RerankRequest
    | TokenizeRequest
    | SlotRequest
    | ImageRequest
    | UpscaleRequest
    | GridRequest
    | SplitRequest
    | JoinRequest
    | MapRequest
    | PoseRequest
    | GrowRequest
    | FrameRequest
    | LayRequest
)


class Waiting(msgspec.Struct, frozen=True, kw_only=True, tag="waiting"):
    """The job has no worker yet; `position` counts from 0 among the waiting."""

    position: int


class Loading(msgspec.Struct, frozen=True, kw_only=True, tag="loading"):
    """The job waits for its model to be loaded."""

    model: str


Event = (
    Waiting
    | Loading
    | TextStarted
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | TextFinished
    | EmbeddingsReady
    | ScoresReady
    | Tokenized
    | SlotDone
    | ImageStarted
    | StepDone
    | Preview
    | ImageReady
    | ImageFinished
)


class CancelMode(StrEnum):
    """STOP: finish now and hand over what is there. SKIP: only this batch. ABANDON: nobody will read it."""

    STOP = "stop"
    SKIP = "skip"
    ABANDON = "abandon"


class JobState(StrEnum):
    """Where a job is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobEvent(msgspec.Struct, frozen=True, tag="job_event"):
    """Something came out of a running job."""

    job: JobId
    event: Event


class JobDone(msgspec.Struct, frozen=True, tag="job_done"):
    """The job ended well, or was cancelled as asked; nothing of it follows.

    Where it was measured, bytes per pool: `taken` is the most that the job took beside what the model held before,
    `held` what the model holds from now on.
    """

    job: JobId
    taken: dict[PoolId, int] = {}
    held: dict[PoolId, int] = {}


class JobFailed(msgspec.Struct, frozen=True, tag="job_failed"):
    """The job ended with an error; nothing of it follows."""

    job: JobId
    error: ErrorData


Outcome = JobEvent | JobDone | JobFailed
