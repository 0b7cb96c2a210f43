"""The child's loop inside the test's own process: what comes down is scripted, what goes up is kept."""

from collections import deque
from collections.abc import Callable, Iterable

from server.core.errors import ErrorData
from server.core.jobs import JobDone, JobEvent, JobFailed, JobId, Outcome
from server.workers.framing import encode, from_child
from server.workers.link import LinkClosed
from server.workers.protocol import Down, Outcomes, Up


class InlineLink:
    """A link without a socket.

    When the child waits and the script is over, the parent has gone. `answer`, called with each message that goes up,
    may return more for the script.
    """

    def __init__(self, script: Iterable[Down], answer: Callable[[Up], Iterable[Down]] = lambda _: ()) -> None:
        self.up: list[Up] = []
        self.closed = False
        self._down = deque(script)
        self._answer = answer

    def send(self, message: Up) -> None:
        """Keep a message, as it would arrive."""
        (arrived,) = from_child().feed(bytes(encode(message)))
        self.up.append(arrived)
        self._down.extend(self._answer(arrived))

    def receive(self, *, wait: bool) -> Down | None:
        """Return the next message of the script."""
        if self._down:
            return self._down.popleft()
        if wait:
            raise LinkClosed
        return None

    def close(self) -> None:
        """Note the end."""
        self.closed = True

    def outcomes(self, job: str | None = None) -> list[Outcome]:
        """Return what came out of all jobs, or of one."""
        items = [item for message in self.up if isinstance(message, Outcomes) for item in message.items]
        return [item for item in items if job is None or item.job == job]

    def failure(self, job: str) -> ErrorData:
        """Return the error of a job; there must be exactly one, as its last word."""
        last = self.outcomes(job)[-1]
        assert isinstance(last, JobFailed)
        return last.error

    def ended_well(self) -> set[JobId]:
        """Return the jobs that ended well."""
        return {item.job for item in self.outcomes() if isinstance(item, JobDone)}

    def events(self, job: str) -> list[object]:
        """Return the events of a job."""
        return [item.event for item in self.outcomes(job) if isinstance(item, JobEvent)]
