"""A Service without workers: the real verbs over a shelf of given cards and a loop that plays scripts.

`script(...)` says what the next submitted job does; without a script, text is answered `Hello world`, an
input is embedded as its length and three constants, a document's score is its length, and work on pixels gives tiny
pictures. A step is an
event to push, an error to end with, or an `asyncio.Event` to wait for. What was submitted is in `submissions`.
"""

import asyncio
import difflib
import struct
from collections import deque
from collections.abc import Callable

import msgspec

from server.core.errors import ModelBusy, ServerError, UnknownModel
from server.core.jobs import CancelMode, Event, JobId, JobState, Work
from server.core.memory import Footprint, MemoryBudget, PoolId
from server.core.models import AdapterFacts, ModelCard, ModelId, ModelKind, TextFacts
from server.core.pixels import (
    FrameRequest,
    GridRequest,
    GrowRequest,
    JoinRequest,
    LayRequest,
    SplitRequest,
    UpscaleRequest,
)
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    EmbeddingsReady,
    FinishReason,
    RerankRequest,
    ScoresReady,
    TextDelta,
    TextFinished,
    TextPart,
    TextStarted,
    Tokenized,
    TokenizeRequest,
    Usage,
)
from server.registry.residents import ResidentView
from server.service.board import Board, JobEntry, JobView
from server.service.service import Service
from server.service.stream import JobStream
from tests.support.fake_images import pictures

Step = Event | ServerError | asyncio.Event


def text_card(name: str = "tiny", *, pooling: str = "", **fields: object) -> ModelCard:
    """Return a card of a text model; one that pools makes embeddings, or scores (`rank`)."""
    facts = TextFacts(
        context_length=512, width=64, vocabulary=512, parameters=260_000, quantisation="F32", pooling=pooling
    )
    given = {"kind": ModelKind.TEXT, "size": 1_000_000, "modified": 1_700_000_000, "text": facts} | fields
    return ModelCard(id=ModelId(name), name=f"{name}.gguf", files=(f"/models/text/{name}.gguf",), **given)  # type: ignore[arg-type]


def image_card(name: str = "paint", **fields: object) -> ModelCard:
    """Return a card of a checkpoint."""
    given = {"kind": ModelKind.CHECKPOINT, "size": 2_000_000, "modified": 1_600_000_000} | fields
    path = f"/models/Stable-diffusion/{name}.safetensors"
    return ModelCard(id=ModelId(name), name=f"{name}.safetensors", files=(path,), **given)  # type: ignore[arg-type]


def resident(card: ModelCard, state: str = "ready", *, last_used: float = 0.0) -> ResidentView:
    """Return how a loaded card stands."""
    return ResidentView(
        model=card.id,
        kind=card.kind,
        state=state,
        slots=4,
        jobs=0,
        pid=4242,
        footprint=Footprint(resident={PoolId("ram"): card.size}),
        last_used=last_used,
    )


def said(*pieces: str, choice: int = 0, reason: FinishReason = "stop", prompt: int = 5, cached: int = 0) -> list[Event]:
    """Return the events of one choice, from its first piece of text to its end."""
    usage = Usage(prompt_tokens=prompt, completion_tokens=len(pieces), cached_tokens=cached)
    deltas: list[Event] = [TextDelta(choice=choice, text=piece) for piece in pieces]
    finished = TextFinished(choice=choice, reason=reason, usage=usage, prompt_ms=10.0, predicted_ms=20.0)
    return [*deltas, finished]


def answer(*pieces: str, reason: FinishReason = "stop", prompt: int = 5, cached: int = 0) -> list[Event]:
    """Return the events of a whole job with one choice."""
    return [TextStarted(prompt_tokens=prompt), *said(*pieces, reason=reason, prompt=prompt, cached=cached)]


def tokenized(work: TokenizeRequest) -> Tokenized:
    """Return the answer to a question for tokens: every byte of the text is one, every token a byte of the text."""
    if work.chat is not None:
        parts = [
            f"<{m.role}>" + "".join(p.text for p in m.parts if isinstance(p, TextPart)) for m in work.chat.messages
        ]
        text = "".join(parts)
    elif work.tokens is not None:
        text = bytes(token % 256 for token in work.tokens).decode(errors="replace")
    else:
        text = work.text or ""
    data = text.encode()
    return Tokenized(tokens=tuple(data), pieces=tuple(bytes([byte]) for byte in data), text=text)


class Submission(msgspec.Struct):
    """A job that a door submitted, and how the door let go of it."""

    work: Work
    owner: str
    tag: str
    stream: JobStream
    cancels: list[CancelMode] = []


class FakeShelf:
    """Given cards, found by id, name, stem or alias."""

    def __init__(self, cards: tuple[ModelCard, ...]) -> None:
        self.all = cards
        self.scans = 0

    def cards(self, *kinds: ModelKind) -> tuple[ModelCard, ...]:
        return tuple(card for card in self.all if not kinds or card.kind in kinds)

    def find(self, name: str, *kinds: ModelKind) -> ModelCard:
        cards = self.cards(*kinds)
        for card in cards:
            if name in (card.id, card.name, card.stem, *card.aliases):
                return card
        raise UnknownModel.named(name, difflib.get_close_matches(name, [card.id for card in cards], n=3))

    def scan(self) -> None:
        self.scans += 1


