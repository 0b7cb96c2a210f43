"""Runs an engine by hand, without worker or server, and sorts what comes out."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from server.core.errors import ServerError, from_data
from server.core.jobs import JobDone, JobEvent, JobFailed, JobId, Outcome
from server.core.text import ReasoningDelta, TextDelta, TextFinished, TextStarted, ToolCall, ToolCallDelta
from server.engines.base import Engine


class Collected:
    """What came out of an engine, per job and choice; checks the order of events on the way."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, int], str] = defaultdict(str)
        self.thoughts: dict[tuple[str, int], str] = defaultdict(str)
        self.calls: dict[tuple[str, int], list[ToolCall]] = defaultdict(list)
        self.tokens: dict[tuple[str, int], int] = defaultdict(int)
        self.finished: dict[tuple[str, int], TextFinished] = {}
        self.started: dict[str, int] = {}
        self.done: set[str] = set()
        self.errors: dict[str, ServerError] = {}

    def feed(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            job: JobId = outcome.job
            assert job not in self.done, f"{job} had ended, then came {outcome}"
            assert job not in self.errors, f"{job} had failed, then came {outcome}"
            match outcome:
                case JobDone():
                    self.done.add(job)
                case JobFailed(error=error):
                    self.errors[job] = from_data(error)
                case JobEvent(event=TextStarted(prompt_tokens=count)):
                    assert job not in self.started
                    self.started[job] = count
                case JobEvent(event=TextDelta(choice=choice, text=text, tokens=count)):
                    assert text
                    assert job in self.started
                    assert (job, choice) not in self.finished
                    self.texts[job, choice] += text
                    self.tokens[job, choice] += count
                case JobEvent(event=ReasoningDelta(choice=choice, text=text, tokens=count)):
                    assert text
                    self.thoughts[job, choice] += text
                    self.tokens[job, choice] += count
                case JobEvent(event=ToolCallDelta(choice=choice, tokens=count) as delta):
                    self._feed_call(self.calls[job, choice], delta)
                    self.tokens[job, choice] += count
                case JobEvent(event=TextFinished(choice=choice) as event):
                    assert (job, choice) not in self.finished
                    self.finished[job, choice] = event

    @staticmethod
    def _feed_call(calls: list[ToolCall], delta: ToolCallDelta) -> None:
        if delta.index == len(calls):
            assert delta.id and delta.name and not delta.arguments
            calls.append(ToolCall(id=delta.id, name=delta.name, arguments=""))
            return
        assert delta.index == len(calls) - 1 and delta.arguments and not delta.id and not delta.name
        last = calls.pop()
        calls.append(ToolCall(id=last.id, name=last.name, arguments=last.arguments + delta.arguments))

    def text(self, job: str, choice: int = 0) -> str:
        return self.texts[job, choice]


def run(
    engine: Engine,
    *,
    until: Callable[[Collected], bool] | None = None,
    into: Collected | None = None,
    steps: int = 100_000,
) -> Collected:
    """Step the engine until it is idle, or until a condition holds; fail when that takes too many steps."""
    collected = Collected() if into is None else into
    for _ in range(steps):
        if engine.is_idle() or (until is not None and until(collected)):
            return collected
        collected.feed(engine.step())
    assert engine.is_idle(), f"not done after {steps} steps"
    return collected
