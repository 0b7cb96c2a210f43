"""The jobs of one engine that have not ended: their waiting replies, and how events reach the outside.

A job has a reply for each of its choices and ends with the last of them, or with an error for all of them at once.
"""

from collections.abc import Iterable, Sequence

from server.core.errors import ServerError
from server.core.jobs import JobDone, JobFailed, JobId, Outcome
from server.engines.text.caches import Caches
from server.engines.text.reply import Reply


class OpenJobs:
    """Owns the replies that wait for a sequence (`waiting`, oldest first) and what is to be told next (`ready`).

    `unplaced` says that a waiting reply may find a place now: something has come, gone or been computed.
    """

    def __init__(self, caches: Caches) -> None:
        self.waiting: list[Reply] = []
        self.ready: list[Outcome] = []
        self.unplaced = False
        self._caches = caches
        self._replies_left: dict[JobId, int] = {}

    def __contains__(self, job: JobId) -> bool:
        return job in self._replies_left

    @property
    def all(self) -> list[JobId]:
        """Return the jobs that have not ended."""
        return list(self._replies_left)

    def open(self, job: JobId, replies: Sequence[Reply]) -> None:
        """Take a job with all its replies; they wait for a sequence, but for those that are to say nothing."""
        self._replies_left[job] = len(replies)
        for reply in replies:
            if reply.scores is None:
                self.send(reply, reply.opening(), self.ready)
            if reply.limit == 0 and reply.scores is None:
                self.close(reply, reply.finish("length"), self.ready)
            else:
                self.waiting.append(reply)
        self.unplaced = True

    def replies(self, job: JobId) -> list[Reply]:
        """Return the replies of a job that have not ended."""
        waiting = [reply for reply in self.waiting if reply.job == job]
        return waiting + [s.reply for s in self._caches.sequences if s.reply is not None and s.reply.job == job]

    def send(self, reply: Reply, events: list[Outcome], out: list[Outcome]) -> None:
        """Put the events of a reply into `out`, or where they are held back until its contest is decided."""
        if reply.contest is None:
            out += events
        else:
            reply.contest.feed(reply.choice, events)

    def close(self, reply: Reply, events: list[Outcome], out: list[Outcome]) -> None:
        """Send the last events of a reply and free its sequence; the job ends with its last reply."""
        self.send(reply, events, out)
        if reply.contest is not None:
            out += reply.contest.end(reply.choice, reply.logprobs.mean if reply.logprobs is not None else 0.0)
        self._release(reply)
        left = self._replies_left[reply.job] - 1
        if left:
            self._replies_left[reply.job] = left
        else:
            del self._replies_left[reply.job]
            out.append(JobDone(reply.job))

    def fail(self, jobs: Iterable[JobId], error: ServerError, out: list[Outcome]) -> None:
        """End jobs with an error."""
        for job in jobs:
            self.forget(job)
            out.append(JobFailed(job, error.to_data()))

    def forget(self, job: JobId) -> None:
        """Drop a job with all that it holds, without a word."""
        for reply in self.replies(job):
            reply.sampler.close()
            self._release(reply)
        self.ready = [outcome for outcome in self.ready if outcome.job != job]
        self._replies_left.pop(job, None)

    def _release(self, reply: Reply) -> None:
        """Take a reply out of the queue or make its sequence idle."""
        if reply in self.waiting:
            self.waiting.remove(reply)
        elif self._caches.release(reply):
            self.unplaced = True