class FakeLoop:
    """Plays scripts in place of workers."""

    def __init__(self) -> None:
        self.board = Board()
        self.submissions: list[Submission] = []
        self.scripts: deque[tuple[Step, ...]] = deque()
        self.views: list[ResidentView] = []
        self.loads: list[ModelId] = []
        self.unloads: list[ModelId] = []
        self.listed: dict[ModelId, tuple[AdapterFacts, ...]] = {}
        self.on_fingerprint: Callable[[ModelCard], None] = lambda card: None
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, card: ModelCard, work: Work, *, owner: str, tag: str) -> JobStream:
        job = JobId(f"job-{len(self.submissions)}")
        stream = JobStream(job, self.cancel)
        self.submissions.append(Submission(work, owner, tag, stream))
        self.board.add(JobEntry(job, work, owner=owner, tag=tag, now=0.0))
        steps = self.scripts.popleft() if self.scripts else _usual(work)
        task = asyncio.get_running_loop().create_task(self._play(job, stream, steps))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream

    async def _play(self, job: JobId, stream: JobStream, steps: tuple[Step, ...]) -> None:
        for step in steps:
            if self.board.get(job) is None:
                return
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, ServerError):
                stream.fail(step)
                self.board.end(job, JobState.FAILED, 0.0)
                return
            else:
                self.board.running(job, 0.0)
                entry = self.board.get(job)
                if entry is not None:
                    entry.note(step)
                stream.push(step)
        self.board.end(job, JobState.DONE, 0.0)
        stream.finish()

    async def fingerprint(self, card: ModelCard) -> None:
        self.on_fingerprint(card)

    def cancel(self, job: JobId, mode: CancelMode) -> bool:
        if self.board.get(job) is None:
            return False
        submission = self.submissions[int(job.removeprefix("job-"))]
        submission.cancels.append(mode)
        if mode is CancelMode.SKIP:
            return True
        self.board.end(job, JobState.CANCELLED, 0.0)
        if mode is CancelMode.STOP:
            submission.stream.finish()
        return True

    async def load(self, card: ModelCard) -> None:
        self.loads.append(card.id)
        self.views = [*[view for view in self.views if view.model != card.id], resident(card)]

    async def unload(self, model: ModelId) -> None:
        if any(view.model == model and view.jobs for view in self.views):
            raise ModelBusy(f"model {model!r} is in use", model=model, retry_after=5)
        self.unloads.append(model)
        self.views = [view for view in self.views if view.model != model]

    def adapters(self, card: ModelCard) -> tuple[AdapterFacts, ...]:
        return self.listed.get(card.id, ())

    def residents(self) -> tuple[ResidentView, ...]:
        return tuple(self.views)

    def used(self) -> dict[PoolId, int]:
        return {PoolId("ram"): sum(view.footprint.resident[PoolId("ram")] for view in self.views)}


def _usual(work: Work) -> tuple[Step, ...]:
    match work:
        case ChatRequest():
            choices = work.choices
        case CompletionRequest():
            choices = work.choices * len(work.prompts)
        case TokenizeRequest():
            return (tokenized(work),)
        case EmbeddingRequest():
            rows = [[float(len(one)), 0.5, -0.25, 1.0][: work.dimensions] for one in work.inputs]
            packed = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
            return TextStarted(prompt_tokens=5), EmbeddingsReady(first=0, dimensions=len(rows[0]), vectors=packed)
        case RerankRequest():
            scores = tuple(float(len(document)) for document in work.documents)
            return TextStarted(prompt_tokens=5), ScoresReady(first=0, scores=scores)
        case UpscaleRequest():
            return tuple(pictures(len(work.pictures), steps=1, form=work.file))
        case SplitRequest() | GridRequest() | JoinRequest() | LayRequest():
            return tuple(pictures(1, steps=1))
        case GrowRequest() | FrameRequest():
            return tuple(pictures(4 if isinstance(work, GrowRequest) else 3, steps=1))
        case _:
            raise AssertionError(f"a job of the kind {type(work).__name__} needs a script")
    events: list[Step] = [TextStarted(prompt_tokens=5)]
    for choice in range(choices):
        events += said("Hello", " world", choice=choice)
    return tuple(events)


class FakeService(Service):
    """The real Service over doubles, so that its own checks are there too."""

    def __init__(self, *cards: ModelCard, residents: tuple[ResidentView, ...] = (), queue_limit: int = 512) -> None:
        self.shelf = FakeShelf(cards or (text_card(), image_card()))
        self.loop = FakeLoop()
        self.loop.views = list(residents)
        super().__init__(
            self.shelf,
            self.loop,  # type: ignore[arg-type]
            budget=MemoryBudget(limits={PoolId("ram"): 8_000_000}),
            queue_limit=queue_limit,
            machine_ram=lambda: (16_000_000, 8_000_000),
        )

    def script(self, *steps: Step) -> None:
        """Say what the next job without a script does."""
        self.loop.scripts.append(steps)

    @property
    def submissions(self) -> list[Submission]:
        return self.loop.submissions

    @property
    def last(self) -> Work:
        """Return the newest work that was submitted."""
        return self.loop.submissions[-1].work

    def live(self) -> tuple[JobView, ...]:
        """Return the jobs that have not ended."""
        return tuple(view for view in self.jobs() if view.state in (JobState.WAITING, JobState.RUNNING))
