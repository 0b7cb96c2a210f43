"""Pipelines tell of each job what it took, as checkpoints do, and the first estimate bounds it."""

import sys
from collections.abc import Callable

import pytest

from server.core.image import ImageRequest, Size
from server.core.jobs import JobDone, JobId
from server.core.memory import RAM
from server.engines.image.pipelines.engine import PipelineEngine
from tests.support.tiny_pipeline_engines import asked, few

pytestmark = [pytest.mark.torch, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


def done(engine: PipelineEngine, request: ImageRequest) -> JobDone:
    engine.submit(JobId("job"), request)
    while not engine.is_idle():
        for outcome in engine.step():
            if isinstance(outcome, JobDone):
                return outcome
    raise AssertionError("the job did not end well")


@few
def test_a_larger_picture_takes_more_and_leaves_nothing_behind(
    family: str, engines: Callable[[str], PipelineEngine]
) -> None:
    engine = engines(family)
    small, large = asked(size=Size(64, 64)), asked(size=Size(512, 512))
    done(engine, small)  # the first job of a process makes tables and buffers that stay
    took_small, took_large = done(engine, small), done(engine, large)
    assert took_large.taken[RAM] > took_small.taken[RAM] > 0
    assert took_small.held == took_large.held == engine.facts.footprint.resident
