"""The same weights in the models of diffusers and transformers themselves, by their own converters of single files.

Nothing of the engine is used here: architectures are written down by hand, names are mapped by diffusers.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

from tests.support.tiny_checkpoint import CHANNELS, KINDS, POOLED, TEXT, WORDS

Tensors = dict[str, torch.Tensor]

START, END, A, CAT = 49406, 49407, 320, 2368

HEADS = {"sd1": 8, "inpaint": 8, "pix2pix": 8}
"""Heads of the tiny UNets; the others have one, for theirs are 64 wide and they have 32 channels."""


def tokens(*words: int, padding: int) -> torch.Tensor:
    """Return one chunk of 77 token ids."""
    return torch.tensor([[START, *words, END, *[padding] * (75 - len(words))]])


def unet(tensors: Tensors, family: str) -> UNet2DConditionModel:
    """Return the UNet of a tiny checkpoint."""
    kind = KINDS[family]
    crosses = [depth > 0 for depth in kind.depths]
    depths = [max(depth, 1) for depth in kind.depths]
    if not kind.depths[-1]:
        depths[-1] = kind.middle
    config: dict[str, Any] = {
        "in_channels": kind.inputs,
        "block_out_channels": [CHANNELS] * len(crosses),
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D" if cross else "DownBlock2D" for cross in crosses],
        "up_block_types": ["CrossAttnUpBlock2D" if cross else "UpBlock2D" for cross in reversed(crosses)],
        "cross_attention_dim": kind.context,
        "attention_head_dim": HEADS.get(family, 1),
        "transformer_layers_per_block": depths,
        "use_linear_projection": kind.linear,
    }
    if kind.sizes:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": kind.vector,
        }
    model = UNet2DConditionModel(**config)
    model.load_state_dict(convert_ldm_unet_checkpoint(dict(tensors), {**config, "class_embed_type": None}))
    return model.eval().requires_grad_(False)


def vae(tensors: Tensors) -> AutoencoderKL:
    """Return the VAE of a tiny checkpoint."""
    config: dict[str, Any] = {
        "block_out_channels": [CHANNELS] * 4,
        "layers_per_block": 1,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    }
    model = AutoencoderKL(**config)
    model.load_state_dict(convert_ldm_vae_checkpoint(dict(tensors), config))
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Text:
    """A reference text encoder; `padding` is the token it is filled up with."""

    model: torch.nn.Module
    padding: int

    def states(self, *words: int) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor | None]:
        """Return all hidden states, the normed last one, and the projected pooled vector where there is one."""
        out = self.model(input_ids=tokens(*words, padding=self.padding), output_hidden_states=True)
        return list(out.hidden_states), out.last_hidden_state, getattr(out, "text_embeds", None)


def clip_l(tensors: Tensors, prefix: str = "cond_stage_model.transformer.") -> Text:
    """Return a text encoder in transformers' layout."""
    model = CLIPTextModel(_text_config(layers=2, act="quick_gelu"))
    found = convert_ldm_clip_checkpoint(dict(tensors), remove_prefix=prefix)
    return Text(_filled(model, found), padding=END)


def open_clip(tensors: Tensors, prefix: str, *, pooled: bool, layers: int = 3) -> Text:
    """Return a text encoder in OpenCLIP's layout, with its first layers only if `layers` is less than 3."""
    config = _text_config(layers=layers, act="gelu", projection=POOLED if pooled else TEXT)
    model = CLIPTextModelWithProjection(config) if pooled else CLIPTextModel(config)
    cut = tuple(f"{prefix}transformer.resblocks.{layer}." for layer in range(layers, 3))
    known = {name: tensor for name, tensor in tensors.items() if not cut or not name.startswith(cut)}
    if not pooled:
        known.pop(prefix + "text_projection")
    found = convert_open_clip_checkpoint(model, known, prefix=prefix)
    return Text(_filled(model, found), padding=0)


def _text_config(*, layers: int, act: str, projection: int = TEXT) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=WORDS,
        hidden_size=TEXT,
        intermediate_size=4 * TEXT,
        num_hidden_layers=layers,
        num_attention_heads=4,
        hidden_act=act,
        projection_dim=projection,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
    )


def _filled(model: torch.nn.Module, found: Tensors) -> torch.nn.Module:
    """Give a model its tensors by the ends of their names: transformers 4 and 5 nest the text model differently."""
    wanted = {name.replace("text_model.", ""): name for name in model.state_dict()}
    given = {name.replace("text_model.", ""): tensor for name, tensor in found.items()}
    given = {name: tensor for name, tensor in given.items() if not name.endswith("position_ids")}
    model.load_state_dict({wanted[name]: tensor for name, tensor in given.items()})
    return model.eval().requires_grad_(False)
