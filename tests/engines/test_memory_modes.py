"""Memory modes on real torch: parts that take turns make the same picture, and what does not fit is refused.

The device is the CPU again, so that every move can be written down and pictures compared bit by bit.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from server.core.errors import Broken, DoesNotFit, from_data
from server.core.image import Denoise, HiresPass, ImageReady, ImageRequest, LoraRef, Seeds, Size
from server.core.jobs import JobFailed
from server.core.memory import GIB, MIB
from server.core.models import ImageSettings
from server.core.prompt import plain
from server.engines.image import headroom, placement, vae_tiles
from server.engines.image.diffusion import DiffusionEngine, DiffusionLoader
from server.engines.image.offload import Mode
from tests.support.engine_contract import ONE, finish
from tests.support.golden_images import card_of, difference, pictures, run
from tests.support.tiny_checkpoint import write_tiny_checkpoint

pytestmark = pytest.mark.torch

SETTINGS = ImageSettings(device="cpu", dtype="float32", threads=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("modes") / "xl.safetensors", half=False, family="sdxl")


class Moves:
    """Names of the modules that came to the device and went home."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.went: list[str] = []

    def __call__(self, module: torch.nn.Module, device: torch.device) -> None:
        (self.went if len(self.came) > len(self.went) else self.came).append(type(module).__name__)


def engine_in(path: Path, mode: Mode, moves: Moves, monkeypatch: pytest.MonkeyPatch) -> DiffusionEngine:
    """Load an engine whose parts share the CPU as if it were a small device."""

    def choose(settings: ImageSettings, offload: Mode = "none") -> placement.Placement:
        precision = placement.Precision(model=torch.float32, vae=torch.float32)
        return placement.Placement(device=torch.device("cpu"), precision=precision, offload=mode, moving=moves)

    with monkeypatch.context() as patch:
        patch.setattr(placement, "choose", choose)
        return DiffusionLoader().load(card_of(path), SETTINGS, lambda fraction: None)


def asked(**fields: Any) -> ImageRequest:
    size = Size(48, 48)
    base = ImageRequest(
        model="xl",
        prompt=plain("a cat"),
        negative=plain("dog"),
        size=Size(32, 32),
        seeds=Seeds(first=7),
        denoise=Denoise(steps=2),
        batch_size=2,
        hires=HiresPass(
            size=size,
            scale_to=size,
            upscaler="lanczos",
            strength=0.6,
            denoise=Denoise(steps=1),
            prompt=plain("a cat"),
            negative=plain("dog"),
        ),
    )
    return msgspec.structs.replace(base, **fields)


