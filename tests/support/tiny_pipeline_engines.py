"""Engines of tiny pipelines, and what tests ask of them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.core.image import (
    Denoise,
    ImageRequest,
    Seeds,
    Size,
)
from server.core.models import ImageSettings
from server.core.prompt import plain
from server.engines.image.diffusion import DiffusionLoader
from server.engines.image.pipelines.engine import PipelineEngine
from tests.support.golden_images import card_of
from tests.support.tiny_pipelines import FAMILIES

SETTINGS = ImageSettings(device="cpu", dtype="float32", threads=1)
SIZE = Size(64, 96)
STEPS = 4
MAIN = ("sd3", "flux", "chroma", "z-image", "qwen-image")
"""Families that everything is tried on."""

every = pytest.mark.parametrize("family", MAIN, indirect=True)
begun = pytest.mark.parametrize("family", [*MAIN, "flux2", "lumina2"], indirect=True)
wide = pytest.mark.parametrize("family", list(FAMILIES), indirect=True)
few = pytest.mark.parametrize("family", ["sd3", "qwen-image"], indirect=True)
flux = pytest.mark.parametrize("family", ["flux"], indirect=True)


def engine_of(path: Path, **settings: Any) -> PipelineEngine:
    engine = DiffusionLoader().load(card_of(path), msgspec.structs.replace(SETTINGS, **settings), lambda fraction: None)
    assert isinstance(engine, PipelineEngine)
    return engine


def asked(text: str = "a cat", /, **fields: Any) -> ImageRequest:
    base = ImageRequest(
        model="tiny",
        prompt=plain(text),
        negative=plain("dog"),
        size=SIZE,
        seeds=Seeds(first=7, source="cpu"),
        denoise=Denoise(steps=STEPS, cfg_scale=4.0),
    )
    return msgspec.structs.replace(base, **fields)


def changed(file: Path, **fields: Any) -> None:
    """Change fields of a JSON file."""
    file.write_bytes(msgspec.json.encode(msgspec.json.decode(file.read_bytes()) | fields))
