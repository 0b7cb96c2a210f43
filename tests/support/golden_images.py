"""The recorded pictures of the original program, as core requests, and how far a picture is from its recording."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from compat.a1111 import wire
from compat.a1111.convert import Context, to_core
from compat.a1111.styles import StyleBook
from server.core.image import ImageEvent, ImageReady, ImageRequest
from server.core.jobs import CancelMode, JobEvent, JobFailed, JobId
from server.core.models import ModelCard, ModelId, ModelKind, Runtime
from server.engines.base import Engine
from tests.support.shared import SHARED, golden

GOLDEN = SHARED / "golden"
CHECKPOINT = GOLDEN / "models" / "Stable-diffusion" / "tiny.safetensors"


def card_of(path: Path, kind: ModelKind = ModelKind.CHECKPOINT) -> ModelCard:
    """Return a card for a file, as the registry would make it."""
    runtime = Runtime.DIFFUSION if kind is ModelKind.CHECKPOINT else None
    return ModelCard(id=ModelId(path.stem), name=path.name, kind=kind, files=(str(path),), runtime=runtime)


def cases(*samplers: str) -> list[dict[str, Any]]:
    """Return the recorded txt2img cases that use one of these samplers (core ids), in their order."""
    if not GOLDEN.exists():
        return []
    found = [case for case in golden("manifest.json")["cases"] if case["route"] == "/sdapi/v1/txt2img"]
    return [case for case in found if request_of(case).denoise.sampler in samplers]


def request_of(case: dict[str, Any]) -> ImageRequest:
    """Return what the door makes of a recorded request."""
    wanted = msgspec.convert(case["request"], wire.Txt2Img, strict=False)
    context = Context(
        model="tiny",
        styles=StyleBook([str(GOLDEN / "styles.csv")]).all(),
        loras=tuple(card_of(path, ModelKind.LORA) for path in sorted((GOLDEN / "models" / "Lora").iterdir())),
        embeddings=tuple(card_of(path, ModelKind.EMBEDDING) for path in sorted((GOLDEN / "embeddings").iterdir())),
        draw=lambda: 1,
    )
    return to_core(wanted, context)


def recorded(case: dict[str, Any]) -> list[np.ndarray]:
    """Return the pictures of a case, each [height, width, 3] uint8."""
    return [np.asarray(Image.open(GOLDEN / image["file"]).convert("RGB")) for image in case["images"]]


def pixels(png: bytes) -> np.ndarray:
    """Return a PNG as [height, width, 3] uint8."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@dataclass(frozen=True)
class Difference:
    """How far two pictures are apart, in 8-bit levels per channel value."""

    largest: int
    mean: float


def difference(one: np.ndarray, other: np.ndarray) -> Difference:
    """Return the difference of two pictures of the same size."""
    assert one.shape == other.shape
    gap = np.abs(one.astype(int) - other.astype(int))
    return Difference(int(gap.max()), float(gap.mean()))


def run(engine: Engine, request: ImageRequest, job: str = "job") -> list[ImageEvent]:
    """Return all events of a job run alone on the engine; fail the test when the job fails."""
    return list(events(engine, request, job))


def events(engine: Engine, request: ImageRequest, job: str = "job") -> Iterator[ImageEvent]:
    """Yield the events of a job as they come; the job is abandoned when the iterator is closed."""
    engine.submit(JobId(job), request)
    try:
        while not engine.is_idle():
            for outcome in engine.step():
                assert not isinstance(outcome, JobFailed), outcome
                if isinstance(outcome, JobEvent):
                    yield outcome.event  # type: ignore[misc]
    finally:
        engine.cancel(JobId(job), CancelMode.ABANDON)
        while not engine.is_idle():
            engine.step()


def pictures(engine: Engine, request: ImageRequest) -> list[np.ndarray]:
    """Return the pictures a request makes, in order."""
    return [pixels(event.png) for event in run(engine, request) if isinstance(event, ImageReady)]
