"""What a checkpoint's tensor names and shapes tell: family, parts, precision.

Families are told by structure (which blocks and encoders exist, how they are joined), never by fixed widths, so that a
model of another size is still what it is. Names are those of the original LDM layout, as A1111 and the SGM code write
them into single files.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from server.core.families import GUIDED, family_of_file, file_width
from server.core.models import ImageFacts
from server.registry.probe.base import BrokenModel, NotMine
from server.registry.probe.safetensors import Tensor

UNET = "model.diffusion_model."
VAE = ("first_stage_model.", "vae.")
TEXT_ENCODERS = ("cond_stage_model.", "conditioner.", "text_encoders.")

UNET_INPUTS = {9: "-inpaint", 8: "-pix2pix", 5: "-depth"}
"""What is added to a family's name for UNets that see more than latents, by their input channels."""

CROSS_ATTENTION_KEYS = ".attn2.to_k.weight"

Tensors = Mapping[str, Tensor]


def probe_checkpoint(tensors: Tensors) -> ImageFacts:
    """Return the facts of a checkpoint's header.

    Raises:
        NotMine: the tensors are not a checkpoint's.
        BrokenModel: they are one's in a layout that cannot be loaded from a single file.
    """
    unet: Tensors = {name.removeprefix(UNET): tensor for name, tensor in tensors.items() if name.startswith(UNET)}
    if not unet:
        unet = _bare(tensors)
    names = list(tensors)
    has_vae = (
        any(name.startswith(VAE) and ".decoder." in name for name in names) or "vae.decoder.conv_in.weight" in names
    )
    return ImageFacts(
        family=family(tensors, unet),
        in_channels=_in_channels(unet),
        context_width=_context_width(unet),
        dtype=precision_of(unet.values()),
        has_vae=has_vae,
        has_text_encoder=any(name.startswith(TEXT_ENCODERS) for name in names),
        bytes_unet=sum(tensor.size for tensor in unet.values()),
        bytes_vae=_bytes(tensors, VAE),
        bytes_text_encoder=_bytes(tensors, TEXT_ENCODERS),
        token_width=file_width({name: tensor.shape for name, tensor in unet.items()}),
        distilled=GUIDED in unet,
    )


def family(tensors: Tensors, unet: Tensors) -> str:
    """Return the family, empty when none is known; the encoders tell it, without them the UNet's structure does."""
    later = family_of_file(unet)
    if later:
        return later
    if "input_blocks.0.0.weight" not in unet:
        return ""
    if "conditioner.embedders.1.model.ln_final.weight" in tensors:
        return "sdxl"
    if "conditioner.embedders.0.model.ln_final.weight" in tensors:
        return "sdxl_refiner"
    if any(name.startswith("cond_stage_model.model.transformer.resblocks.") for name in tensors):
        return "sd2"
    if any(name.startswith("cond_stage_model.roberta.") for name in tensors):
        return "altdiffusion"
    if any(name.startswith("cond_stage_model.transformer.") for name in tensors):
        return "sd1"
    return _family_of_unet(unet)


def _family_of_unet(unet: Tensors) -> str:
    """Tell a UNet without encoder.

    SDXL has a vector input (`label_emb`) and no attention in its first level; its base has attention in the last level,
    the refiner has not. SD2 projects into its transformers linearly (2 dimensions), SD1 by a 1x1 convolution (4).
    """
    if any(name.startswith("label_emb.") for name in unet):
        if "input_blocks.1.1.proj_in.weight" in unet:
            return "sd2"  # unCLIP, the one SD2 with a vector input
        blocks = {int(name.split(".")[1]) for name in unet if name.startswith("input_blocks.")}
        return "sdxl" if f"input_blocks.{max(blocks)}.1.norm.weight" in unet else "sdxl_refiner"
    project = unet.get("input_blocks.1.1.proj_in.weight")
    if project is None:
        return ""
    return "sd2" if len(project.shape) == 2 else "sd1"


def _bare(tensors: Tensors) -> Tensors:
    """Accept a UNet without prefix, as newer families are published; name what else it may be."""
    if "input_blocks.0.0.weight" in tensors or family_of_file(tensors):
        return tensors
    if "down_blocks.0.resnets.0.conv1.weight" in tensors and "conv_in.weight" in tensors:
        raise BrokenModel(
            "a UNet alone, in the layout of the diffusers library; a whole single-file checkpoint is needed"
        )
    raise NotMine("not a checkpoint: it has no UNet")


def _in_channels(unet: Tensors) -> int:
    first = unet.get("input_blocks.0.0.weight")
    return first.shape[1] if first is not None and len(first.shape) == 4 else 4


def _context_width(unet: Tensors) -> int:
    for name, tensor in unet.items():
        if name.endswith(CROSS_ATTENTION_KEYS) and len(tensor.shape) == 2:
            return tensor.shape[1]
    return 0


def precision_of(tensors: Iterable[Tensor]) -> str:
    """Return the type that most bytes of these tensors have."""
    weights: Counter[str] = Counter()
    for tensor in tensors:
        weights[tensor.dtype] += tensor.size
    return weights.most_common(1)[0][0] if weights else ""


def _bytes(tensors: Tensors, prefixes: tuple[str, ...]) -> int:
    return sum(tensor.size for name, tensor in tensors.items() if name.startswith(prefixes))
