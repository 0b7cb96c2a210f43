"""Teaches `starter-pixel-art`, a LoRA for the UNet alone: scenes and captions are the same, but drawn in blocks.

Convolutions have a low-rank change too, for at the finest level this UNet has nothing else.
"""

import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from server.engines.image.sigma_table import alphas_cumprod
from server.starter.companions import PIXEL_ART
from training.image.averages import latents
from training.image.captions import phrase
from training.image.companion import Lesson, Run, restore, train
from training.image.data import LEFT_OUT, is_forbidden, token_ids
from training.image.drawing import pixels
from training.image.pixel_art import render_blocks
from training.image.scenes import random_scene
from training.image.train_unet import Painter, kept, velocity_loss

RANK = 8
RATE = 3e-3
BATCH = 16
STATE = "lora.pt"
ENDS = ("conv_in", "conv_out", "time_embedding", "time_emb_proj")
"""What a style has no need to change: how latents are read and written, and how late it is."""

METADATA = {
    "ss_base_model_version": "sd_v1",
    "ss_network_module": "networks.lora",
    "ss_network_dim": str(RANK),
    "ss_network_alpha": str(float(RANK)),
    "ss_network_args": f'{{"conv_dim": "{RANK}", "conv_alpha": "{RANK}"}}',
    "ss_output_name": PIXEL_ART,
    "ss_sd_model_name": "starter-image.safetensors",
    "ss_resolution": "(128, 128)",
    "ss_v2": "False",
    "modelspec.architecture": "stable-diffusion-v1/lora",
    "modelspec.title": PIXEL_ART,
    "modelspec.description": "draws in blocks; for starter-image, demonstration of Hearth",
    "modelspec.license": "MIT",
}


class Pair(nn.Module):
    """The low-rank change of one layer: what it adds to that layer's output. Begins as nothing."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.down: nn.Module
        self.up: nn.Module
        if isinstance(layer, nn.Conv2d):
            how = {"stride": layer.stride, "padding": layer.padding}
            self.down = nn.Conv2d(layer.in_channels, RANK, layer.kernel_size, bias=False, **how)  # type: ignore[arg-type]
            self.up = nn.Conv2d(RANK, layer.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(layer.in_features, RANK, bias=False)
            self.up = nn.Linear(RANK, layer.out_features, bias=False)
        nn.init.zeros_(self.up.get_parameter("weight"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the change of the layer's output."""
        answer: torch.Tensor = self.up(self.down(x))
        return answer


class Lora(nn.Module):
    """The changes of all layers of a UNet, which it acts on from now on."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.names: list[str] = []
        self.pairs = nn.ModuleList()
        for name, layer in unet.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and not any(part in ENDS for part in name.split(".")):
                self.names.append(name)
                self.pairs.append(_hung(layer))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors of a LoRA file as kohya's scripts name them, in half precision."""
        found: dict[str, torch.Tensor] = {}
        for name, pair in zip(self.names, self.pairs, strict=True):
            start = "lora_unet_" + name.replace(".", "_")
            found[f"{start}.lora_down.weight"] = pair.get_parameter("down.weight").detach().half().contiguous()
            found[f"{start}.lora_up.weight"] = pair.get_parameter("up.weight").detach().half().contiguous()
            found[f"{start}.alpha"] = torch.tensor(float(RANK), dtype=torch.float16)
        return found


def train_lora(steps: int, folder: Path, *, batch: int = BATCH, until: int | None = None) -> None:
    """Train beside the painter that is kept in `folder`, and keep the state there; `until` stops earlier."""
    run = Run(steps, rate=RATE, batch=batch)
    torch.manual_seed(run.seed)
    painter = kept(folder).requires_grad_(False).to(memory_format=torch.channels_last)
    train(run, Lora(painter.unet), lesson_of(painter), folder / STATE, until)


def export_lora(folder: Path, out: Path) -> Path:
    """Write the LoRA of what `train_lora` left in `folder`, and return its path."""
    lora = Lora(kept(folder).unet)
    restore(lora, folder / STATE)
    save_file(lora.tensors(), str(out), metadata=METADATA)
    return out


def lesson_of(painter: Painter) -> Lesson:
    """Return the lesson: the painter's own, on scenes in blocks."""
    table = alphas_cumprod(0.00085, 0.012).float()

    def lesson(count: int, dice: random.Random, generator: torch.Generator) -> torch.Tensor:
        pictures, tokens = _scenes(count, dice)
        return velocity_loss(painter, pictures, tokens, table, generator)

    return lesson


def _scenes(count: int, dice: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Return latents [n, 4, 16, 16] and token ids [n, 77] of scenes in blocks."""
    pictures, tokens = [], []
    while len(pictures) < count:
        scene = random_scene(dice)
        words = phrase(scene, dice).words
        if not is_forbidden(words):
            pictures.append(latents(pixels(render_blocks(scene))))
            tokens.append(token_ids("" if dice.random() < LEFT_OUT else words))
    return torch.from_numpy(np.stack(pictures)), torch.tensor(tokens)


def _hung(layer: nn.Conv2d | nn.Linear) -> Pair:
    pair = Pair(layer)
    layer.register_forward_hook(lambda _, given, answer: answer + pair(given[0]))
    return pair
