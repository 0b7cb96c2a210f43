import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.core.errors import InvalidValue, from_data
from server.core.image import Denoise, ImageRequest, Seeds, Size
from server.core.jobs import JobFailed
from server.core.models import ImageSettings
from server.core.prompt import plain
from server.engines.image.diffusion import DiffusionEngine, DiffusionLoader
from server.engines.image.vae_choice import with_vae
from tests.support.engine_contract import ONE, finish
from tests.support.golden_images import card_of, difference, pictures
from tests.support.tiny_checkpoint import write_tiny_checkpoint, write_tiny_vae

pytestmark = pytest.mark.torch

SETTINGS = ImageSettings(device="cpu", dtype="float32", threads=1)


def request(vae: Path | str | None = None) -> ImageRequest:
    return ImageRequest(
        model="x",
        prompt=plain("a cat"),
        negative=plain(""),
        size=Size(32, 32),
        seeds=Seeds(first=1),
        denoise=Denoise(steps=2),
        vae=None if vae is None else str(vae),
    )


def loaded(path: Path, **settings: Any) -> DiffusionEngine:
    fields = {name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__} | settings
    return DiffusionLoader().load(card_of(path), ImageSettings(**fields), lambda fraction: None)


@pytest.fixture(scope="module")
def engine(tiny_path: Path) -> DiffusionEngine:
    return loaded(tiny_path)


def one(engine: DiffusionEngine, vae: Path | str | None = None) -> np.ndarray:
    (picture,) = pictures(engine, request(vae))
    return picture


def test_one_job_has_another_vae_and_the_next_has_not(engine: DiffusionEngine, tmp_path: Path) -> None:
    own = one(engine)
    other = one(engine, write_tiny_vae(tmp_path / "other.safetensors"))
    assert difference(own, other).mean > 5
    assert np.array_equal(one(engine), own)


def test_it_is_the_vae_that_a_checkpoint_loaded_with_it_has(
    engine: DiffusionEngine, tiny_path: Path, tmp_path: Path
) -> None:
    vae = write_tiny_vae(tmp_path / "other.safetensors")
    with_it = loaded(tiny_path, vae=str(vae))
    assert np.array_equal(one(with_it), one(engine, vae))
    # A checkpoint's own file names its own VAE.
    assert np.array_equal(one(with_it, tiny_path), one(engine))
    with_it.close()


def test_a_whole_checkpoint_lends_its_vae(engine: DiffusionEngine, tmp_path: Path) -> None:
    other = write_tiny_checkpoint(tmp_path / "other.safetensors", seed=9)
    assert difference(one(engine, other), one(engine)).mean > 5


def test_files_that_hold_none_fail_their_job_alone(engine: DiffusionEngine, tmp_path: Path) -> None:
    text = tmp_path / "text.safetensors"
    text.write_bytes(b"a text file")
    for path in (text, tmp_path / "gone.safetensors"):
        engine.submit(ONE, request(path))
        (failed,) = [item for item in finish(engine) if isinstance(item, JobFailed)]
        error = from_data(failed.error)
        assert isinstance(error, InvalidValue)
        assert error.fact("param") == "vae"
    assert one(engine).shape == (32, 32, 3)


def test_nothing_of_it_stays(engine: DiffusionEngine, tmp_path: Path) -> None:
    assert engine._parts is not None
    vae = write_tiny_vae(tmp_path / "other.safetensors")
    with with_vae(engine._parts, str(vae), allow_pickle=False) as parts:
        seen = weakref.ref(parts.vae_module)
        assert parts.vae_module is not engine._parts.vae_module
    del parts
    gc.collect()
    assert seen() is None
    with with_vae(engine._parts, None, allow_pickle=False) as same:
        assert same is engine._parts


def test_there_is_room_for_it(engine: DiffusionEngine) -> None:
    assert engine._parts is not None
    model: Any = engine._parts.vae_module
    own, other = (engine._needed(request(vae=file)) for file in (engine._vae_source, "/another.vae.pt"))
    assert own == engine._needed(request())
    assert other == own + sum(each.numel() * 4 for each in model.parameters())
