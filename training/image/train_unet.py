"""Teaches the UNet and the text encoder together: velocity prediction on the latents of drawn scenes.

Loss: squared error of v = sqrt(a) noise - sqrt(1 - a) picture (Salimans and Ho 2022), with less weight where little
noise is left (Hang et al. 2023), at times that are drawn more often where a picture's plan is decided. A small network
learns that far sooner than to predict noise, of which at late times nearly all is what it was shown. The noise has a
random mean, or the mean colour, which shines through late noise, would be believed more than the words.
One caption in ten is left out, so guidance works (Ho and Salimans 2022). What is kept is a running mean of the weights.
"""

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from server.engines.image.sigma_table import alphas_cumprod
from training.image.data import Lessons, token_ids
from training.image.network import fresh_text, fresh_unet

logger = logging.getLogger(__name__)

LEFT_OUT = 0.1
SNR_LIMIT = 5.0
WARM_UP = 60
"""Steps in which the rate rises."""

FALL = 0.3
"""Part of the run in which the rate falls to nothing, at its end: before that a run can be of any length."""

OFFSET = 0.1
"""Deviation of the noise's mean."""

TIME_POWER = 0.7
"""Times are a uniform draw to this power: fewer of the early ones, which only polish."""

SAVE_EVERY = 100


@dataclass(frozen=True)
class Run:
    """How long to train and how."""

    steps: int
    batch: int = 16
    rate: float = 1.2e-3
    seed: int = 1


class Painter(nn.Module):
    """UNet and text encoder as one thing to train."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = fresh_unet()
        self.text = fresh_text()

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the velocity [n, 4, h, w] of latents, for times [n] and token ids [n, 77]."""
        hidden = self.text(tokens, 1, True).hidden
        answer: torch.Tensor = self.unet(noisy, times, encoder_hidden_states=hidden).sample
        return answer


def train(run: Run, material: Lessons, out: Path, painter: Painter | None = None) -> Painter:
    """Train, save the running mean every so often to `out`, and return it."""
    generator = torch.Generator().manual_seed(run.seed)
    torch.manual_seed(run.seed)
    painter = Painter() if painter is None else painter
    mean = copy.deepcopy(painter).requires_grad_(False)
    painter.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(painter.parameters(), lr=run.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    table = alphas_cumprod(0.00085, 0.012).float()
    shown = 0.0
    for step, (batch, tokens) in enumerate(islice(_batches(material, run, generator), run.steps)):
        for group in optimizer.param_groups:
            group["lr"] = run.rate * _pace(step, step / run.steps)
        loss = _loss(painter, batch, tokens, table, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(painter.parameters(), 1.0)
        optimizer.step()
        _follow(mean, painter, min(0.998, (1 + step) / (20 + step)))
        shown = 0.98 * shown + 0.02 * loss.item() if step else loss.item()
        if step % SAVE_EVERY == 0:
            torch.save(mean.state_dict(), out)
            logger.info("step %d of %d, loss %.4f", step, run.steps, shown)
    torch.save(mean.state_dict(), out)
    return mean


def _loss(
    painter: Painter, batch: torch.Tensor, tokens: torch.Tensor, table: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    times = (len(table) * torch.rand(len(batch), generator=generator) ** TIME_POWER).long()
    noise = torch.randn(batch.shape, generator=generator)
    noise = noise + OFFSET * torch.randn((*batch.shape[:2], 1, 1), generator=generator)
    kept = table[times][:, None, None, None]
    noisy = (kept.sqrt() * batch + (1 - kept).sqrt() * noise).to(memory_format=torch.channels_last)
    answer = painter(noisy, times, tokens)
    velocity = kept.sqrt() * noise - (1 - kept).sqrt() * batch
    ratio = (kept / (1 - kept)).flatten()
    weight = ((SNR_LIMIT + 1) / (ratio + 1)).clamp(max=1.0)
    return (weight * (answer - velocity).square().mean(dim=(1, 2, 3))).mean()


def _batches(material: Lessons, run: Run, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    empty = torch.tensor(token_ids(""), dtype=torch.int32)
    while True:
        order = torch.randperm(len(material.latents), generator=generator)
        for rows in order.split(run.batch):
            tokens = material.tokens[rows].clone()
            tokens[torch.rand(len(rows), generator=generator) < LEFT_OUT] = empty
            yield material.latents[rows].float(), tokens.long()


def _pace(step: int, done: float) -> float:
    """Return the part of the full rate: a rise, a plain, a fall."""
    return min((step + 1) / WARM_UP, 1.0, (1 - done) / FALL)


@torch.no_grad()
def _follow(mean: nn.Module, model: nn.Module, keep: float) -> None:
    torch._foreach_lerp_(list(mean.parameters()), list(model.parameters()), 1 - keep)
