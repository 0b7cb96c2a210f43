"""Teaches the VAE's decoder to draw sharp edges: from the averages of scenes, a little noisy, back to their pixels.

Loss: absolute error of pixels and of their differences along both axes. Most steps see a quarter of a picture around a
random place, the last ones whole pictures, for norms look at all of a picture.
"""

import logging
import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn

from training.image.autoencoder import built_vae, enlarged, trained_parts
from training.image.averages import CELL, SPREAD, averages
from training.image.drawing import SIDE, pixels, render
from training.image.scenes import random_scene

logger = logging.getLogger(__name__)

CROP = 8
"""Side of a quarter picture in cells."""

NOISE = 0.08
"""Largest deviation of the noise in the UNet's units; what it paints is never quite clean."""


@dataclass(frozen=True)
class Run:
    """How long to train and how; `whole` is the part of the run that sees whole pictures."""

    steps: int
    batch: int = 8
    rate: float = 2e-3
    whole: float = 0.3
    seed: int = 2


def train(run: Run, out: Path, began: AutoencoderKL | None = None) -> AutoencoderKL:
    """Train, save to `out`, and return the VAE."""
    torch.manual_seed(run.seed)
    dice = random.Random(run.seed)
    vae = built_vae() if began is None else began
    parts = trained_parts(vae)
    optimizer = torch.optim.AdamW(parts, lr=run.rate, betas=(0.9, 0.99), weight_decay=0)
    shown = 0.0
    for step in range(run.steps):
        done = step / run.steps
        for group in optimizer.param_groups:
            group["lr"] = run.rate * min(1.0, (step + 1) / 30) * (0.5 * (1 + math.cos(math.pi * done)) + 0.01)
        is_whole = done > 1 - run.whole
        seen, right = _batch(dice, run.batch // 2 if is_whole else run.batch, is_whole)
        loss = _loss(enlarged(vae, seen), right)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parts, 1.0)
        optimizer.step()
        shown = 0.95 * shown + 0.05 * loss.item() if step else loss.item()
        if step % 50 == 0:
            torch.save(vae.state_dict(), out)
            logger.info("step %d of %d, loss %.4f", step, run.steps, shown)
    torch.save(vae.state_dict(), out)
    return vae


def _loss(made: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    error = made - right
    return error.abs().mean() + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def _batch(dice: random.Random, size: int, is_whole: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return averages [n, 4, h, w] with noise, and pictures [n, 3, 8 h, 8 w]."""
    seen, right = [], []
    while len(seen) < size:
        picture = pixels(render(random_scene(dice), dice))
        if not is_whole:
            top, left = (dice.randint(0, SIDE // CELL - CROP) * CELL for _ in range(2))
            picture = picture[:, top : top + CROP * CELL, left : left + CROP * CELL]
            if picture.std(axis=(1, 2)).max() < 0.02:
                continue
        small = averages(picture)
        spread = np.asarray(SPREAD, dtype=np.float32)[:, None, None] * dice.choice((0.0, dice.random() * NOISE))
        noise = np.random.default_rng(dice.getrandbits(32)).standard_normal(small.shape, dtype=np.float32)
        seen.append(small + spread * noise)
        right.append(picture)
    return torch.from_numpy(np.stack(seen)), torch.from_numpy(np.stack(right))
