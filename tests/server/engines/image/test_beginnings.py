from typing import Any

import pytest
import torch
from PIL import Image

from server.core.errors import InvalidValue, Unsupported
from server.core.image import ImageRequest, InitImages, Inpaint, Seeds, Size
from server.core.prompt import plain
from server.engines.image.beginnings import Encoding, begin, entry_of, nothing_seen
from server.engines.image.denoise import Entry
from tests.support.picture_files import disc, file_of, noise_image

pytestmark = pytest.mark.torch

SIZE = Size(32, 24)
CPU = torch.device("cpu")


class FakeVae:
    """Takes every eighth pixel's red, in four channels; adds 100 for each draw of the generator it is given."""

    scale = 0.5

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def encode(self, picture: torch.Tensor, noise: torch.Generator | None) -> torch.Tensor:
        self.seen.append(picture)
        cells = picture[:1, ::8, ::8].expand(4, -1, -1) * self.scale
        return cells if noise is None else cells + torch.rand(1, generator=noise)


def encoding(inputs: Any = "none", *, seed: int | None = None) -> Encoding:
    noise = None if seed is None else torch.Generator().manual_seed(seed)
    return Encoding(vae=FakeVae(), inputs=inputs, noise=noise, device=CPU)  # type: ignore[arg-type]


def begun(encoded: Encoding | None = None, *, images: Any = None, batch: int = 1, **fields: Any) -> Any:
    pictures = images or [noise_image(32, 24)]
    init = InitImages(images=tuple(map(file_of, pictures)), strength=0.5, **fields)
    request = ImageRequest(
        model="x",
        prompt=plain(""),
        negative=plain(""),
        size=SIZE,
        seeds=Seeds(first=3),
        batch_size=batch,
        init=init,
    )
    return begin(request, init, encoded or encoding())


def inpaint(**fields: Any) -> Inpaint:
    return Inpaint(**{"mask": file_of(disc(32, radius=9).resize((32, 24))), "blur_x": 0, "blur_y": 0} | fields)


def test_one_picture_is_encoded_for_each_of_a_batch() -> None:
    made = begun(encoding(seed=1), batch=3)
    assert made.latent.shape == (3, 4, 3, 4)
    assert not torch.equal(made.latent[0], made.latent[1])
    assert torch.equal(begun(batch=3).latent[0], begun(batch=3).latent[2])
    assert (made.blend, made.seen) == (None, None)


def test_pictures_of_their_own() -> None:
    made = begun(images=[noise_image(32, 24, seed=k) for k in (1, 2)], batch=2)
    assert not torch.equal(made.latent[0], made.latent[1])


def test_latent_mode_scales_latents() -> None:
    made = begun(images=[noise_image(64, 64)], resize="latent")
    assert made.latent.shape == (1, 4, 3, 4)


@pytest.mark.parametrize("images", [[noise_image(4, 40)], [noise_image(40, 40), noise_image(48, 40)]])
def test_what_latent_mode_cannot_encode(images: list[Image.Image]) -> None:
    with pytest.raises(InvalidValue):
        begun(images=images, resize="latent", batch=len(images))


def test_a_mask_blends() -> None:
    made = begun(inpaint=inpaint())
    assert torch.equal(made.blend.old, made.latent)
    assert set(made.blend.remade.unique().tolist()) == {0.0, 1.0}
    bare = begun(inpaint=inpaint(content="nothing"))
    assert (bare.latent[0, :, bare.blend.remade == 1] == 0).all()


def test_a_black_mask_is_told() -> None:
    asked = inpaint(mask=file_of(Image.new("L", (32, 24))), only_masked=True)
    made = begun(inpaint=asked)
    assert made.has_blank_mask
    assert made.blend is None
    assert not begun(inpaint=inpaint()).has_blank_mask


def test_inpainting_models_see_the_mask_and_the_rest_of_the_picture() -> None:
    encoded = encoding("inpaint")
    made = begun(encoded, inpaint=inpaint(), batch=2)
    assert made.seen.shape == (2, 5, 3, 4)
    assert torch.equal(made.seen[:, 0], made.seen[:1, 0].expand(2, -1, -1))
    hidden = encoded.vae.seen[2]  # type: ignore[attr-defined]
    assert (hidden[:, 12, 16] == 0).all()
    assert torch.equal(hidden[:, 0], encoded.vae.seen[0][:, 0])  # type: ignore[attr-defined]


def test_the_mask_may_hide_less() -> None:
    encoded = encoding("inpaint")
    begun(encoded, inpaint=inpaint(), mask_weight=0.25)
    before, hidden = encoded.vae.seen  # type: ignore[attr-defined]
    assert torch.allclose(hidden[:, 12, 16], 0.75 * before[:, 12, 16])


def test_inpainting_models_without_a_mask_see_all_masked() -> None:
    encoded = encoding("inpaint")
    made = begun(encoded)
    assert (made.seen[:, 0] == 1).all()
    assert (encoded.vae.seen[-1] == 0).all()  # type: ignore[attr-defined]


def test_pix2pix_models_see_the_unscaled_picture_without_noise() -> None:
    encoded = encoding("pix2pix", seed=1)
    made = begun(encoded)
    picture = encoded.vae.seen[0]  # type: ignore[attr-defined]
    assert torch.allclose(made.seen[0], picture[:1, ::8, ::8].expand(4, -1, -1))


def test_models_that_see_need_the_picture_at_its_size() -> None:
    with pytest.raises(Unsupported):
        begun(encoding("inpaint"), resize="latent")


def test_nothing_to_see() -> None:
    assert nothing_seen(2, SIZE, encoding()) is None
    seen = nothing_seen(2, SIZE, encoding("inpaint"))
    assert seen is not None
    assert seen.shape == (2, 5, 3, 4)
    assert (seen[:, 0] == 1).all()
    with pytest.raises(Unsupported, match="changes pictures"):
        nothing_seen(2, SIZE, encoding("pix2pix"))


def test_where_the_schedule_is_entered() -> None:
    init = InitImages(images=(b"",), strength=0.3, exact_steps=True, noise_multiplier=1.1)
    assert entry_of(init) == Entry(0.3, exact=True, noise_factor=1.1)
