"""A text and an image engine without models, for tests alone: deterministic, and as faulty as a test asks.

The "model file" is a small JSON text; what it and prompts may ask for is in `fake_model`.
"""

import io
import math
import random
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from server.core.errors import ContextTooLong, InvalidValue, LoadFailed, ServerError
from server.core.image import FileFormat, ImageFinished, ImageReady, ImageRequest, ImageStarted, Preview, StepDone
from server.core.jobs import CancelMode, Event, JobDone, JobEvent, JobFailed, JobId, Outcome, Work
from server.core.memory import MIB, RAM, Footprint
from server.core.models import LoadedFacts, LoadSettings, ModelCard, Runtime
from server.core.prompt import PromptTree, Span
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    EmbeddingsReady,
    FinishReason,
    RerankRequest,
    SamplingParams,
    ScoresReady,
    TextDelta,
    TextFinished,
    TextPart,
    TextStarted,
    Tokenized,
    TokenizeRequest,
    Usage,
)
from server.engines.base import Engine, JobControl, OneAtATime, Report, WarmLoader
from server.engines.fake_model import FakeModel, Trouble, harm
from server.engines.meminfo import process_bytes

NEVER = 1 << 30
EMBEDDING_SIZE = 8
STEP_MS = 1000.0


class FakeTextLoader:
    """Makes a fake text engine."""

    def load(self, card: ModelCard, settings: LoadSettings, report: Report) -> Engine:
        """Load the fake; raise LoadFailed when its file is no fake model or says that it fails."""
        return FakeText(_read(card, report))


class FakeImageLoader:
    """Makes a fake image engine."""

    def load(self, card: ModelCard, settings: LoadSettings, report: Report) -> Engine:
        """Load the fake; raise LoadFailed when its file is no fake model or says that it fails."""
        return FakeImages(_read(card, report))


class FakeText:
    """Echoes prompts, all jobs in one step as a batching engine does: every step gives each of them a word."""

    def __init__(self, model: FakeModel) -> None:
        self.facts = _facts(model, context=model.context)
        self._trouble = Trouble(model)
        self._model = model
        self._jobs: dict[JobId, Iterator[Event]] = {}
        self._stopped: set[JobId] = set()
        self._ended: list[Outcome] = []
        self._held = _hold(model)

    def submit(self, job: JobId, work: Work) -> None:
        """Take a text job; raise ContextTooLong when one of its prompts is."""
        prompts = [prompt.split() for prompt in _prompts(work)]
        longest = max((len(words) for words in prompts), default=0)
        if longest >= self._model.context:
            raise ContextTooLong.of(self._model.context, longest)
        if isinstance(work, ChatRequest | CompletionRequest):
            self._jobs[job] = self._run(job, work, prompts)
        else:
            self._jobs[job] = iter([_measured(work, prompts)])

    def step(self) -> list[Outcome]:
        """Let every job in a slot say its next word."""
        outcomes, self._ended = self._ended, []
        active = list(self._jobs.items())[: self._model.slots]
        if active:
            _wait(self._model.step_ms)
        for job, events in active:
            outcomes.append(self._advance(job, events))
        return outcomes

    def cancel(self, job: JobId, mode: CancelMode) -> None:
        """End a job early."""
        if job not in self._jobs:
            return
        if mode is CancelMode.ABANDON:
            self._drop(job)
            self._ended.append(JobDone(job))
        else:
            self._stopped.add(job)

    def is_idle(self) -> bool:
        """Tell whether there is nothing to do or to tell."""
        return not self._jobs and not self._ended

    def close(self) -> None:
        """Forget all jobs."""
        self._jobs.clear()
        self._ended.clear()
        self._held = b""

    def _advance(self, job: JobId, events: Iterator[Event]) -> Outcome:
        try:
            return JobEvent(job, next(events))
        except StopIteration:
            ending: Outcome = JobDone(job)
        except ServerError as error:
            ending = JobFailed(job, error.to_data())
        self._drop(job)
        return ending

    def _drop(self, job: JobId) -> None:
        self._jobs.pop(job, None)
        self._stopped.discard(job)

    def _run(self, job: JobId, work: ChatRequest | CompletionRequest, prompts: list[list[str]]) -> Iterator[Event]:
        yield TextStarted(prompt_tokens=sum(len(words) for words in prompts))
        for index, words in enumerate(prompts):
            for choice in range(index * work.choices, (index + 1) * work.choices):
                yield from self._choice(job, choice, words, work.sampling)

    def _choice(self, job: JobId, choice: int, prompt: list[str], sampling: SamplingParams) -> Iterator[Event]:
        words, reason = answer(prompt, sampling, self._model)
        said = 0
        for word in words:
            if job in self._stopped:
                reason = "cancelled"
                break
            self._trouble.strike(" ".join(prompt), said)
            text = "\ud800" if self._trouble.garbles(" ".join(prompt), said) else word
            yield TextDelta(choice=choice, text=text)
            said += 1
        usage = Usage(prompt_tokens=len(prompt), completion_tokens=said)
        yield TextFinished(choice=choice, reason=reason, usage=usage)


