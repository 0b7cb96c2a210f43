"""The life of one job of a pipeline, from its request to finished pictures.

| asked to end early | what is handed over |
|---|---|
| before a batch | nothing of it |
| in a pass | what the model took the picture to be at the last step, decoded; no second pass |
| in a pass of a pipeline that keeps its latents in a way of its own | nothing of the batch |
| SKIP | the same, and the next batch begins |
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from server.core.errors import Broken, ServerError
from server.core.image import ImageFinished, ImageReady, ImageRequest, ImageStarted, Size
from server.core.jobs import Event
from server.engines.base import JobControl
from server.engines.image.denoise import Entry
from server.engines.image.finishing import Finished
from server.engines.image.pipelines.beginning import Origin, Start
from server.engines.image.pipelines.calls import arguments_of, ignored_of
from server.engines.image.pipelines.course import Course, Cut
from server.engines.image.pipelines.given import Given, entry_of, given_of
from server.engines.image.pipelines.loaded import Loaded
from server.engines.image.pipelines.second import enlarged, second_of
from server.engines.image.pipelines.turns import Turns
from server.engines.image.seeds import NoiseSource, picture_seeds

MAX_BYTE = 255


@dataclass(frozen=True, kw_only=True)
class Made:
    """A pass of one batch: pictures as arrays [H, W, 3] 0 ... 1, and the last cells where they are known."""

    pictures: tuple[np.ndarray, ...]
    cells: torch.Tensor | None


@dataclass
class PipelineJob:
    """One job; `events` runs it."""

    loaded: Loaded
    request: ImageRequest
    control: JobControl
    notes: list[str] = field(default_factory=list, init=False)
    given: Given | None = field(default=None, init=False)
    passes: int = field(default=0, init=False)
    skipping: bool = field(default=False, init=False)

    def events(self) -> Iterator[Event]:
        """Yield the events of the job, with bounded work between them."""
        request = self.request
        first = _steps_of(request)
        yield ImageStarted(passes=request.batches * (2 if request.hires else 1), steps=first)
        if request.init is not None:
            self.given = given_of(self.loaded, request, request.init)
        for batch in range(request.batches):
            self.control.take_skip()
            if self.control.stopped:
                break
            self.skipping = False
            yield from self._batch(range(batch * request.batch_size, (batch + 1) * request.batch_size))
        yield ImageFinished(
            reason="stopped" if self.control.stopped else "complete",
            notes=tuple(self.notes),
            blank_mask=self.given is not None and self.given.sources.blank_mask,
            ignored=ignored_of(self.loaded.pipeline, request, self.loaded.source),
        )

    def is_over(self) -> bool:
        """Tell whether this batch shall end now; a SKIP counts for the whole batch."""
        self.skipping = self.control.take_skip() or self.skipping
        return self.skipping or self.control.stopped

    def _batch(self, pictures: range) -> Iterator[Event]:
        request, given = self.request, self.given
        entry = None if request.init is None else entry_of(request.init)
        made = yield from self._pass(pictures, request, None if given is None else given.origin, entry)
        if request.hires is not None and made.pictures and not self.is_over():
            noise = self._noise(pictures, request.size)
            cells = enlarged(self.loaded, made.cells, request.hires, noise.posterior)
            second = second_of(request, request.hires)
            made = yield from self._pass(pictures, second, Origin(cells=cells), Entry(request.hires.strength))
        for place, (index, picture) in enumerate(zip(pictures, made.pictures, strict=False)):
            yield self._ready(index, picture, place)

    def _pass(
        self, pictures: range, asked: ImageRequest, origin: Origin | None, entry: Entry | None
    ) -> Generator[Event, None, Made]:
        """Run one pass of a request with its events and return what it made."""
        self.notes += [note for note in self.loaded.adapters.use(asked.adapters) if note not in self.notes]
        steps, skipped, size = asked.denoise.steps, 0, asked.size
        if entry is not None:
            steps, begun = entry.count(asked.denoise.steps)
            skipped = max(steps - begun - 1, 0)
        number, self.passes = self.passes, self.passes + 1
        start = self._start(pictures, size, origin, skipped, 1.0 if entry is None else entry.noise_factor)
        call = self._call(pictures, asked, steps, start)

        def run(turns: Turns[Event, Made]) -> Made:
            course = Course(
                loaded=self.loaded,
                size=size,
                number=number,
                start=start,
                turns=turns,
                is_over=self.is_over,
                preview_every=self.request.preview_every,
            )
            with self.loaded.led(on_step=course.step, on_schedule=course.schedule, skipped=skipped), torch.no_grad():
                try:
                    made = _pictures(call())
                except Cut as cut:
                    made = cut.pictures
            return Made(pictures=made, cells=course.last)

        turns: Turns[Event, Made] = Turns(run)
        try:
            while (event := turns.advance()) is not None:
                yield event
        finally:
            turns.close()
        return turns.result

    def _start(self, pictures: range, size: Size, origin: Origin | None, skipped: int, factor: float) -> Start | None:
        grid, place = self.loaded.grid, self.loaded.placement
        if grid is None:
            return None
        noise = self._noise(pictures, size).first() * factor
        return Start(grid, noise, place.precision.model, origin, skipped)

    def _call(self, pictures: range, asked: ImageRequest, steps: int, start: Start | None) -> Callable[[], Any]:
        pipeline, size = self.loaded.pipeline, asked.size
        arguments = arguments_of(pipeline, asked, len(pictures))
        arguments |= {"height": size.height, "width": size.width, "num_inference_steps": steps, "output_type": "np"}
        seeds = [picture_seeds(self.request.seeds, index)[0] for index in pictures]
        arguments["generator"] = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        if start is not None:
            arguments["latents"] = start.tensor
        with_tiles = not self.loaded.room.has_whole_decode(size)

        def call() -> Any:
            with _tiled(pipeline.vae) if with_tiles else nullcontext():
                try:
                    return pipeline(**arguments)
                except (ServerError, torch.OutOfMemoryError):
                    raise
                except (ValueError, TypeError) as error:
                    raise Broken(f"the pipeline refused the call: {error}") from error

        return call

    def _noise(self, pictures: range, size: Size) -> NoiseSource:
        grid = self.loaded.grid
        shape = (4, size.height // 8, size.width // 8) if grid is None else grid.shape(size)
        return NoiseSource(self.request.seeds, pictures, shape, device=self.loaded.placement.device)

    def _ready(self, index: int, picture: np.ndarray, place: int) -> ImageReady:
        """Finish the picture at `place` of its batch."""
        if not np.isfinite(picture).all():
            raise Broken("the model made no numbers (NaN); run it in bfloat16 or float32")
        done = Finished(Image.fromarray((picture * MAX_BYTE).astype(np.uint8)))
        if self.given is not None:
            done = self.given.finishing.finished(done.image, torch.empty(0), place)
        return done.ready(self.request, index)


def _pictures(made: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(picture, dtype=np.float32) for picture in made.images)


def _steps_of(request: ImageRequest) -> int:
    steps = request.denoise.steps
    return steps if request.init is None else entry_of(request.init).count(steps)[1] + 1


class _tiled(AbstractContextManager[None]):  # noqa: N801  (used like a function)
    """While it lasts, a VAE that can decode in tiles does."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    def __enter__(self) -> None:
        if hasattr(self._vae, "enable_tiling"):
            self._vae.enable_tiling()

    def __exit__(self, *_: object) -> None:
        if hasattr(self._vae, "disable_tiling"):
            self._vae.disable_tiling()
