"""What files that belong to a checkpoint hold: VAE, LoRA, embedding, ControlNet. Told by tensor names.

A folder decides what a file is for; this says when its content is certainly something else.
"""

import re
from collections.abc import Mapping

from server.core.models import ModelKind
from server.registry.probe.safetensors import SafetensorsHeader, Tensor

Tensors = Mapping[str, Tensor]

_LORA = re.compile(
    r"(\.|_)(lora_(up|down|mid|A|B)(\.default)?(\.weight)?|hada_w[12]_[ab]|lokr_w[12](_[ab])?|oft_blocks|oft_diag"
    r"|dora_scale|w_norm)$|^lora_(unet|te\d?)_|^lycoris_"
)
_CONTROL = ("control_model.", "controlnet_", "input_hint_block.", "lllite_", "ip_adapter.", "image_proj.")

HOMES: dict[ModelKind, str] = {
    ModelKind.CHECKPOINT: "Stable-diffusion",
    ModelKind.VAE: "VAE",
    ModelKind.LORA: "Lora",
    ModelKind.EMBEDDING: "embeddings",
    ModelKind.CONTROLNET: "ControlNet",
    ModelKind.IMAGE_ENCODER: "clip_vision",
}

_LORA_BASES = {"sd_v1": "sd1", "sd_v2": "sd2", "sdxl_base": "sdxl", "sd3": "sd3", "flux1": "flux"}
_LORA_WIDTHS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}


def recognise(tensors: Tensors) -> ModelKind | None:
    """Return what tensors certainly are, None when they could be several things."""
    if any(_LORA.search(name) for name in tensors):
        return ModelKind.LORA
    if any(name.startswith(_CONTROL) for name in tensors):
        return ModelKind.CONTROLNET
    if "vision_model.embeddings.patch_embedding.weight" in tensors:
        return ModelKind.IMAGE_ENCODER
    if any(name.startswith("model.diffusion_model.") for name in tensors):
        return ModelKind.CHECKPOINT
    if _is_embedding(tensors):
        return ModelKind.EMBEDDING
    if any(name.startswith(("decoder.conv_in.", "first_stage_model.decoder.")) for name in tensors):
        return ModelKind.VAE
    return None


def lora_family(header: SafetensorsHeader) -> str:
    """Return which family a LoRA was made for: what it says, else what its shapes say, else empty."""
    said = header.metadata.get("ss_base_model_version", "").lower()
    for start, family in _LORA_BASES.items():
        if said.startswith(start):
            return family
    if any(
        name.startswith(("lora_te2_", "lora_unet_input_blocks_4_1_transformer_blocks_1")) for name in header.tensors
    ):
        return "sdxl"
    for name, tensor in header.tensors.items():
        if "attn2_to_k" in name and name.endswith("lora_down.weight") and len(tensor.shape) >= 2:
            return _LORA_WIDTHS.get(tensor.shape[1], "")
    return ""


def embedding_shape(tensors: Tensors) -> tuple[int, int] | None:
    """Return how many vectors an embedding has and their length (SDXL: both encoders together), None if it is none."""
    if "clip_l" in tensors and "clip_g" in tensors:
        small, large = _rows(tensors["clip_l"]), _rows(tensors["clip_g"])
        return (small[0], small[1] + large[1]) if small and large else None
    single = tensors.get("emb_params") or (next(iter(tensors.values())) if len(tensors) == 1 else None)
    return _rows(single) if single is not None else None


def _rows(tensor: Tensor) -> tuple[int, int] | None:
    if len(tensor.shape) == 1:
        return 1, tensor.shape[0]
    return (tensor.shape[0], tensor.shape[1]) if len(tensor.shape) == 2 else None


def _is_embedding(tensors: Tensors) -> bool:
    return len(tensors) <= 2 and ("emb_params" in tensors or ("clip_l" in tensors and "clip_g" in tensors))
