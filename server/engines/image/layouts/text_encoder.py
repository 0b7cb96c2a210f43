"""CLIP text encoders: transformers' names, as SD1 files hold them, and open_clip's, as SD2 and SDXL files do.

Names are mapped to those of a bare text model (`encoder.layers.0...`), without transformers 4's `text_model.`.
"""

from dataclasses import dataclass
from typing import Any

from server.engines.image.layouts.shapes import KeyMap, Shapes, count, need

HEAD_WIDTH = 64
"""Channels of an attention head in every published CLIP text encoder."""

MIN_HEADS = 4
"""Encoders narrower than four such heads exist only as toys, which have four heads nevertheless."""

OPEN_CLIP = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}

OPEN_CLIP_ENDS = {
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}


@dataclass(frozen=True)
class TextLayout:
    """Architecture of a text encoder; `fused` when query, key and value are one tensor (open_clip)."""

    width: int
    layers: int
    inner_width: int
    vocabulary: int
    positions: int
    fused: bool

    def config(self, heads: int | None) -> dict[str, Any]:
        """Return the arguments of transformers' CLIPTextConfig; `heads` None = by the rule for CLIP."""
        return {
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.inner_width,
            "num_attention_heads": heads or max(self.width // HEAD_WIDTH, MIN_HEADS),
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.positions,
            "hidden_act": "gelu" if self.fused else "quick_gelu",
            "projection_dim": self.width,
            "bos_token_id": self.vocabulary - 2,
            "eos_token_id": self.vocabulary - 1,
            "pad_token_id": self.vocabulary - 1,
        }


def read(shapes: Shapes) -> TextLayout:
    """Infer the architecture of either naming; LoadFailed when a part is missing."""
    if "positional_embedding" in shapes:
        vocabulary, width = need(shapes, "token_embedding.weight", 2)
        return TextLayout(
            width=width,
            layers=count(shapes, "transformer.resblocks.{}."),
            inner_width=need(shapes, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
            vocabulary=vocabulary,
            positions=need(shapes, "positional_embedding", 2)[0],
            fused=True,
        )
    vocabulary, width = need(shapes, "embeddings.token_embedding.weight", 2)
    return TextLayout(
        width=width,
        layers=count(shapes, "encoder.layers.{}."),
        inner_width=need(shapes, "encoder.layers.0.mlp.fc1.weight", 2)[0],
        vocabulary=vocabulary,
        positions=need(shapes, "embeddings.position_embedding.weight", 2)[0],
        fused=False,
    )


def key_map(shapes: Shapes, layout: TextLayout) -> KeyMap:
    """Map every name to transformers'; fused tensors and unknown names are left out."""
    if not layout.fused:
        return {name: name for name in shapes if not name.endswith("position_ids")}
    known = {name: OPEN_CLIP_ENDS[name] for name in shapes if name in OPEN_CLIP_ENDS}
    for name in shapes:
        parts = name.split(".")
        if parts[:2] == ["transformer", "resblocks"]:
            inner = ".".join(parts[3:-1])
            if inner in OPEN_CLIP:
                known[name] = f"encoder.layers.{parts[2]}.{OPEN_CLIP[inner]}.{parts[-1]}"
    return known


def fused(shapes: Shapes) -> dict[str, tuple[str, str, str]]:
    """Map open_clip's joined query, key and value tensors to the three names they are cut into, in that order."""
    found = {}
    for name in shapes:
        for kind in ("weight", "bias"):
            if name.endswith(f".attn.in_proj_{kind}"):
                layer = f"encoder.layers.{name.split('.')[2]}.self_attn"
                found[name] = (f"{layer}.q_proj.{kind}", f"{layer}.k_proj.{kind}", f"{layer}.v_proj.{kind}")
    return found
