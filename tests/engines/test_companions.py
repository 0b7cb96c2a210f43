"""Other checkpoints in one job, on real torch: refiners, and second passes by another checkpoint."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from server.core.errors import InvalidValue, from_data
from server.core.image import (
    CheckpointRef,
    Denoise,
    HiresPass,
    HypernetworkRef,
    ImageFinished,
    ImageRequest,
    LoraRef,
    Refiner,
    Seeds,
    Size,
    StepDone,
)
from server.core.jobs import CancelMode, JobFailed
from server.core.models import ImageSettings
from server.core.prompt import plain
from server.engines.image.diffusion import DiffusionEngine, DiffusionLoader
from tests.support.engine_contract import ONE, events_of, finish, step_until
from tests.support.golden_images import card_of, pictures, run
from tests.support.tiny_checkpoint import CHANNELS, TEXT, write_tiny_checkpoint

pytestmark = pytest.mark.torch

SETTINGS = ImageSettings(device="cpu", dtype="float32", threads=1, allow_pickle=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_tiny_checkpoint(folder / "base.safetensors")
    write_tiny_checkpoint(folder / "other.safetensors", seed=9)
    shutil.copy(folder / "base.safetensors", folder / "twin.safetensors")
    (folder / "broken.safetensors").write_bytes(b"no checkpoint")
    return folder


def load(folder: Path, name: str, settings: ImageSettings = SETTINGS) -> DiffusionEngine:
    return DiffusionLoader().load(card_of(folder / f"{name}.safetensors"), settings, lambda fraction: None)


@pytest.fixture(scope="module")
def base(folder: Path) -> Iterator[DiffusionEngine]:
    engine = load(folder, "base")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def other(folder: Path) -> Iterator[DiffusionEngine]:
    engine = load(folder, "other")
    yield engine
    engine.close()


def ref(folder: Path, name: str) -> CheckpointRef:
    return CheckpointRef(name=name, path=str(folder / f"{name}.safetensors"))


def refiner(folder: Path, name: str, at: float, **fields: Any) -> Refiner:
    return Refiner(checkpoint=ref(folder, name), switch_at=at, **fields)


def request(**fields: Any) -> ImageRequest:
    base = ImageRequest(
        model="base",
        prompt=plain("a cat"),
        negative=plain(""),
        size=Size(32, 32),
        seeds=Seeds(first=7),
        denoise=Denoise(steps=4),
    )
    return msgspec.structs.replace(base, **fields)


def hires(**fields: Any) -> HiresPass:
    base = HiresPass(
        size=Size(40, 40),
        scale_to=Size(40, 40),
        upscaler="latent",
        strength=0.6,
        denoise=Denoise(steps=2),
        prompt=plain("a dog"),
        negative=plain("grey"),
    )
    return msgspec.structs.replace(base, **fields)


def one(engine: DiffusionEngine, work: ImageRequest) -> np.ndarray:
    return pictures(engine, work)[-1]


def equal(one: np.ndarray, two: np.ndarray) -> bool:
    return bool((one == two).all())


def is_refined(engine: DiffusionEngine, work: ImageRequest) -> bool:
    end = run(engine, work)[-1]
    assert isinstance(end, ImageFinished)
    return end.refined


@pytest.mark.parametrize("sampler", ["euler_a", "dpmpp_2m", "ddim"])
def test_a_refiner_of_the_same_weights_changes_nothing(folder: Path, base: DiffusionEngine, sampler: str) -> None:
    denoise = Denoise(sampler=sampler, steps=4)
    work = request(denoise=denoise, refiner=refiner(folder, "twin", 0.5))
    assert is_refined(base, work)
    assert equal(one(base, work), one(base, request(denoise=denoise)))


@pytest.mark.parametrize("sampler", ["euler", "heun", "ddim"])
def test_a_switch_at_once_is_the_refiners_picture(
    folder: Path, base: DiffusionEngine, other: DiffusionEngine, sampler: str
) -> None:
    denoise = Denoise(sampler=sampler, steps=4)
    work = request(denoise=denoise, refiner=refiner(folder, "other", 0.0))
    assert equal(one(base, work), one(other, request(denoise=denoise)))


def test_a_switch_at_the_end_never_happens(folder: Path, base: DiffusionEngine) -> None:
    work = request(refiner=refiner(folder, "other", 1.0))
    assert not is_refined(base, work)
    assert equal(one(base, work), one(base, request()))


@pytest.mark.parametrize("by_calls", [False, True])
def test_a_switch_between_mixes_and_the_base_comes_back(folder: Path, base: DiffusionEngine, by_calls: bool) -> None:
    alone, refined = one(base, request()), request(batches=2, refiner=refiner(folder, "other", 0.5, by_calls=by_calls))
    first, second = pictures(base, refined)
    assert not equal(first, alone)
    assert not equal(first, one(base, request(refiner=refiner(folder, "other", 0.0))))
    one_batch = request(seeds=Seeds(first=8), refiner=refined.refiner)
    assert equal(second, one(base, one_batch))
    assert equal(one(base, request()), alone)


def test_calls_and_noise_levels_count_differently(folder: Path, base: DiffusionEngine) -> None:
    """With Karras sigmas three quarters of the times are behind before three quarters of the calls."""
    denoise = Denoise(steps=8, schedule="karras")
    works = [request(denoise=denoise, refiner=refiner(folder, "other", 0.75, by_calls=flag)) for flag in (False, True)]
    assert not equal(one(base, works[0]), one(base, works[1]))


def test_loras_reach_the_refiner(folder: Path, base: DiffusionEngine, other: DiffusionEngine, tmp_path: Path) -> None:
    name = "lora_unet_mid_block_attentions_0_proj_in"
    generator = torch.Generator().manual_seed(3)
    up, down = torch.randn(CHANNELS, 2, 1, 1, generator=generator), torch.randn(2, CHANNELS, 1, 1, generator=generator)
    path = tmp_path / "x.safetensors"
    save_file({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, str(path))
    adapters = (LoraRef(name="x", path=str(path)),)
    refined = one(base, request(adapters=adapters, refiner=refiner(folder, "other", 0.0)))
    assert equal(refined, one(other, request(adapters=adapters)))
    assert not equal(refined, one(other, request()))


@pytest.mark.parametrize("passes", ["first", "second", "both"])
def test_the_passes_that_a_refiner_acts_in(
    folder: Path, base: DiffusionEngine, other: DiffusionEngine, passes: Any
) -> None:
    work = request(hires=hires(), refiner=refiner(folder, "other", 0.0, passes=passes))
    made = one(base, work)
    if passes == "both":
        assert equal(made, one(other, request(hires=hires())))
    else:
        assert not equal(made, one(other, request(hires=hires())))
    assert not equal(made, one(base, request(hires=hires())))


def test_the_second_pass_by_another_checkpoint(folder: Path, base: DiffusionEngine, other: DiffusionEngine) -> None:
    plain_hires = one(base, request(hires=hires()))
    assert equal(one(base, request(hires=hires(checkpoint=ref(folder, "twin")))), plain_hires)
    assert equal(one(base, request(hires=hires(checkpoint=ref(folder, "base")))), plain_hires)
    swapped = one(base, request(batches=2, hires=hires(checkpoint=ref(folder, "other"))))
    assert not equal(swapped, one(base, request(batches=2, hires=hires())))
    # The first pass is the base's, the second the other's: so it is also what a refiner of the second pass makes.
    refined = request(batches=2, hires=hires(), refiner=refiner(folder, "other", 0.0))
    assert equal(swapped, one(base, refined))


def test_tiling_reaches_companions(folder: Path, base: DiffusionEngine, other: DiffusionEngine) -> None:
    work = request(tiling=True, refiner=refiner(folder, "other", 0.0))
    assert equal(one(base, work), one(other, request(tiling=True)))


@pytest.mark.parametrize("where", ["refiner", "hires"])
def test_a_damaged_companion_fails_the_job_alone(folder: Path, base: DiffusionEngine, where: str) -> None:
    broken = ref(folder, "broken")
    more: dict[str, Any] = {"refiner": Refiner(checkpoint=broken)}
    if where == "hires":
        more = {"hires": hires(checkpoint=broken)}
    base.submit(ONE, request(**more))
    (failed,) = [item for item in finish(base) if isinstance(item, JobFailed)]
    error = from_data(failed.error)
    assert isinstance(error, InvalidValue)
    assert "'broken' cannot be used" in error.message
    assert len(pictures(base, request())) == 1


def test_an_abandoned_job_leaves_the_base_in_place(folder: Path, base: DiffusionEngine) -> None:
    before = one(base, request())
    base.submit(ONE, request(denoise=Denoise(steps=20), refiner=refiner(folder, "other", 0.0)))
    step_until(base, StepDone)
    base.cancel(ONE, CancelMode.ABANDON)
    events_of(finish(base))
    assert equal(one(base, request()), before)


def test_companions_count_as_memory_of_the_job(folder: Path) -> None:
    size = (folder / "other.safetensors").stat().st_size * 2  # float16 in the file, float32 here
    engine = load(folder, "base")
    plain_need = engine._needed(request())
    assert 0.9 * size < engine._needed(request(refiner=refiner(folder, "other", 0.5))) - plain_need < 1.1 * size
    assert engine._needed(request(hires=hires(checkpoint=ref(folder, "base")))) == engine._needed(
        request(hires=hires())
    )
    engine.close()


def lora(path: Path, seed: int = 3) -> LoraRef:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, into, out in (
        ("lora_unet_mid_block_attentions_0_proj_in", CHANNELS, CHANNELS),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1", TEXT, 4 * TEXT),
    ):
        tensors[f"{name}.lora_up.weight"] = torch.randn(out, 2, generator=generator)
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, into, generator=generator)
    save_file(tensors, str(path))
    return LoraRef(name=path.stem, path=str(path))


def hypernetwork(path: Path) -> HypernetworkRef:
    generator = torch.Generator().manual_seed(4)
    state = {"linear.0.weight": torch.randn(TEXT, TEXT, generator=generator), "linear.0.bias": torch.zeros(TEXT)}
    torch.save({"name": path.stem, TEXT: [state, state]}, path)
    return HypernetworkRef(name=path.stem, path=str(path))


def test_networks_of_the_second_pass_act_there_alone(base: DiffusionEngine, tmp_path: Path) -> None:
    found = lora(tmp_path / "x.safetensors")
    alone = one(base, request(hires=hires()))
    both = one(base, request(adapters=(found,), hires=hires()))
    second = one(base, request(batches=2, hires=hires(adapters=(found,))))
    assert equal(one(base, request(adapters=(found,), hires=hires(adapters=(found,)))), both)
    assert not equal(second, both)
    # The second batch begins without the LoRA again.
    assert equal(second, one(base, request(seeds=Seeds(first=8), hires=hires(adapters=(found,)))))
    assert equal(one(base, request(hires=hires())), alone)


def test_hypernetworks_come_and_go(base: DiffusionEngine, tmp_path: Path) -> None:
    found = hypernetwork(tmp_path / "h.pt")
    alone = one(base, request())
    changed = one(base, request(hypernetworks=(found,)))
    assert not equal(changed, alone)
    assert equal(one(base, request(hypernetworks=(msgspec.structs.replace(found, multiplier=0.0),))), alone)
    assert equal(one(base, request()), alone)


def test_hypernetworks_that_are_none_are_noted(base: DiffusionEngine, tmp_path: Path) -> None:
    end = run(base, request(hypernetworks=(HypernetworkRef(name="gone", path=str(tmp_path / "gone.pt")),)))[-1]
    assert isinstance(end, ImageFinished)
    assert len(end.notes) == 1
    assert "'gone'" in end.notes[0]
