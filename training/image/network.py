"""The three networks before training, and one file of them in the layout of Stable Diffusion 1.

Sizes are chosen for the file (14 MB at most in half precision): the table of the 49,408 words of CLIP's tokenizer is
the largest part, so the text encoder is narrow. Widths are multiples of 32, the groups of every norm.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig

from server.engines.image.layouts.family import SD1
from server.engines.image.layouts.text_encoder import TextLayout
from server.engines.image.layouts.unet_levels import Level
from server.engines.image.text_tower import TextTower, bare_text_model
from training.image import names

WORDS = 49_408
POSITIONS = 77
TEXT_WIDTH = 32
TEXT_LAYERS = 2
VAE_WIDTHS = (96, 64, 64, 96)
LEVELS = (Level(64, 1, 0, shrinks=True), Level(96, 1, 1, shrinks=False))

METADATA = {
    "modelspec.prediction_type": "v",
    "modelspec.title": "starter-image",
    "modelspec.description": "a tiny demonstration model of Hearth",
}


@dataclass(frozen=True)
class Networks:
    """What a checkpoint is made of, in float32."""

    unet: UNet2DConditionModel
    text: TextTower
    vae: AutoencoderKL


def fresh_unet() -> UNet2DConditionModel:
    """Return a UNet with random weights."""
    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [level.width for level in LEVELS],
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": SD1.heads,
    }
    return UNet2DConditionModel(**config)


def fresh_text() -> TextTower:
    """Return a text encoder with random weights, all words apart from each other."""
    layout = TextLayout(TEXT_WIDTH, TEXT_LAYERS, 4 * TEXT_WIDTH, WORDS, POSITIONS, fused=False)
    tower = TextTower(CLIPTextConfig(**layout.config(None)), SD1.texts[0])
    table = bare_text_model(tower.model).get_submodule("embeddings.token_embedding")
    torch.nn.init.normal_(table.get_parameter("weight"), std=0.5)
    return tower


def fresh_vae() -> AutoencoderKL:
    """Return a VAE with random weights."""
    return AutoencoderKL(
        block_out_channels=list(VAE_WIDTHS),
        layers_per_block=1,
        latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * len(VAE_WIDTHS),
        up_block_types=["UpDecoderBlock2D"] * len(VAE_WIDTHS),
    )


def write(path: Path, networks: Networks) -> Path:
    """Write the checkpoint, half precision, and return its path."""
    tensors = {
        **names.unet_names(networks.unet.state_dict(), LEVELS),
        **names.vae_names(networks.vae.state_dict(), len(VAE_WIDTHS)),
        **names.text_names(bare_text_model(networks.text.model).state_dict()),
    }
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("position_ids")}
    halves = {name: tensor.to(torch.float16).contiguous() for name, tensor in tensors.items()}
    halves["v_pred"] = torch.ones(0)
    save_file(halves, str(path), metadata=METADATA)
    return path
