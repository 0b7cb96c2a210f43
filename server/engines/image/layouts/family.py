"""Which kind of model a checkpoint holds, by the names in it, and what its shapes cannot tell.

| family | text encoders | what the UNet gets from them |
|---|---|---|
| `sd1` | CLIP-L | last layer (clip skip: an earlier one), normed |
| `sd2` | OpenCLIP-H | last layer but one, normed |
| `sdxl` | CLIP-L and OpenCLIP-G | the last layer but one of both, side by side; G's pooled vector with sizes |
| `sdxl_refiner` | OpenCLIP-G | its last layer but one; its pooled vector with sizes and an aesthetic score |

A file without encoder is told by its UNet, as the registry's probe does.
"""

from dataclasses import dataclass
from typing import Literal

from server.core.errors import LoadFailed
from server.engines.image.layouts.shapes import Shapes, count

UNET = "model.diffusion_model."
VAE = "first_stage_model."

PictureInputs = Literal["none", "inpaint", "pix2pix"]
"""What the UNet sees besides latents: nothing, a mask with the masked picture (5 channels), a picture (4)."""

PICTURE_INPUTS: dict[int, PictureInputs] = {4: "none", 9: "inpaint", 8: "pix2pix"}

Sizes = Literal["none", "target", "aesthetic"]
"""Numbers behind the pooled vector: original size and crop, then the target size or the aesthetic score."""

SIZE_COUNT: dict[Sizes, int] = {"none": 0, "target": 6, "aesthetic": 5}

SIZE_WIDTH = 256
"""Values that the UNet makes of each of these numbers."""


@dataclass(frozen=True)
class TextRule:
    """How a family reads one of its text encoders.

    `prefix` is where it stands in a single file, `adapter` the number that LoRA files give it. The hidden state is the
    one `from_end` layers before the end (1 = last); clip skip moves it `always`, only when `asked` (an option of its
    own), or `never`. `normed` applies the last layer norm. `zero_padding`: tokens after the first end token are 0.
    """

    prefix: str
    adapter: int = 1
    from_end: int = 1
    clip_skip: Literal["always", "asked", "never"] = "never"
    normed: bool = True
    zero_padding: bool = False
    pooled: bool = False


@dataclass(frozen=True)
class Family:
    """Where a family keeps its parts and what shapes cannot tell.

    `heads` of the UNet at every level, or `head_width` channels each. `latent_scale` multiplies what the VAE's encoder
    gives. `pixels` is the side of the square pictures it was trained on.
    """

    name: str
    texts: tuple[TextRule, ...]
    heads: int | None
    head_width: int | None
    latent_scale: float
    sizes: Sizes = "none"
    pixels: int = 512

    @property
    def zero_negative(self) -> bool:
        """Tell whether an empty negative prompt is all zeros instead of an encoded empty text."""
        return self.sizes != "none"


_CLIP_G = TextRule(
    "conditioner.embedders.1.model.", adapter=2, from_end=2, normed=False, zero_padding=True, pooled=True
)

SD1 = Family(
    name="sd1",
    texts=(TextRule("cond_stage_model.transformer.", clip_skip="always"),),
    heads=8,
    head_width=None,
    latent_scale=0.18215,
)

SD2 = Family(
    name="sd2",
    texts=(TextRule("cond_stage_model.model.", from_end=2, zero_padding=True),),
    heads=None,
    head_width=64,
    latent_scale=0.18215,
)

SDXL = Family(
    name="sdxl",
    texts=(TextRule("conditioner.embedders.0.transformer.", from_end=2, clip_skip="asked", normed=False), _CLIP_G),
    heads=None,
    head_width=64,
    latent_scale=0.13025,
    sizes="target",
    pixels=1024,
)

SDXL_REFINER = Family(
    name="sdxl_refiner",
    texts=(
        TextRule("conditioner.embedders.0.model.", adapter=2, from_end=2, normed=False, zero_padding=True, pooled=True),
    ),
    heads=None,
    head_width=64,
    latent_scale=0.13025,
    sizes="aesthetic",
    pixels=1024,
)

FAMILIES = {family.name: family for family in (SD1, SD2, SDXL, SDXL_REFINER)}

UNSERVED = {
    "model.diffusion_model.x_embedder.proj.weight": "Stable Diffusion 3",
    "double_blocks.0.img_attn.qkv.weight": "Flux",
    "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": "Flux",
    "cond_stage_model.roberta.embeddings.word_embeddings.weight": "AltDiffusion",
    "edm_vpred.sigma_max": "CosXL, which has other noise levels",
    "edm_mean": "Playground 2.5, which has other noise levels",
}

UNSERVED_INPUTS = {5: "a depth checkpoint", 7: "an upscaling checkpoint"}

BY_ENCODER = {
    "conditioner.embedders.1.model.ln_final.weight": SDXL,
    "conditioner.embedders.0.model.ln_final.weight": SDXL_REFINER,
    "cond_stage_model.model.ln_final.weight": SD2,
}


def detect(shapes: Shapes) -> Family:
    """Return the family of a single file's tensors.

    Raises:
        LoadFailed: the file is no checkpoint, or one of a family that is not served.
    """
    for key, name in UNSERVED.items():
        if key in shapes:
            raise LoadFailed(f"the file holds {name}; Stable Diffusion 1 and 2 and SDXL are served")
    unet = unet_prefix(shapes)
    if f"{unet}label_emb.0.0.weight" in shapes and f"{unet}input_blocks.1.1.proj_in.weight" in shapes:
        raise LoadFailed("the file holds Stable unCLIP, which makes variations of pictures and is not served")
    for key, family in BY_ENCODER.items():
        if key in shapes:
            return family
    if any(name.startswith("cond_stage_model.transformer.") for name in shapes):
        return SD1
    return _of_unet(shapes, unet)


def unet_prefix(shapes: Shapes) -> str:
    """Return what stands before the UNet's names: nothing in a file that holds a UNet alone.

    Raises:
        LoadFailed: there is no UNet, or one with inputs that are not served.
    """
    for prefix in (UNET, ""):
        first = shapes.get(f"{prefix}input_blocks.0.0.weight")
        if first is not None and len(first) == 4:
            picture_inputs(first[1])
            return prefix
    raise LoadFailed("the file holds no UNet in the layout of single-file checkpoints")


def picture_inputs(channels: int) -> PictureInputs:
    """Return what a UNet with so many input channels sees.

    Raises:
        LoadFailed: no kind that is served has so many.
    """
    known = PICTURE_INPUTS.get(channels)
    if known is None:
        kind = UNSERVED_INPUTS.get(channels, "a checkpoint of an unknown kind")
        raise LoadFailed(f"the file holds {kind} ({channels} input channels), which is not served")
    return known


def _of_unet(shapes: Shapes, prefix: str) -> Family:
    """Tell a UNet by its structure.

    SDXL has a vector input, and of its two models only the base has attention in the last level; SD2 projects into its
    transformers linearly.
    """
    if f"{prefix}label_emb.0.0.weight" in shapes:
        last = count(shapes, prefix + "input_blocks.{}.") - 1
        return SDXL if f"{prefix}input_blocks.{last}.1.norm.weight" in shapes else SDXL_REFINER
    projection = shapes.get(f"{prefix}input_blocks.1.1.proj_in.weight", ())
    return SD2 if len(projection) == 2 else SD1
