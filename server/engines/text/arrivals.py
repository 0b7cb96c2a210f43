"""Requests with pictures that were not looked at yet: one picture a step, so that running replies go on between.

A request is taken into the engine, or refused, when all its pictures are read: what is wrong with them is told before
its answer begins.
"""

from typing import NamedTuple

from server.core.errors import Broken, ServerError
from server.core.jobs import JobId
from server.core.text import ChatRequest, CompletionRequest, PicturePart
from server.engines.text.placed_pictures import pictures_in
from server.engines.text.sight import Sight


class Arrival(NamedTuple):
    """A request whose pictures are all read, or what is wrong with one of them."""

    job: JobId
    work: ChatRequest | CompletionRequest
    error: ServerError | None = None


class Arrivals:
    """The line of such requests, for one engine; empty for ever without `sight`."""

    def __init__(self, sight: Sight | None) -> None:
        self._sight = sight
        self._line: dict[JobId, tuple[ChatRequest | CompletionRequest, list[PicturePart]]] = {}

    def __len__(self) -> int:
        return len(self._line)

    def __contains__(self, job: JobId) -> bool:
        return job in self._line

    def add(self, job: JobId, work: ChatRequest | CompletionRequest) -> None:
        """Take a request to the end of the line."""
        self._line[job] = (work, pictures_in(work))

    def take(self, job: JobId) -> ChatRequest | CompletionRequest:
        """Take a request out of the line, whatever of it was read."""
        return self._line.pop(job)[0]

    def clear(self) -> None:
        """Forget all of them."""
        self._line.clear()

    def step(self) -> Arrival | None:
        """Read the next picture of the first request and return that one if it is through; may block for a second."""
        job, (_, left) = next(iter(self._line.items()))
        if self._sight is None:
            raise Broken("a model that does not see has a picture before it")
        try:
            self._sight.look(left.pop(0))
        except ServerError as error:
            return Arrival(job, self.take(job), error)
        return None if left else Arrival(job, self.take(job))
