"""Requests that end their worker are refused for a while."""

import pytest

from server.core.errors import InvalidValue
from server.core.text import CompletionRequest
from server.service.suspects import MOST, REFUSED_FOR_S, Suspects


def work(prompt: str) -> CompletionRequest:
    return CompletionRequest(model="m", prompts=(prompt,))


def is_refused(suspects: Suspects, prompt: str, now: float) -> bool:
    try:
        suspects.check(work(prompt), now)
    except InvalidValue:
        return True
    return False


def test_what_was_convicted_is_refused_for_ten_minutes_and_nothing_else() -> None:
    suspects = Suspects()
    suspects.convict(work("bad"), "killed by SIGSEGV", 100.0)
    assert is_refused(suspects, "bad", 100.0)
    assert is_refused(suspects, "bad", 99.0 + REFUSED_FOR_S)
    assert not is_refused(suspects, "bad", 100.0 + REFUSED_FOR_S)
    assert not is_refused(suspects, "good", 100.0)


@pytest.mark.parametrize("how", ["killed by SIGKILL", "killed by SIGTERM"])
def test_a_kill_from_outside_convicts_nobody(how: str) -> None:
    suspects = Suspects()
    suspects.convict(work("good"), how, 0.0)
    assert not is_refused(suspects, "good", 0.0)


def test_the_memory_is_short() -> None:
    suspects = Suspects()
    for number in range(MOST + 1):
        suspects.convict(work(f"bad {number}"), "exit status 3", 0.0)
    assert not is_refused(suspects, "bad 0", 0.0)
    assert is_refused(suspects, f"bad {MOST}", 0.0)


def test_what_cannot_travel_is_no_trouble() -> None:
    suspects = Suspects()
    suspects.convict(work("\ud800"), "killed by SIGSEGV", 0.0)
    suspects.convict(work("bad"), "killed by SIGSEGV", 0.0)
    assert not is_refused(suspects, "\ud800", 0.0)
