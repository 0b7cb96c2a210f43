from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from server.core.errors import InvalidValue
from server.core.image import Denoise, HiresPass, Size, UpscalerRef
from server.core.prompt import plain
from server.engines.image.checkpoint import Checkpoint
from server.engines.image.enlarging import enlarged
from server.engines.image.hires import UPSCALERS, upscaled
from server.engines.image.placement import Placement
from server.engines.image.upscaling.lending import Lender
from server.engines.image.vae import Vae
from tests.server.engines.image.conftest import FLOAT32
from tests.support.tiny_upscaler import write_upscaler

pytestmark = pytest.mark.torch


def second_pass(upscaler: str, scale_to: Size, size: Size | None = None) -> HiresPass:
    return HiresPass(
        size=size or scale_to,
        scale_to=scale_to,
        upscaler=upscaler,
        strength=0.5,
        denoise=Denoise(),
        prompt=plain(""),
        negative=plain(""),
    )


@pytest.fixture(scope="module")
def vae(tiny: Checkpoint) -> Vae:
    place = Placement(device=torch.device("cpu"), precision=FLOAT32)
    return Vae(tiny.vae, place, tiny.latent_scale)


@pytest.mark.parametrize("upscaler", UPSCALERS)
def test_every_upscaler_gives_the_size_asked_for(vae: Vae, upscaler: str) -> None:
    latents = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    found = upscaled(latents, second_pass(upscaler, Size(88, 64), Size(72, 56)), vae, lambda: None)
    assert found.shape == (2, 4, 7, 9)
    assert found.isfinite().all()


def test_latents_of_one_value_keep_it(vae: Vae) -> None:
    for upscaler in (name for name in UPSCALERS if name.startswith("latent")):
        found = upscaled(torch.full((1, 4, 4, 4), 0.7), second_pass(upscaler, Size(72, 72)), vae, lambda: None)
        assert torch.allclose(found, torch.tensor(0.7))


def test_the_odd_cell_is_cut_at_the_bottom_and_right(vae: Vae) -> None:
    rows = torch.arange(8.0).reshape(1, 1, 8, 1).expand(1, 4, 8, 8)
    found = upscaled(rows, second_pass("latent_nearest", Size(64, 64), Size(64, 40)), vae, lambda: None)
    assert found[0, 0, :, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_encoding_takes_the_noise_it_is_given(vae: Vae) -> None:
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))

    def grown(seed: int | None) -> torch.Tensor:
        return upscaled(
            latents,
            second_pass("lanczos", Size(64, 64)),
            vae,
            lambda: None if seed is None else torch.Generator().manual_seed(seed),
        )

    assert torch.equal(grown(3), grown(3))
    assert not torch.equal(grown(3), grown(4))
    assert not torch.equal(grown(3), grown(None))


def test_a_file_of_an_upscaler_is_used_in_its_place(vae: Vae, tmp_path: Path) -> None:
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    asked = second_pass("none", Size(88, 64), Size(72, 56))
    ref = UpscalerRef(name="4x-tiny", path=str(write_upscaler(tmp_path)), tile=16, overlap=4)
    lent = msgspec.structs.replace(asked, upscaler_file=ref)
    lender = Lender(Placement(device=torch.device("cpu"), precision=FLOAT32), allow_pickle=False)
    found = upscaled(latents, lent, vae, lambda: None, lender.lend)
    assert found.shape == (1, 4, 7, 9)
    assert not torch.equal(found, upscaled(latents, asked, vae, lambda: None, lender.lend))
    with pytest.raises(InvalidValue):
        upscaled(latents, lent, vae, lambda: None)


def test_unknown_upscalers_are_refused(vae: Vae) -> None:
    with pytest.raises(InvalidValue) as caught:
        upscaled(torch.zeros(1, 4, 4, 4), second_pass("magic", Size(64, 64)), vae, lambda: None)
    assert caught.value.fact("param") == "upscaler"


def image(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [Size(16, 16), Size(33, 21), Size(8, 8), Size(101, 99)])
@pytest.mark.parametrize("upscaler", ["lanczos", "nearest", "none"])
def test_pictures_get_exactly_the_size(size: Size, upscaler: str) -> None:
    assert enlarged(image(16, 16), size, upscaler).size == (size.width, size.height)


def test_doubling_by_nearest_repeats_pixels() -> None:
    small = np.asarray(image(8, 8))
    assert np.array_equal(np.asarray(enlarged(image(8, 8), Size(16, 16), "nearest")), small.repeat(2, 0).repeat(2, 1))


def test_none_is_a_single_lanczos_resize() -> None:
    expected = image(16, 16).resize((40, 24), Image.Resampling.LANCZOS)
    assert enlarged(image(16, 16), Size(40, 24), "none").tobytes() == expected.tobytes()