class FakeImages(OneAtATime):
    """Makes pictures of one colour that seed and prompt decide."""

    def __init__(self, model: FakeModel) -> None:
        super().__init__()
        self.facts = _facts(model)
        self._model = model
        self._trouble = Trouble(model)
        self._held = _hold(model)

    def check(self, work: Work) -> None:
        """Refuse what is no image request."""
        if not isinstance(work, ImageRequest):
            raise InvalidValue.of("model", f"model {work.model!r} makes pictures, no text")

    def run(self, work: Work, control: JobControl) -> Iterator[Event]:
        """Yield the events of a picture job: every step waits `step_ms`, every batch gives its pictures at its end."""
        assert isinstance(work, ImageRequest)
        prompt = text_of(work.prompt)
        steps = [work.denoise.steps] + ([work.hires.denoise.steps] if work.hires else [])
        size = work.hires.size if work.hires else work.size
        width, height = size.width // 8 * 8, size.height // 8 * 8
        yield ImageStarted(passes=work.batches * len(steps), steps=steps[0])
        for batch in range(work.batches):
            for part, count in enumerate(steps):
                yield from self._denoise(work, batch * len(steps) + part, count, control)
            for number in range(work.batch_size):
                index = batch * work.batch_size + number
                seed = work.seeds.first + (index if work.seeds.variation_strength == 0 else 0)
                picture = png(width, height, colour(prompt, seed))
                as_png, as_other = (picture, b"") if work.file.kind == "png" else _rewritten(picture, work.file)
                yield ImageReady(
                    index=index,
                    seed=seed,
                    variation=work.seeds.variation + index,
                    png=as_png,
                    file=as_other,
                    width=width,
                    height=height,
                )
            control.take_skip()
            if control.stopped:
                yield ImageFinished(reason="stopped")
                return
        yield ImageFinished(reason="complete")

    def _denoise(self, work: ImageRequest, index: int, steps: int, control: JobControl) -> Iterator[Event]:
        for step in range(1, steps + 1):
            if control.mode is not None:
                return
            _wait(self._model.step_ms)
            self._trouble.strike(text_of(work.prompt), step - 1)
            yield StepDone(pass_index=index, step=step, steps=steps)
            if work.preview_every and step % work.preview_every == 0:
                yield Preview(pass_index=index, png=png(8, 8, (step % 256, 0, 0)))


def warm(room: int) -> WarmLoader:
    """Return what a spare worker has before its model is known: nothing special here, and no room is kept."""
    return WarmLoader(Runtime.FAKE_IMAGE, FakeImageLoader(), held=process_bytes() + room)


def answer(prompt: list[str], sampling: SamplingParams, model: FakeModel) -> tuple[list[str], FinishReason]:
    """Return the words, with the space before each but the first, that the fake says to a prompt, and why it ends.

    It repeats the prompt until it has said `model.words` words (with `ignore_eos`: until something else ends it).
    """
    room = model.context - len(prompt)
    limit = room if sampling.max_tokens is None else min(room, sampling.max_tokens)
    wanted = NEVER if sampling.ignore_eos else model.words or len(prompt)
    source = prompt or ["?"]
    count = min(limit, wanted)
    words = [source[k % len(source)] if k == 0 else " " + source[k % len(source)] for k in range(count)]
    text = "".join(words)
    ends = [at for stop in sampling.stop if stop and (at := text.find(stop)) >= 0]
    if ends:
        return _cut(words, min(ends)), "stop"
    return words, "stop" if wanted <= limit else "length"