@pytest.fixture(scope="module")
def whole(path: Path) -> list[np.ndarray]:
    engine = DiffusionLoader().load(card_of(path), SETTINGS, lambda fraction: None)
    made = pictures(engine, asked())
    engine.close()
    return made


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_medium_moves_each_part_when_it_is_needed_and_no_sooner(
    path: Path, whole: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two prompts in two passes; a first pass; decode and encode two pictures; a second pass; decode two pictures."""
    moves = Moves()
    engine = engine_in(path, "medium", moves, monkeypatch)
    made = pictures(engine, asked())
    assert same(made, whole)
    texts = [name for name in moves.came if name == "TextTower"]
    assert moves.came[len(texts) :] == ["UNet2DConditionModel", "AutoencoderKL"] * 2
    assert moves.came[: len(texts)] == texts
    assert moves.went == moves.came[:-1]
    engine.close()


def test_low_moves_the_blocks_of_the_unet(path: Path, whole: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    moves = Moves()
    engine = engine_in(path, "low", moves, monkeypatch)
    assert same(pictures(engine, asked()), whole)
    assert "UNet2DConditionModel" not in moves.came
    one_call = [
        *("TimestepEmbedding", "TimestepEmbedding", "Conv2d", "DownBlock2D", "CrossAttnDownBlock2D"),
        *("CrossAttnDownBlock2D", "UNetMidBlock2DCrossAttn", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        *("UpBlock2D", "GroupNorm", "Conv2d"),
    ]
    begun = moves.came.index("TimestepEmbedding")
    assert moves.came[begun : begun + len(one_call)] == one_call
    assert moves.went == moves.came[:-1]
    engine.close()


def test_without_a_mode_nothing_moves_after_loading(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moves = Moves()
    engine = engine_in(path, "none", moves, monkeypatch)
    count = len(moves.came) + len(moves.went)
    pictures(engine, asked())
    assert len(moves.came) + len(moves.went) == count == 4
    engine.close()


def test_loras_come_and_go_in_every_mode(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "lora_te2_text_model_encoder_layers_0_mlp_fc1"
    tensors = {f"{name}.lora_up.weight": torch.ones(64, 1), f"{name}.lora_down.weight": torch.ones(1, 16)}
    save_file(tensors, str(tmp_path / "l.safetensors"))
    lora = (LoraRef(name="l", path=str(tmp_path / "l.safetensors")),)
    shown = []
    for mode in ("none", "medium", "low"):
        engine = engine_in(path, mode, Moves(), monkeypatch)  # type: ignore[arg-type]
        plain_, changed, again = (pictures(engine, asked(adapters=each)) for each in ((), lora, ()))
        assert same(plain_, again)
        assert difference(plain_[0], changed[0]).largest > 0
        shown.append(changed)
        engine.close()
    assert same(shown[0], shown[1])
    assert same(shown[0], shown[2])


@pytest.fixture
def engine(path: Path) -> Iterator[DiffusionEngine]:
    engine = DiffusionLoader().load(
        card_of(path), msgspec.structs.replace(SETTINGS, memory_limit=3 * GIB), lambda fraction: None
    )
    yield engine
    engine.close()


def test_what_can_never_fit_is_refused_at_once(engine: DiffusionEngine) -> None:
    with pytest.raises(DoesNotFit) as caught:
        engine.submit(ONE, asked(size=Size(16000, 16000), hires=None))
    assert caught.value.facts["limit"] < 3 * GIB  # type: ignore[operator]
    assert engine.is_idle()
    assert len(pictures(engine, asked())) == 2


def test_what_does_not_fit_now_fails_and_the_next_job_runs(
    engine: DiffusionEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(headroom, "MEMINFO", Path("/dev/null"))
        patch.setattr("server.engines.image.diffusion.available_bytes", lambda device: 10 * MIB)
        engine.submit(ONE, asked())
        (failed,) = [item for item in finish(engine) if isinstance(item, JobFailed)]
    assert isinstance(from_data(failed.error), DoesNotFit)
    assert len(pictures(engine, asked())) == 2


def test_a_picture_is_decoded_in_tiles_when_memory_is_short(
    engine: DiffusionEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(size=Size(320, 192), hires=None, batch_size=1)
    (before,) = pictures(engine, request)
    monkeypatch.setattr(vae_tiles, "TILE", 32)
    monkeypatch.setattr(headroom.Room, "has_whole_decode", lambda *args: False)
    (tiled,) = pictures(engine, request)
    gap = difference(before, tiled)
    assert gap.largest > 0
    assert gap.mean < 8


def test_a_decode_that_runs_out_of_memory_goes_on_in_tiles(
    engine: DiffusionEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine._parts is not None
    request = asked(hires=None)
    before = pictures(engine, request)

    def fail(*args: object) -> None:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(engine._parts.vae_module, "decode", fail)
    after = pictures(engine, request)
    assert all(difference(one, other).largest <= 1 for one, other in zip(before, after, strict=True))


def test_a_unet_without_numbers_is_told_and_the_next_job_runs(path: Path) -> None:
    engine = DiffusionLoader().load(card_of(path), SETTINGS, lambda fraction: None)
    assert engine._parts is not None
    bias = engine._parts.unet_module.get_parameter("conv_out.bias")
    kept = bias.data.clone()
    bias.data.fill_(float("nan"))
    engine.submit(ONE, asked())
    (failed,) = [item for item in finish(engine) if isinstance(item, JobFailed)]
    error = from_data(failed.error)
    assert isinstance(error, Broken)
    assert "UNet" in str(error)
    bias.data = kept
    assert any(isinstance(event, ImageReady) for event in run(engine, asked()))
    engine.close()
