"""Latents as pipelines keep them, against diffusers' own packing; what a VAE writes, it reads."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline
from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline

from server.core.image import Size
from server.engines.image.pipelines.latents import Grid, Keeping, _folded, _unfolded

pytestmark = pytest.mark.torch

SIZE = Size(48, 32)


class Mirror:
    """A VAE that takes the middle colour of each cell, and gives it back; its numbers have a mean and a scale."""

    def __init__(self, **config: Any) -> None:
        self.config = _Config({"scaling_factor": 2.0, "shift_factor": 0.5} | config)

    def encode(self, pixels: torch.Tensor) -> Any:
        mean = pixels[..., 4::8, 4::8]
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=torch.full_like(mean, 0.1)))

    def decode(self, latents: torch.Tensor, return_dict: bool = True) -> tuple[torch.Tensor]:
        return (latents.repeat_interleave(8, -1).repeat_interleave(8, -2),)


class _Config(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


def grid(packing: Any, **config: Any) -> Grid:
    cell, channels = (16, 12) if packing == "rows" else (8, 3)
    vae = Mirror(**config)
    vae.bn = SimpleNamespace(running_mean=torch.arange(12.0), running_var=torch.full((12,), 4.0))  # type: ignore[attr-defined]
    return Grid(keeping=Keeping(packing=packing), vae=vae, channels=channels, cell=cell)


def cells_of(found: Grid, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, *found.shape(SIZE), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("packing", ["plain", "patches", "rows"])
def test_what_is_kept_is_unpacked_as_it_was(packing: str) -> None:
    found = grid(packing, batch_norm_eps=0.0)
    cells = cells_of(found)
    assert torch.equal(found.cells(found.kept(cells), SIZE), cells)


def test_patches_are_packed_as_diffusers_packs_them() -> None:
    found = grid("patches")
    cells = cells_of(found)
    assert torch.equal(found.kept(cells), FluxPipeline._pack_latents(cells, 2, 3, 4, 6))
    assert found.given(cells).shape == found.kept(cells).shape


def test_rows_are_packed_as_diffusers_packs_them() -> None:
    found = grid("rows", batch_norm_eps=0.0)
    cells = cells_of(found)
    assert torch.equal(found.kept(cells), Flux2Pipeline._pack_latents(cells))
    assert torch.equal(found.given(cells), cells)
    latents = torch.randn(2, 3, 4, 6)
    assert torch.equal(_folded(latents), Flux2Pipeline._patchify_latents(latents))
    assert torch.equal(_unfolded(_folded(latents)), latents)


@pytest.mark.parametrize(
    ("packing", "config"),
    [
        ("plain", {}),
        ("patches", {"shift_factor": None}),
        ("plain", {"z_dim": 3, "latents_mean": [0.1, 0.2, 0.3], "latents_std": [1.0, 2.0, 3.0]}),
        ("rows", {"batch_norm_eps": 0.0}),
    ],
)
def test_a_picture_is_read_as_it_was_written(packing: str, config: dict[str, Any]) -> None:
    found = grid(packing, **config)
    colours = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(2)) * 2 - 1
    picture = colours.repeat_interleave(8, -1).repeat_interleave(8, -2)
    cells = found.encode(picture, None)
    assert cells.shape == found.shape(SIZE)
    assert torch.allclose(found.decode(cells[None])[0], picture, atol=1e-5)
    sampled = found.encode(picture, torch.Generator().manual_seed(3))
    assert torch.equal(sampled, cells) == (packing == "rows")


def test_numbers_are_scaled_about_the_shift() -> None:
    found = grid("plain")
    assert torch.allclose(found.encode(torch.full((3, 8, 8), 0.75), None), torch.tensor(0.5))
