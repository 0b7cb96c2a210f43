"""Families of models that make pictures by transformers: told by the names of their tensors or of their pipeline. Pure.

| family | a single file's tensor | pipeline of a folder |
|---|---|---|
| `sd3` | `joint_blocks.…` | StableDiffusion3Pipeline |
| `flux` | `double_blocks.…` | FluxPipeline |
| `chroma` | … and `distilled_guidance_layer.…` | ChromaPipeline |
| `flux2` | `single_stream_modulation.…` | Flux2Pipeline, Flux2KleinPipeline |
| `z-image` | `cap_embedder.…` with `x_pad_token` | ZImagePipeline |
| `lumina2` | `cap_embedder.…` | Lumina2Pipeline |
| `qwen-image` | `transformer_blocks.0.img_mod.…` | QwenImagePipeline |

Single files of these hold the transformer alone, or are used as if they did.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

PREFIX = "model.diffusion_model."
"""What stands before a transformer's names in files that hold, or could hold, other parts too."""

MARKS: Mapping[str, tuple[str, ...]] = {
    "sd3": ("joint_blocks.0.x_block.attn.qkv.weight",),
    "chroma": ("double_blocks.0.img_attn.qkv.weight", "distilled_guidance_layer.in_proj.bias"),
    "flux2": ("double_blocks.0.img_attn.qkv.weight", "single_stream_modulation.lin.weight"),
    "flux": ("double_blocks.0.img_attn.qkv.weight",),
    "z-image": ("cap_embedder.0.weight", "x_pad_token"),
    "lumina2": ("cap_embedder.0.weight", "noise_refiner.0.attention.qkv.weight"),
    "qwen-image": ("transformer_blocks.0.img_mod.1.weight", "txt_norm.weight"),
}
"""Tensors that a family has, all of them; the first family that fits is it."""

GUIDED = "guidance_in.in_layer.weight"
"""The tensor of a Flux that was trained to follow a guidance number."""

PIPELINES: Mapping[str, str] = {
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
    "FluxKontextPipeline": "flux-kontext",
    "Flux2Pipeline": "flux2",
    "Flux2KleinPipeline": "flux2",
    "ChromaPipeline": "chroma",
    "ZImagePipeline": "z-image",
    "Lumina2Pipeline": "lumina2",
    "QwenImagePipeline": "qwen-image",
    "HunyuanDiTPipeline": "hunyuan-dit",
    "AuraFlowPipeline": "auraflow",
}

WIDTHS = ("dim", "hidden_size", "inner_dim", "width")
"""What configurations call a transformer's channels, where they do not tell them by heads."""

EMBEDDERS = ("img_in.weight", "x_embedder.proj.weight", "x_embedder.weight", "all_x_embedder.2-1.weight")
"""Tensors that bring latents to a transformer's channels."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|\d+")


def family_of_file(names: Collection[str]) -> str:
    """Return the family of a single file's tensors, empty when it is none of these.

    >>> family_of_file({"double_blocks.0.img_attn.qkv.weight"})
    'flux'
    """
    for prefix in (PREFIX, ""):
        for family, marks in MARKS.items():
            if all(prefix + mark in names for mark in marks):
                return family
    return ""


def family_of_pipeline(name: str) -> str:
    """Return the family of a pipeline by its class's name.

    >>> family_of_pipeline("FluxPipeline"), family_of_pipeline("PixArtSigmaPipeline")
    ('flux', 'pix-art-sigma')
    """
    words = _WORD.findall(name.removesuffix("Pipeline"))
    return PIPELINES.get(name) or "-".join(word.lower() for word in words)


def token_width(config: Mapping[str, Any]) -> int:
    """Return the channels of a transformer, from whatever its configuration calls them; 0 when it says nothing.

    >>> token_width({"num_attention_heads": 24, "attention_head_dim": 128})
    3072
    """
    heads, width = config.get("num_attention_heads"), config.get("attention_head_dim")
    if isinstance(heads, int) and isinstance(width, int):
        return heads * width
    found = next((config[name] for name in WIDTHS if isinstance(config.get(name), int)), 0)
    return int(found)


def file_width(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the channels of a single file's transformer, 0 for a file of another kind; names are without prefix."""
    found = (shapes.get(name, ()) for name in EMBEDDERS)
    return next((shape[0] for shape in found if len(shape) > 1), 0) if family_of_file(shapes.keys()) else 0
