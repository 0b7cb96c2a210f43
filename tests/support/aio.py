"""How tests run coroutines: a plain `asyncio.run` with a safety net, and nothing may be left behind."""

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import ParamSpec

P = ParamSpec("P")

LIMIT_S = 60.0


def asynchronous(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Make a plain test of an `async def`: it fails when it hangs, leaves a task, or leaves a child process."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(_guarded(test(*args, **kwargs)))

    return run


async def _guarded(test: Coroutine[None, None, None]) -> None:
    before = children()
    async with asyncio.timeout(LIMIT_S):
        await test
    left = {task.get_name() for task in asyncio.all_tasks()} - {
        task.get_name() for task in [asyncio.current_task()] if task
    }
    assert not left, f"tasks were left behind: {sorted(left)}"
    stray = children() - before
    assert not stray, f"processes were left behind: {sorted(stray)}"


def children() -> set[int]:
    """Return the process ids of our children, zombies too (Linux; elsewhere none are seen)."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    if not tasks.exists():
        return set()
    found: set[int] = set()
    for thread in tasks.iterdir():
        try:
            found |= {int(pid) for pid in (thread / "children").read_text().split()}
        except OSError:
            continue
    return found
