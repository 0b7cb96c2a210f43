"""Teaches `starter-canny`, a ControlNet: the UNet's own way down, copied, is told where the edges of a scene lie.

Edges are those of the server's own preprocessor. Half of the captions say nothing of what is to be seen, for else the
edges would not be needed.
"""

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from safetensors.torch import save_file
from torch import nn

from server.engines.image.sigma_table import alphas_cumprod
from server.starter.companions import CANNY
from training.image.averages import latents
from training.image.captions import phrase
from training.image.companion import Lesson, Run, restore, train
from training.image.data import is_forbidden, token_ids
from training.image.drawing import pixels, render
from training.image.edges import colours_of, edges
from training.image.scenes import random_scene
from training.image.train_unet import Painter, kept, velocity_loss

RATE = 1e-3
BATCH = 16
STATE = "control.pt"
HINT_WIDTHS = (8, 16, 32, 32)
NAMED, VAGUE = 0.5, 0.3
"""Parts of the scenes whose captions say all, and only colours; the rest have none."""

METADATA = {
    "modelspec.architecture": "stable-diffusion-v1/controlnet",
    "modelspec.title": CANNY,
    "modelspec.description": "follows edges; for starter-image, demonstration of Hearth",
    "modelspec.license": "MIT",
}


class Steered(nn.Module):
    """A painter that follows `hints` [n, 3, 128, 128], 0 ... 1, which are set before it is called."""

    def __init__(self, painter: Painter, network: ControlNetModel) -> None:
        super().__init__()
        self.painter, self.network = painter, network
        self.hints = torch.empty(0)

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the velocity as the painter does."""
        with torch.no_grad():
            hidden = self.painter.text(tokens, 1, True).hidden
        down, middle = self.network(
            noisy, times, encoder_hidden_states=hidden, controlnet_cond=self.hints, return_dict=False
        )
        answer: torch.Tensor = self.painter.unet(
            noisy,
            times,
            encoder_hidden_states=hidden,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        return answer


class Scenes(NamedTuple):
    """Latents [n, 4, 16, 16], edges [n, 3, 128, 128] and token ids [n, 77]."""

    latents: torch.Tensor
    edges: torch.Tensor
    tokens: torch.Tensor


def fresh_control(painter: Painter) -> ControlNetModel:
    """Return a ControlNet that adds nothing yet."""
    return ControlNetModel.from_unet(painter.unet, conditioning_embedding_out_channels=HINT_WIDTHS)


def train_control(steps: int, folder: Path, *, batch: int = BATCH, until: int | None = None) -> None:
    """Train beside the painter that is kept in `folder`, and keep the state there; `until` stops earlier."""
    run = Run(steps, rate=RATE, batch=batch)
    torch.manual_seed(run.seed)
    painter = kept(folder).requires_grad_(False).to(memory_format=torch.channels_last)
    network = fresh_control(painter).requires_grad_(True).to(memory_format=torch.channels_last)
    train(run, network, lesson_of(Steered(painter, network)), folder / STATE, until)


def export_control(folder: Path, out: Path) -> Path:
    """Write the ControlNet of what `train_control` left in `folder`, by diffusers' names; return its path."""
    network = fresh_control(kept(folder))
    restore(network, folder / STATE)
    halves = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    save_file(halves, str(out), metadata=METADATA)
    return out


def lesson_of(steered: Steered) -> Lesson:
    """Return the lesson: the painter's own loss, with the edges shown."""
    table = alphas_cumprod(0.00085, 0.012).float()

    def lesson(count: int, dice: random.Random, generator: torch.Generator) -> torch.Tensor:
        seen = _scenes(count, dice)
        steered.hints = seen.edges
        return velocity_loss(steered, seen.latents, seen.tokens, table, generator)  # type: ignore[arg-type]

    return lesson


def _scenes(count: int, dice: random.Random) -> Scenes:
    pictures, hints, tokens = [], [], []
    while len(pictures) < count:
        scene = random_scene(dice)
        words = phrase(scene, dice).words
        if is_forbidden(words):
            continue
        image = render(scene, dice)
        pictures.append(latents(pixels(image)))
        hints.append(edges(image))
        kind = dice.random()
        tokens.append(token_ids(words if kind < NAMED else colours_of(scene) if kind < NAMED + VAGUE else ""))
    return Scenes(torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(hints)), torch.tensor(tokens))