def text_of(tree: PromptTree) -> str:
    """Return all text of a prompt tree."""
    texts = (text for part in tree.parts for text in part.texts)
    return " ".join(piece.text for text in texts for piece in text.pieces if isinstance(piece, Span))


def colour(prompt: str, seed: int) -> tuple[int, int, int]:
    """Return the colour of a picture: the same for the same prompt and seed."""
    source = random.Random(f"{seed} {prompt}")
    return source.randrange(256), source.randrange(256), source.randrange(256)


def png(width: int, height: int, rgb: tuple[int, int, int]) -> bytes:
    """Return a PNG of one colour."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + bytes(rgb) * width) * height
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _rewritten(picture: bytes, form: FileFormat) -> tuple[bytes, bytes]:
    from PIL import Image  # only where a test asks for another format

    from server.engines.image.files import held

    return held(Image.open(io.BytesIO(picture)), form)


def _read(card: ModelCard, report: Report) -> FakeModel:
    try:
        model = msgspec.json.decode(Path(card.files[0]).read_bytes(), type=FakeModel)
    except (OSError, msgspec.MsgspecError) as error:
        raise LoadFailed(f"model {card.id!r} is no fake model: {error}", model=card.id) from error
    for line in range(model.noise):
        sys.stderr.write(f"loading line {line}\n")
    sys.stderr.flush()
    for quarter in (0.25, 0.5, 0.75, 1.0):
        _wait(model.load_ms / 4)
        report(quarter)
    if model.fail_load:
        raise LoadFailed(f"model {card.id!r} cannot be loaded: {model.fail_load}", model=card.id)
    if model.while_loading and model.fault is not None:
        harm(model.fault)
    return model


def _facts(model: FakeModel, context: int = 0) -> LoadedFacts:
    held = {RAM: model.resident_mb * MIB}
    return LoadedFacts(slots=model.slots, footprint=Footprint(resident=held), context=context, dtype="fake")


def _hold(model: FakeModel) -> bytes:
    return b"\x01" * (model.resident_mb * MIB) if model.allocate else b""


def _prompts(work: Work) -> list[str]:
    match work:
        case ChatRequest():
            last = work.messages[-1].parts if work.messages else ()
            return [" ".join(part.text for part in last if isinstance(part, TextPart))]
        case CompletionRequest():
            return [_plain(prompt) for prompt in work.prompts]
        case EmbeddingRequest():
            return [_plain(text) for text in work.inputs]
        case RerankRequest():
            return list(work.documents)
        case TokenizeRequest():
            return _prompts(work.chat) if work.chat else [_plain(work.text or work.tokens or "")]
        case _:
            raise InvalidValue.of("model", f"model {work.model!r} writes text, it makes no pictures")


def _plain(prompt: str | tuple[int, ...]) -> str:
    return prompt if isinstance(prompt, str) else " ".join(f"t{token}" for token in prompt)


def _measured(work: Work, prompts: list[list[str]]) -> Event:
    """Return the answer to what writes no text: a word is a token, its checksum the token's number."""
    match work:
        case EmbeddingRequest():
            size = work.dimensions or EMBEDDING_SIZE
            vectors = b"".join(_vector(" ".join(words), size) for words in prompts)
            return EmbeddingsReady(first=0, dimensions=size, vectors=vectors)
        case RerankRequest():
            asked = set(work.query.split())
            return ScoresReady(first=0, scores=tuple(float(len(asked.intersection(words))) for words in prompts))
        case _:
            words = prompts[0]
            tokens = tuple(zlib.crc32(word.encode()) & 0xFFFF for word in words)
            return Tokenized(tokens=tokens, pieces=tuple(word.encode() for word in words), text=" ".join(words))


def _vector(text: str, size: int) -> bytes:
    source = random.Random(text)
    numbers = [source.gauss(0, 1) for _ in range(size)]
    length = math.hypot(*numbers)
    return struct.pack(f"<{size}f", *(number / length for number in numbers))


def _cut(words: list[str], length: int) -> list[str]:
    kept: list[str] = []
    for word in words:
        if length <= 0:
            break
        kept.append(word[:length])
        length -= len(word)
    return kept


def _wait(milliseconds: float) -> None:
    if milliseconds > 0:
        time.sleep(milliseconds / STEP_MS)
