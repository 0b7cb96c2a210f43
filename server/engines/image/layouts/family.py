"""Which kind of model a single-file checkpoint holds, by the names in it (a1111-api.md 2.16)."""

from dataclasses import dataclass

from server.core.errors import LoadFailed
from server.engines.image.layouts.shapes import Shapes

UNET = "model.diffusion_model."
VAE = "first_stage_model."
IGNORED = ("model_ema.", "cond_stage_model.logit_scale")


@dataclass(frozen=True)
class Family:
    """Where a family keeps its parts and what shapes cannot tell.

    `text` is the prefix of its text encoder; `heads` of the UNet at every level, or `head_width` channels each.
    `latent_scale` multiplies what the VAE's encoder gives.
    """

    name: str
    text: str
    heads: int | None
    head_width: int | None
    latent_scale: float
    pixel_inputs: int = 4


SD1 = Family(name="sd1", text="cond_stage_model.transformer.", heads=8, head_width=None, latent_scale=0.18215)

UNSERVED = {
    "model.diffusion_model.x_embedder.proj.weight": "Stable Diffusion 3",
    "conditioner.embedders.1.model.ln_final.weight": "SDXL",
    "conditioner.embedders.0.model.ln_final.weight": "the SDXL refiner",
    "cond_stage_model.model.ln_final.weight": "Stable Diffusion 2",
    "double_blocks.0.img_attn.qkv.weight": "Flux",
    "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": "Flux",
    "cond_stage_model.roberta.embeddings.word_embeddings.weight": "AltDiffusion",
}

UNSERVED_INPUTS = {
    9: "an inpainting checkpoint",
    8: "an InstructPix2Pix checkpoint",
    5: "a depth checkpoint",
}


def detect(shapes: Shapes) -> Family:
    """Return the family of a file's tensors.

    Raises:
        LoadFailed: the file is no checkpoint, or one of a family that is not served.
    """
    for key, name in UNSERVED.items():
        if key in shapes:
            raise LoadFailed(f"the file holds {name}; only Stable Diffusion 1.x checkpoints are served so far")
    first = shapes.get(UNET + "input_blocks.0.0.weight")
    if first is None or len(first) != 4:
        raise LoadFailed("the file holds no UNet in the layout of single-file checkpoints")
    if first[1] in UNSERVED_INPUTS:
        kind = UNSERVED_INPUTS[first[1]]
        raise LoadFailed(f"the file holds {kind} ({first[1]} input channels), which is not served so far")
    if not any(name.startswith("cond_stage_model.") for name in shapes):
        raise LoadFailed("the file holds no text encoder; a bare UNet is not served")
    return SD1
