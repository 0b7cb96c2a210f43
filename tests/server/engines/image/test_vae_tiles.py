"""Tiles against the whole: random weights exaggerate every difference, so figures are averages over -1 ... 1."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from server.engines.image import vae_tiles
from server.engines.image.checkpoint import Checkpoint
from server.engines.image.tiling import wrapped
from server.engines.image.vae_tiles import decode_in_tiles, starts

pytestmark = pytest.mark.torch


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(0))


def smooth(height: int, width: int) -> torch.Tensor:
    small = torch.randn(1, 4, height // 8, width // 8, generator=torch.Generator().manual_seed(1)) * 2
    return functional.interpolate(small, size=(height, width), mode="bicubic")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of a quarter of the size, so that tests are quick."""
    monkeypatch.setattr(vae_tiles, "TILE", 24)
    monkeypatch.setattr(vae_tiles, "OVERLAP", 12)


def apart(tiny: Checkpoint, latent: torch.Tensor) -> float:
    with torch.no_grad():
        gap = (decode_in_tiles(tiny.vae, latent) - tiny.vae.decode(latent).sample).abs()
    return gap.mean().item()


@pytest.mark.parametrize("length", [1, 64, 65, 100, 112, 113, 512, 1000])
def test_tiles_cover_a_side_and_overlap(length: int) -> None:
    begun = starts(length)
    tile, overlap = vae_tiles.TILE, vae_tiles.OVERLAP
    assert begun[0] == 0
    assert begun[-1] + tile >= length
    assert all(tile - (after - before) >= overlap for before, after in pairwise(begun))
    assert length <= tile or begun[-1] == length - tile


def test_a_picture_of_one_tile_is_the_same(tiny: Checkpoint) -> None:
    assert apart(tiny, noise(20, 24)) < 1e-6


@pytest.mark.usefixtures("small_tiles")
def test_tiles_are_near_the_whole(tiny: Checkpoint) -> None:
    for latent in (noise(28, 40), smooth(24, 40), noise(16, 40)):
        assert apart(tiny, latent) < 0.06


@pytest.mark.usefixtures("small_tiles")
def test_flat_and_busy_parts_keep_their_tones(tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """With statistics of their own, tiles are further off."""
    latent = noise(24, 48)
    latent[..., :24] = smooth(24, 48)[..., :24]
    held = apart(tiny, latent)
    monkeypatch.setattr(vae_tiles, "_held_statistics", lambda *args: torch.no_grad())
    assert held < 0.5 * apart(tiny, latent)


@pytest.mark.usefixtures("small_tiles")
def test_edges_that_meet_still_meet(tiny: Checkpoint) -> None:
    latent = noise(28, 8)
    with torch.no_grad(), wrapped([tiny.vae], True):
        whole = tiny.vae.decode(latent).sample
        tiled = decode_in_tiles(tiny.vae, latent)
    with torch.no_grad():
        apart_from_edges = decode_in_tiles(tiny.vae, latent)

    def at_the_edges(picture: torch.Tensor) -> float:
        return (picture - whole)[..., [0, -1], :].abs().mean().item()

    assert tiled.shape == whole.shape
    assert at_the_edges(tiled) < 0.5 * at_the_edges(apart_from_edges)


def test_no_hook_stays(tiny: Checkpoint) -> None:
    with torch.no_grad():
        decode_in_tiles(tiny.vae, noise(8, 70))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.vae.modules())
