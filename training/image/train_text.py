"""Teaches the text encoder to read before the UNet looks at it: what a caption says about the scene, factor by factor.

A UNet that learns to paint and its text encoder that learns to read, both from the error of pixels, take long to find
each other (Stable Diffusion has a trained CLIP for that). So every place after a caption's end
learns to tell all factors of the scene, through linear layers that are thrown away afterwards: a UNet that attends to
all places alike, as a fresh one does, hears them at full strength.
"""

import logging
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from server.engines.image.clip.tokenizer import load_tokenizer
from server.engines.image.text_tower import TextTower, bare_text_model
from training.image.captions import FACTORS, Caption, phrase
from training.image.data import LEFT_OUT, is_forbidden, token_ids
from training.image.network import TEXT_WIDTH, fresh_text
from training.image.scenes import random_scene
from training.muon import Steps

logger = logging.getLogger(__name__)

TOLD_EVERY = 50
FILE = "text.pt"
MEAN = 0.5
"""Of the text encoder's states, at the beginning."""


@dataclass(frozen=True)
class Run:
    """How long to train and how; the rates fall in a line."""

    steps: int
    batch: int = 64
    matrix_rate: float = 0.02
    rate: float = 4e-3
    seed: int = 3


class Readers(nn.Module):
    """A linear layer for each factor, with a class more for what is not named."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(TEXT_WIDTH, len(values) + 1) for values in FACTORS.values())

    def forward(self, hidden: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss, and how often each factor is read right, of states [n, width] and classes [n, factors]."""
        losses, right = [], []
        for layer, classes in zip(self.layers, wanted.T, strict=True):
            said = layer(hidden)
            losses.append(functional.cross_entropy(said, classes))
            right.append((said.argmax(dim=1) == classes).float().mean())
        return torch.stack(losses).mean(), torch.stack(right)


def train(run: Run, folder: Path) -> tuple[TextTower, Readers]:
    """Train, save the text encoder in `folder`, and return it and what reads from it."""
    torch.manual_seed(run.seed)
    text, readers = fresh_text(), Readers()
    _keep_mean(text)
    matrices = [each for name, each in text.named_parameters() if each.ndim == 2 and "embedding" not in name]
    steps = Steps([*text.parameters(), *readers.parameters()], matrices)
    dice = random.Random(run.seed)
    for step in range(run.steps):
        pace = min(1.0, (step + 1) / 30) * (1 - step / run.steps)
        tokens, wanted = _batch(run.batch, dice)
        loss, right = readers(*after_end(text(tokens, 1, True).hidden, tokens, wanted))
        loss.backward()
        steps.step(run.matrix_rate * pace, run.rate * pace)
        if (step + 1) % TOLD_EVERY == 0:
            logger.info("step %d of %d, loss %.4f, read %.3f", step + 1, run.steps, loss.item(), right.mean().item())
    torch.save(text.state_dict(), folder / FILE)
    return text, readers


def classes(caption: Caption) -> list[int]:
    """Return the class of each factor; the one after all values is that of an unnamed one."""
    return [
        values.index(caption.factors[name]) if name in caption.factors else len(values)
        for name, values in FACTORS.items()
    ]


def after_end(hidden: torch.Tensor, tokens: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the states [n, width] of all places behind the first end of each caption, and their classes."""
    end = load_tokenizer().end
    ended = (tokens == end).cumsum(dim=1) > 0
    rows, places = ended.nonzero(as_tuple=True)
    return hidden[rows, places], wanted[rows]


@torch.no_grad()
def _keep_mean(text: TextTower) -> None:
    """Give the states a mean that is not zero: emphasis is followed by a division by it."""
    norm = bare_text_model(text.model).get_submodule("final_layer_norm")
    norm.get_parameter("bias").fill_(MEAN)


def _batch(count: int, dice: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, wanted = [], []
    while len(tokens) < count:
        caption = phrase(random_scene(dice), dice)
        if is_forbidden(caption.words):
            continue
        if dice.random() < LEFT_OUT:
            caption = Caption("", {})
        tokens.append(token_ids(caption.words))
        wanted.append(classes(caption))
    return torch.tensor(tokens), torch.tensor(wanted)
