"""What holds for every run of the tests: a garbage collector with little to look through, and who works on what."""

import gc
import os
from typing import Any

import pytest

SHARING = "tests/conformance/"
"""The folder whose files share one running server."""

if "PYTEST_XDIST_WORKER" in os.environ:
    # One of several processes that run tests has one core; torch would take all of them.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """Take all that the test modules imported out of the garbage collector's sight.

    It is there until the end, and every full collection would look through it: a second each, with torch and diffusers,
    and an image engine makes one whenever it gives memory back.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of one file together, and those of all files that share a server.

    Files are handed out in their own order, in which the many short ones come last: so nobody waits for a long one at
    the end.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SHARING if nodeid.startswith(SHARING) else nodeid.split("::", 1)[0]

    config.option.loadscopereorder = False
    return Scheduling(config, log)
