"""The recorded pictures of the original program, as core requests, and how far a picture is from its recording."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from compat.a1111 import img2img, wire
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


def img2img_cases() -> list[dict[str, Any]]:
    """Return the recorded img2img cases, in their order."""
    if not GOLDEN.exists():
        return []
    return [case for case in golden("manifest.json")["cases"] if case["route"] == "/sdapi/v1/img2img"]


def request_of(case: dict[str, Any]) -> ImageRequest:
    """Return what the door makes of a recorded txt2img request."""
    return to_core(msgspec.convert(case["request"], wire.Txt2Img, strict=False), _context())


def img2img_request_of(case: dict[str, Any]) -> ImageRequest:
    """Return what the door makes of a recorded img2img request."""
    return img2img.plan(msgspec.convert(sent(case), wire.Img2Img, strict=False), _context()).work


def sent(case: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded request as it was sent, with its pictures inside."""
    request: dict[str, Any] = _with_files(case["request"])
    return request


def _with_files(value: Any) -> Any:
    match value:
        case str() if value.startswith("file:"):
            return base64.b64encode((GOLDEN / value[5:]).read_bytes()).decode()
        case list():
            return [_with_files(one) for one in value]
        case dict():
            return {key: _with_files(one) for key, one in value.items()}
    return value


def _context() -> Context:
    return Context(
        model="tiny",
        styles=StyleBook([str(GOLDEN / "styles.csv")]).all(),
        loras=tuple(card_of(path, ModelKind.LORA) for path in sorted((GOLDEN / "models" / "Lora").iterdir())),
        embeddings=tuple(card_of(path, ModelKind.EMBEDDING) for path in sorted((GOLDEN / "embeddings").iterdir())),
        draw=lambda: 1,
    )


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
