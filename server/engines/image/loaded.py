"""A loaded checkpoint as a value: its modules, and what else a file tells about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers.models.clip.modeling_clip import CLIPTextModel

from server.core.errors import LoadFailed
from server.engines.image.denoisers import Prediction
from server.engines.image.layouts import family as families
from server.engines.image.layouts.family import SIZE_COUNT, SIZE_WIDTH, Family, PictureInputs
from server.engines.image.layouts.shapes import KeyMap
from server.engines.image.ready_memory import Cast, ReadyMemory
from server.engines.image.text_tower import TextTower

NO_SPARES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The parts of a loaded model, on the CPU, without gradients, in evaluation mode.

    `unet_names` maps the UNet's tensor names in single files to those of the module, which adapters may use either way.
    `prediction` None = nobody says; `prediction.asked` finds out. `converted` tells of tensors that are no views of a
    file, by address, which dtype they had there.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    texts: tuple[TextTower, ...]
    unet_names: KeyMap
    family: Family
    latent_scale: float
    alphas_cumprod: torch.Tensor
    prediction: Prediction | None
    converted: Mapping[int, torch.dtype] = field(default_factory=dict)

    @property
    def text_encoder(self) -> CLIPTextModel:
        """Return the first text model."""
        return self.texts[0].model

    @property
    def picture_inputs(self) -> PictureInputs:
        """Return what the UNet sees besides latents."""
        return families.picture_inputs(self.unet.config.in_channels)

    def modules(self) -> tuple[nn.Module, ...]:
        """Return all modules in the order in which a picture needs them."""
        return (*self.texts, self.unet, self.vae)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where parts come from besides the checkpoint itself.

    `vae` replaces the checkpoint's own. `spares` maps a family to a checkpoint that lends what another one lacks.
    `ready` is the memory that they are converted into.
    """

    vae: Path | None = None
    spares: Mapping[str, str] = field(default_factory=lambda: NO_SPARES)
    allow_pickle: bool = False
    ready: ReadyMemory = field(default_factory=ReadyMemory)

    def cast(self, dtype: torch.dtype) -> Cast:
        """Return what turns the tensors of files into this dtype."""
        return self.ready.cast(dtype)


def check_widths(unet: UNet2DConditionModel, texts: tuple[TextTower, ...], family: Family) -> None:
    """Raise LoadFailed when the UNet's inputs are not as wide as what the text encoders give."""
    width = sum(text.width for text in texts)
    if unet.config.cross_attention_dim != width:
        wanted = unet.config.cross_attention_dim
        raise LoadFailed(f"the UNet wants text of {wanted} values a token, the text encoders give {width}")
    if family.sizes == "none":
        return
    pooled = sum(text.projection.out_features for text in texts if text.projection is not None)
    wanted = unet.config.projection_class_embeddings_input_dim - SIZE_COUNT[family.sizes] * SIZE_WIDTH
    if pooled != wanted:
        raise LoadFailed(f"the UNet wants a pooled text of {wanted} values, the text encoder gives {pooled}")
