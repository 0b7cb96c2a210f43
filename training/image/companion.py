"""Teaches what stands beside a finished checkpoint, whose own weights stay as they are: a LoRA, a control model.

Every step draws from a seed of its own, and the state is kept every so often, so a training that was interrupted goes
on as if it had not been. A state that is older than the checkpoint's is of no use any more.
"""

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from training.image.train_unet import STATE as PAINTER

logger = logging.getLogger(__name__)

WARM_UP = 30
"""Steps in which the rate rises."""

SAVE_EVERY = 20

Lesson = Callable[[int, random.Random, torch.Generator], torch.Tensor]
"""Draws so many examples from its dice and returns their loss."""


@dataclass(frozen=True)
class Run:
    """How long to train and how; the rate falls to nothing along half a cosine."""

    steps: int
    rate: float
    batch: int
    seed: int = 1


def train(run: Run, parts: nn.Module, lesson: Lesson, state: Path, until: int | None = None) -> None:
    """Train all weights of `parts`, or go on with the training whose state is kept in the file `state`.

    The checkpoint's own state stands beside it. `until` stops earlier, with the rates of the whole run.
    """
    last = run.steps if until is None else until
    adam = torch.optim.AdamW(parts.parameters(), lr=run.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    done, shown, began = 0, 0.0, time.monotonic()
    if _is_current(state):
        found = torch.load(state, weights_only=True)
        done = found["done"]
        parts.load_state_dict(found["parts"])
        adam.load_state_dict(found["adam"])
    while done < last:
        for group in adam.param_groups:
            group["lr"] = run.rate * _pace(done, run.steps)
        loss = _step(run, parts, adam, lesson, done)
        done += 1
        shown = 0.95 * shown + 0.05 * loss if shown else loss
        if done % SAVE_EVERY == 0 or done == last:
            fresh = state.with_suffix(".new")
            torch.save({"done": done, "parts": parts.state_dict(), "adam": adam.state_dict()}, fresh)
            fresh.replace(state)
            logger.info("step %d of %d, loss %.4f, %.0f s", done, run.steps, shown, time.monotonic() - began)


def restore(parts: nn.Module, state: Path) -> None:
    """Give `parts` the weights of a training that may still go on."""
    parts.load_state_dict(torch.load(state, weights_only=True)["parts"])


def _is_current(state: Path) -> bool:
    return state.is_file() and state.stat().st_mtime_ns >= state.with_name(PAINTER).stat().st_mtime_ns


def _step(run: Run, parts: nn.Module, adam: torch.optim.Optimizer, lesson: Lesson, number: int) -> float:
    dice = random.Random(f"{run.seed} {number}")
    loss = lesson(run.batch, dice, torch.Generator().manual_seed(dice.getrandbits(48)))
    loss.backward()
    nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
    adam.step()
    adam.zero_grad(set_to_none=True)
    return loss.item()


def _pace(step: int, steps: int) -> float:
    return min((step + 1) / WARM_UP, 1.0) * 0.5 * (1 + math.cos(math.pi * step / steps))
