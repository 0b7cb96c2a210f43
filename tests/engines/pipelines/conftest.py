"""One engine of each tiny family for a whole module."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from server.engines.image.pipelines.engine import PipelineEngine
from tests.support.tiny_pipeline_engines import engine_of
from tests.support.tiny_pipelines import write_tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipelines")


@pytest.fixture(scope="module")
def models(folder: Path) -> Callable[[str], Path]:
    """Indexes of tiny models by family, each written once."""
    return cache(lambda family: write_tiny_pipeline(folder / family, family))


@pytest.fixture(scope="module")
def engines(models: Callable[[str], Path]) -> Iterator[Callable[[str], PipelineEngine]]:
    @cache
    def of(family: str) -> PipelineEngine:
        engine = engine_of(models(family))
        stack.callback(engine.close)
        return engine

    with ExitStack() as stack:
        yield of


@pytest.fixture
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(engines: Callable[[str], PipelineEngine], family: str) -> PipelineEngine:
    return engines(family)
