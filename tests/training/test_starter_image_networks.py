"""The networks of the picture model before training, and that what is written is what the engine loads."""

import random
from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_models import needs_torch
from training.image.averages import SPREAD, averages, latents
from training.image.drawing import pixels, render
from training.image.scenes import random_scene

pytestmark = [pytest.mark.torch, needs_torch]

STEP = 2 / 255
"""Between one value of a pixel and the next, in -1 ... 1."""


def pictures(count: int) -> list[np.ndarray]:
    dice = random.Random(12)
    return [pixels(render(random_scene(dice), dice)) for _ in range(count)]


def test_the_encoder_is_built_to_compute_the_averages() -> None:
    import torch

    from server.engines.image.layouts.family import SD1
    from training.image.autoencoder import built_vae

    vae = built_vae()
    with torch.no_grad():
        for picture in pictures(3):
            posterior = vae.encode(torch.from_numpy(picture)[None]).latent_dist
            made = posterior.mean[0].numpy() * SD1.latent_scale
            assert (np.abs(made - latents(picture)).max(axis=(1, 2)) * SPREAD).max() < 2 * STEP
            assert posterior.std.max() < 1e-5


def test_the_decoder_gives_what_was_trained() -> None:
    import torch

    from training.image.autoencoder import built_vae, enlarged, trained_parts

    vae = built_vae()
    with torch.no_grad():
        for parameter in trained_parts(vae):
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
        for picture in pictures(2):
            small = torch.from_numpy(averages(picture))[None]
            coded = vae.encode(torch.from_numpy(picture)[None]).latent_dist.mean
            whole, trained = vae.decode(coded).sample, enlarged(vae, small)
            assert trained.std() > 0.05
            assert (whole - trained).abs().max() < 0.03 * trained.abs().max()


def test_the_engine_loads_what_is_written(tmp_path: Path) -> None:
    import torch

    from server.engines.image import checkpoint
    from server.engines.image.placement import Precision
    from training.image.autoencoder import built_vae
    from training.image.network import Networks, fresh_text, fresh_unet, write

    networks = Networks(fresh_unet(), fresh_text(), built_vae())
    path = write(tmp_path / "painter.safetensors", networks)
    assert path.stat().st_size <= 14_000_000
    full = Precision(model=torch.float32, vae=torch.float32)
    loaded = checkpoint.load(path, precision=full, vae_path=None, allow_pickle=False, report=lambda done: None)
    assert loaded.family.name == "sd1"
    assert loaded.prediction == "v"
    pairs = ((networks.unet, loaded.unet), (networks.vae, loaded.vae), (networks.text.model, loaded.texts[0].model))
    for made, read in pairs:
        names = dict(read.named_parameters())
        assert set(names) == {name for name, _ in made.named_parameters()}
        for name, parameter in made.named_parameters():
            assert torch.equal(parameter.half().float(), names[name]), name


def read(folder: Path) -> None:
    """Leave a text encoder there, as the training before the UNet's does."""
    from training.image.train_text import Run, train

    train(Run(steps=1, batch=2), folder)


@pytest.mark.slow
def test_training_moves_all_that_a_picture_needs(tmp_path: Path) -> None:
    import torch

    from training.image.train_unet import Painter, Run, train

    torch.manual_seed(1)
    before = dict(Painter().unet.named_parameters())
    read(tmp_path)
    after = dict(train(Run(steps=2, batch=2), tmp_path).unet.named_parameters())
    assert [name for name in before if torch.equal(before[name], after[name])] == []


@pytest.mark.slow
def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    import torch

    from training.image.train_unet import Run, kept, train

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    read(tmp_path / "whole")
    read(tmp_path / "parts")
    whole = train(Run(steps=4, batch=2), tmp_path / "whole")
    train(Run(steps=4, batch=2), tmp_path / "parts", until=2)
    train(Run(steps=4, batch=2), tmp_path / "parts")
    for name, right in whole.named_parameters():
        assert torch.equal(right, kept(tmp_path / "parts").get_parameter(name)), name


def test_the_decoder_learns_edges(tmp_path: Path) -> None:
    import torch

    from training.image.autoencoder import built_vae, enlarged
    from training.image.train_decoder import Run, train

    torch.manual_seed(2)
    vae = built_vae()
    right = torch.from_numpy(np.stack(pictures(4)))
    seen = torch.from_numpy(np.stack([averages(picture) for picture in pictures(4)]))
    with torch.no_grad():
        before = (enlarged(vae, seen) - right).abs().mean()
    train(Run(steps=12, batch=4, whole=0.0, rate=1e-3), tmp_path / "out.pt", vae)
    with torch.no_grad():
        assert (enlarged(vae, seen) - right).abs().mean() < before


def test_unknown_words_say_nothing_and_known_ones_keep_their_meaning() -> None:
    import torch

    from server.engines.image.clip.tokenizer import load_tokenizer
    from server.engines.image.text_tower import bare_text_model
    from training.image.data import token_ids
    from training.image.export import settle_words
    from training.image.train_unet import Painter

    painter = Painter()
    table = bare_text_model(painter.text.model).get_submodule("embeddings.token_embedding").get_parameter("weight")

    def row(word: str) -> torch.Tensor:
        return table[load_tokenizer().ids(word)[0]].detach().clone()

    red, filler = row("red"), row("a")
    assert not torch.equal(row("zebra"), filler)
    settle_words(painter, torch.tensor([token_ids("a red circle")]))
    assert torch.equal(row("zebra"), filler)
    assert torch.equal(row("red"), red)
    assert torch.equal(row("crimson"), red)
