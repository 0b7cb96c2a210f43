"""Teaches the UNet what the text encoder has read: velocity prediction on the latents of drawn scenes.

Loss: squared error of v = sqrt(a) noise - sqrt(1 - a) picture (Salimans and Ho 2022), with less weight where little
noise is left (Hang et al. 2023), at times that are drawn more often where a picture's plan is decided. A small network
learns that far sooner than to predict noise, of which at late times nearly all is what it was shown. The noise has a
random mean, or the mean colour, which shines through late noise, would be believed more than the words.
Matrices and convolutions are stepped by Muon, the rest by AdamW.
One caption in ten is left out, so guidance works (Ho and Salimans 2022). What is kept is a running mean of the weights.
Every step draws from a seed of its own, so a training that was interrupted goes on as if it had not been.
"""

import copy
import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from server.engines.image.sigma_table import alphas_cumprod
from training.image import train_text
from training.image.data import lesson
from training.image.network import fresh_text, fresh_unet
from training.muon import Steps

logger = logging.getLogger(__name__)

SNR_LIMIT = 5.0
WARM_UP = 60
"""Steps in which the rate rises."""

FALL = 0.3
"""Part of the run in which the rate falls to nothing, at its end: before that a run can be of any length."""

OFFSET = 0.1
"""Deviation of the noise's mean."""

TIME_POWER = 0.5
"""Times are a uniform draw to this power: fewer of the early ones, which only polish."""

KEEP = 0.998
"""How slowly the running mean follows."""

SAVE_EVERY = 100
STATE = "painter.pt"


@dataclass(frozen=True)
class Run:
    """How long to train and how; `matrix_rate` is Muon's, `rate` that of all else."""

    steps: int
    batch: int = 16
    matrix_rate: float = 0.02
    rate: float = 1.5e-3
    seed: int = 1


class Painter(nn.Module):
    """UNet and text encoder as one thing; the text encoder is not trained any further."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = fresh_unet()
        self.text = fresh_text().requires_grad_(False)

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the velocity [n, 4, h, w] of latents, for times [n] and token ids [n, 77]."""
        hidden = self.text(tokens, 1, True).hidden
        answer: torch.Tensor = self.unet(noisy, times, encoder_hidden_states=hidden).sample
        return answer


def train(run: Run, folder: Path, until: int | None = None) -> Painter:
    """Train, or go on with the training whose state stands in `folder`, and return the running mean of the weights.

    `until` stops earlier, with the rates of the whole run.
    """
    last = run.steps if until is None else until
    torch.manual_seed(run.seed)
    course = _Course(run, torch.load(folder / train_text.FILE, weights_only=True))
    state = folder / STATE
    if state.is_file():
        course.restore(torch.load(state, weights_only=True))
    shown, began = 0.0, time.monotonic()
    while course.done < last:
        loss = course.step()
        shown = 0.98 * shown + 0.02 * loss if shown else loss
        if course.done % SAVE_EVERY == 0 or course.done == last:
            torch.save(course.state(), folder / "painter.new")
            (folder / "painter.new").replace(state)
            logger.info("step %d of %d, loss %.4f, %.0f s", course.done, run.steps, shown, time.monotonic() - began)
    return course.mean


def kept(folder: Path) -> Painter:
    """Return the running mean so far of a training that may still go on."""
    painter = Painter()
    painter.load_state_dict(torch.load(folder / STATE, weights_only=True)["mean"])
    return painter


class _Course:
    """The networks with their optimisers and their running mean."""

    def __init__(self, run: Run, text: dict[str, torch.Tensor]) -> None:
        self.done = 0
        self._run = run
        painter = Painter()
        painter.text.load_state_dict(text)
        self.mean = copy.deepcopy(painter).requires_grad_(False)
        self._painter = painter.train().to(memory_format=torch.channels_last)
        self._steps = Steps(painter.unet.parameters(), _matrices(painter.unet), decay=1e-3)
        self._table = alphas_cumprod(0.00085, 0.012).float()

    def step(self) -> float:
        """Learn from the next scenes and return the loss."""
        run = self._run
        dice = random.Random(f"{run.seed} {self.done}")
        generator = torch.Generator().manual_seed(dice.getrandbits(48))
        seen = lesson(run.batch, dice)
        loss = velocity_loss(self._painter, seen.latents, seen.tokens, self._table, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(self._painter.unet.parameters(), 1.0)
        pace = _pace(self.done, self.done / run.steps)
        self._steps.step(run.matrix_rate * pace, run.rate * pace)
        _follow(self.mean.unet, self._painter.unet, min(KEEP, (1 + self.done) / (20 + self.done)))
        self.done += 1
        return loss.item()

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on."""
        return {
            "done": self.done,
            "painter": self._painter.state_dict(),
            "mean": self.mean.state_dict(),
            **self._steps.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.done = state["done"]
        self._painter.load_state_dict(state["painter"])
        self.mean.load_state_dict(state["mean"])
        self._steps.restore(state)


def _matrices(unet: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the weights inside the network; what reads and writes latents is for another optimiser."""
    for name, parameter in unet.named_parameters():
        if parameter.ndim >= 2 and not name.startswith(("conv_in", "conv_out")):
            yield parameter


def velocity_loss(
    painter: Painter, batch: torch.Tensor, tokens: torch.Tensor, table: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return the weighted error of the velocity of latents [n, 4, h, w] at random times, for token ids [n, 77]."""
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


def _pace(step: int, done: float) -> float:
    """Return the part of the full rate: a rise, a plain, a fall."""
    return min((step + 1) / WARM_UP, 1.0, (1 - done) / FALL)


@torch.no_grad()
def _follow(mean: nn.Module, model: nn.Module, keep: float) -> None:
    torch._foreach_lerp_(list(mean.parameters()), list(model.parameters()), 1 - keep)
