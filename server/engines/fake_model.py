"""What a fake model's file says, and the faults that it or a prompt asks for.

A prompt may carry a fault for its own job:

| word in a prompt | what happens |
|---|---|
| `fault:abort` | the process aborts at once |
| `fault:segv:3` | the process gets SIGSEGV before its fourth word or step |
| `fault:kill`, `fault:exit` | SIGKILL, as the kernel's OOM killer sends it; exit with status 3 |
| `fault:hang` | the step never returns |
| `fault:oom` | the job fails with OutOfMemory, as after a device's error |
| `fault:raise` | an unexpected exception: a picture job fails, the text engine is lost |
| `fault:surrogate` | the engine sends text that is not Unicode |
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Literal

import msgspec

from server.core.errors import OutOfMemory

Kind = Literal["abort", "segv", "kill", "exit", "hang", "oom", "raise", "surrogate"]

SIGNALS = {"abort": signal.SIGABRT, "segv": signal.SIGSEGV, "kill": signal.SIGKILL}
EXIT_STATUS = 3


class FakeModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a fake model file says.

    `resident_mb` is what the loaded model claims to hold, and really holds with `allocate`. `load_ms` and `step_ms`
    are how slow it is. `words` is how long an answer is, 0 = as long as the prompt. `context` in words. The fault
    `fault` strikes once `after` words or steps were done since loading, and while loading when `while_loading`.
    `fail_load` is the reason why loading fails. `noise` lines are written to standard error while loading.
    """

    slots: int = 4
    resident_mb: int = 0
    allocate: bool = False
    load_ms: float = 0.0
    step_ms: float = 0.0
    words: int = 0
    context: int = 4096
    fail_load: str = ""
    noise: int = 0
    fault: Kind | None = None
    after: int = 0
    while_loading: bool = False


class Trouble:
    """Counts what was done since loading and strikes where the model file or a prompt says so."""

    def __init__(self, model: FakeModel) -> None:
        self._model = model
        self._done = 0

    def strike(self, prompt: str, done: int) -> None:
        """Do the harm that is due before the next word or step, `done` of which this job has had."""
        if self._model.fault is not None and not self._model.while_loading and self._done >= self._model.after:
            harm(self._model.fault)
        self._done += 1
        for kind, after in _faults(prompt):
            if done == after:
                harm(kind)

    def garbles(self, prompt: str, done: int) -> bool:
        """Tell whether this word is not Unicode."""
        asked = self._model.fault == "surrogate" and self._done > self._model.after
        return asked or any(kind == "surrogate" and after == done for kind, after in _faults(prompt))


def harm(kind: str) -> None:
    """Do what the fault model says; unknown kinds do nothing."""
    sys.stderr.write(f"fake fault: {kind}\n")
    sys.stderr.flush()
    if kind in SIGNALS:
        os.kill(os.getpid(), SIGNALS[kind])
    elif kind == "exit":
        os._exit(EXIT_STATUS)
    elif kind == "hang":
        threading.Event().wait()
    elif kind == "oom":
        raise OutOfMemory("the fake device has no memory left", device="fake:0")
    elif kind == "raise":
        raise RuntimeError("the fake engine failed as it was told to")


def _faults(prompt: str) -> Iterator[tuple[str, int]]:
    for word in prompt.split():
        if word.startswith("fault:"):
            kind, _, after = word.removeprefix("fault:").partition(":")
            yield kind, int(after) if after.isdecimal() else 0
