"""Jobs from their arrival to their end: who reads them, how often they were tried, what may still be done for them."""

import asyncio
from collections.abc import Iterator

import msgspec

from server.core.errors import ServerError
from server.core.image import ImageReady, ImageStarted
from server.core.jobs import Event, JobId, JobState, Work
from server.core.models import ModelCard, ModelId
from server.core.slots import SlotDone, SlotRequest
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    EmbeddingsReady,
    ReasoningDelta,
    ScoresReady,
    TextDelta,
    TextFinished,
    TextStarted,
    Tokenized,
    ToolCallDelta,
)
from server.service.board import Board, JobEntry
from server.service.stream import JobStream

MAX_TRIES = 2


class LiveJob:
    """A job with its reader. `ending` once it was asked to stop, `abandoned` when nobody reads it any more."""

    def __init__(self, entry: JobEntry, card: ModelCard, stream: JobStream) -> None:
        self.entry = entry
        self.card = card
        self.stream = stream
        self.tries = 0
        self.ending = False
        self.abandoned = False
        self.deadline: asyncio.TimerHandle | None = None
        self._accepted = False
        self._spoken = False

    @property
    def id(self) -> JobId:
        """Return the job's id."""
        return self.entry.id

    def may_try_again(self) -> bool:
        """Tell whether it can be done anew unnoticed: its reader has got nothing of substance yet."""
        return not self._spoken and not self.ending and self.tries < MAX_TRIES

    def take(self, event: Event) -> None:
        """Carry an event to the board and the reader, who learns only once that the job was accepted."""
        self.entry.note(event)
        match event:
            case TextStarted() | ImageStarted():
                if self._accepted:
                    return
                self._accepted = True
            case TextDelta() | ReasoningDelta() | ToolCallDelta() | TextFinished() | ImageReady():
                self._spoken = True
            case EmbeddingsReady() | ScoresReady() | Tokenized() | SlotDone():
                self._spoken = True
            case _:
                pass
        self.stream.push(event)


class LiveJobs:
    """The jobs that have not ended, in order of arrival; keeps the board in step with them."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._jobs: dict[JobId, LiveJob] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[LiveJob]:
        return iter(tuple(self._jobs.values()))

    def __contains__(self, job: JobId) -> bool:
        return job in self._jobs

    def get(self, job: JobId) -> LiveJob | None:
        """Return a job that has not ended."""
        return self._jobs.get(job)

    def add(self, live: LiveJob) -> None:
        """Take in a new job."""
        self._jobs[live.id] = live
        self._board.add(live.entry)

    def of(self, model: ModelId, state: JobState) -> list[LiveJob]:
        """Return the jobs of a model that are in this state."""
        return [live for live in self if live.card.id == model and live.entry.state is state]

    def end(self, live: LiveJob, state: JobState, now: float, error: ServerError | None = None) -> None:
        """End a job and its stream."""
        self._jobs.pop(live.id, None)
        self._board.end(live.id, state, now)
        if live.deadline is not None:
            live.deadline.cancel()
        if error is not None:
            live.stream.fail(error)
        else:
            live.stream.finish()
        self._changed.set()

    async def all_ended(self) -> None:
        """Return once there is no job left."""
        while self._jobs:
            self._changed.clear()
            await self._changed.wait()


def named(work: Work, model: ModelId, owner: str = "") -> Work:
    """Return the work with its model's canonical name, and with its owner in the scope of what is computed for it."""
    if owner and isinstance(work, ChatRequest | CompletionRequest | SlotRequest):
        return msgspec.structs.replace(work, model=model, scope=f"{owner}\n{work.scope}")
    return msgspec.structs.replace(work, model=model)
