"""Runs what recurses deeply in native code on a stack that is deep enough: an overflow there would end the process."""

import threading
from collections.abc import Callable
from typing import TypeVar

STACK_BYTES = 256 * 1024 * 1024
"""Only what is touched of it takes memory."""

T = TypeVar("T")


def on_deep_stack(work: Callable[[], T]) -> T:
    """Return what `work` returns, or raise what it raises; blocks until then.

    The size of a new thread's stack is the process's setting, so this is for programs that start no others meanwhile.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    before = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=run, name="on a deep stack")
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
