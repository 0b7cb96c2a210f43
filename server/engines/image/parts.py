"""A loaded model as jobs use it."""

from dataclasses import dataclass

from torch import nn

from server.engines.image.adapters import Adapters
from server.engines.image.control.controls import Control
from server.engines.image.denoise import Diffusion
from server.engines.image.hypernetworks import Hypernetworks
from server.engines.image.layouts.family import PictureInputs
from server.engines.image.placement import Placement
from server.engines.image.preview import Previews
from server.engines.image.prompts import Prompter
from server.engines.image.text_stack import TextStack
from server.engines.image.upscaling.lending import Lender
from server.engines.image.vae import Vae


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a checkpoint gives to a job, and what stays between jobs."""

    text: TextStack
    unet_module: nn.Module
    vae_module: nn.Module
    diffusion: Diffusion
    vae: Vae
    adapters: Adapters
    hypernetworks: Hypernetworks
    prompts: Prompter
    placement: Placement
    upscalers: Lender
    control: Control
    previews: Previews
    inputs: PictureInputs = "none"

    def modules(self) -> tuple[nn.Module, ...]:
        """Return all modules in the order in which a picture needs them."""
        return (*self.text.towers, self.unet_module, self.vae_module)
