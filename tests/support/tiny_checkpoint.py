"""Checkpoints of a few megabytes with random weights, in the original single-file layout, one for each family.

    write_tiny_checkpoint(path)                 SD1: two UNet levels of 32 channels, a two-layer text encoder of width
                                                16, a full VAE
    write_tiny_checkpoint(path, family="sdxl")  three levels, two text encoders, a vector input
    "sd2", "sd2-v", "sdxl", "sdxl-refiner", "inpaint", "pix2pix", "sd2-inpaint", "sdxl-inpaint", "sdxl-pix2pix"

They make noise, not pictures, but do everything real ones do, and the same bytes come out on every machine. The names
are written here by hand, from the original layouts, and not made by the code that reads them.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

CHANNELS = 32
TIME = 4 * CHANNELS
TEXT = 16
WORDS = 49408
POSITIONS = 77
POOLED = 24
"""Values of the pooled text; unlike the encoder's width, so that nobody mistakes one for the other."""


@dataclass(frozen=True)
class Kind:
    """What a family's tiny model is like.

    `depths` are transformers a block at each level of the UNet, `middle` those of the middle block, `sizes` the numbers
    behind the pooled text.
    """

    depths: tuple[int, ...] = (1, 0)
    middle: int = 1
    inputs: int = 4
    linear: bool = False
    sizes: int = 0
    towers: tuple[str, ...] = ("cond_stage_model.transformer.text_model.",)

    @property
    def context(self) -> int:
        """Return the width of the text that the UNet is given."""
        return TEXT * len(self.towers)

    @property
    def vector(self) -> int:
        """Return the width of the UNet's vector input, 0 without one."""
        return POOLED + 256 * self.sizes if self.sizes else 0


_SD2 = Kind(linear=True, towers=("cond_stage_model.model.",))
_SDXL = Kind(
    depths=(0, 1, 2),
    middle=2,
    linear=True,
    sizes=6,
    towers=("conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."),
)

KINDS = {
    "sd1": Kind(),
    "sd2": _SD2,
    "sd2-v": _SD2,
    "sdxl": _SDXL,
    "sdxl-refiner": Kind(depths=(0, 2, 0), middle=2, linear=True, sizes=5, towers=("conditioner.embedders.0.model.",)),
    "inpaint": Kind(inputs=9),
    "pix2pix": Kind(inputs=8),
    "sd2-inpaint": replace(_SD2, inputs=9),
    "sdxl-inpaint": replace(_SDXL, inputs=9),
    "sdxl-pix2pix": replace(_SDXL, inputs=8),
}


@dataclass
class _Writer:
    """Collects tensors under names, each with weights that depend on its name and the seed alone."""

    seed: int
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def weight(self, name: str, *shape: int, scale: float | None = None) -> None:
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{name}".encode()))
        fan_in = 1
        for size in shape[1:]:
            fan_in *= size
        spread = fan_in**-0.5 if scale is None else scale
        self.tensors[name] = torch.randn(shape, generator=generator) * spread

    def linear(self, name: str, into: int, out: int) -> None:
        self.weight(f"{name}.weight", out, into)
        self.weight(f"{name}.bias", out, scale=0.02)

    def conv(self, name: str, into: int, out: int, size: int = 3) -> None:
        self.weight(f"{name}.weight", out, into, size, size)
        self.weight(f"{name}.bias", out, scale=0.02)

    def norm(self, name: str, width: int) -> None:
        self.weight(f"{name}.weight", width, scale=0.1)
        self.tensors[f"{name}.weight"] += 1
        self.weight(f"{name}.bias", width, scale=0.1)


def write_tiny_checkpoint(
    path: Path, *, half: bool = True, seed: int = 0, vae_prefix: str = "first_stage_model.", family: str = "sd1"
) -> Path:
    """Write the checkpoint, fp16 or fp32, and return its path. Another seed gives other weights."""
    save_file(tiny_tensors(half=half, seed=seed, vae_prefix=vae_prefix, family=family), str(path))
    return path


def write_tiny_vae(path: Path, *, seed: int = 1) -> Path:
    """Write a VAE alone, without a prefix, as files in a VAE folder are."""
    writer = _Writer(seed)
    _vae(writer, "")
    save_file(writer.tensors, str(path))
    return path


def tiny_tensors(
    *, half: bool = True, seed: int = 0, vae_prefix: str = "first_stage_model.", family: str = "sd1"
) -> dict[str, torch.Tensor]:
    """Return the checkpoint's tensors by name."""
    kind = KINDS[family]
    writer = _Writer(seed)
    _unet(writer, "model.diffusion_model.", kind)
    if family == "sd2-v":
        # So a network that predicts velocity answers at the last time: far below the grey it is shown.
        writer.tensors["model.diffusion_model.out.2.bias"] -= 2.0
    _vae(writer, vae_prefix)
    for prefix in kind.towers:
        if prefix.endswith("model.") and not prefix.endswith("text_model."):
            _open_clip(writer, prefix, pooled=kind.sizes > 0)
        else:
            _text(writer, prefix)
            writer.tensors[f"{prefix}embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    dtype = torch.float16 if half else torch.float32
    floats = {name: t.to(dtype) if t.is_floating_point() else t for name, t in writer.tensors.items()}
    return {**floats, "alphas_cumprod": torch.ones(1000), "model_ema.decay": torch.ones(1)}


def _unet(w: _Writer, p: str, kind: Kind) -> None:
    w.linear(f"{p}time_embed.0", CHANNELS, TIME)
    w.linear(f"{p}time_embed.2", TIME, TIME)
    if kind.vector:
        w.linear(f"{p}label_emb.0.0", kind.vector, TIME)
        w.linear(f"{p}label_emb.0.2", TIME, TIME)
    w.conv(f"{p}input_blocks.0.0", kind.inputs, CHANNELS)
    block = 1
    for level, depth in enumerate(kind.depths):
        _resnet(w, f"{p}input_blocks.{block}.0", CHANNELS, CHANNELS)
        if depth:
            _attention(w, f"{p}input_blocks.{block}.1", kind, depth)
        block += 1
        if level < len(kind.depths) - 1:
            w.conv(f"{p}input_blocks.{block}.0.op", CHANNELS, CHANNELS)
            block += 1
    _resnet(w, f"{p}middle_block.0", CHANNELS, CHANNELS)
    _attention(w, f"{p}middle_block.1", kind, kind.middle)
    _resnet(w, f"{p}middle_block.2", CHANNELS, CHANNELS)
    for level, depth in enumerate(reversed(kind.depths)):
        for block in (2 * level, 2 * level + 1):
            _resnet(w, f"{p}output_blocks.{block}.0", 2 * CHANNELS, CHANNELS)
            if depth:
                _attention(w, f"{p}output_blocks.{block}.1", kind, depth)
        if level < len(kind.depths) - 1:
            w.conv(f"{p}output_blocks.{2 * level + 1}.{2 if depth else 1}.conv", CHANNELS, CHANNELS)
    w.norm(f"{p}out.0", CHANNELS)
    w.conv(f"{p}out.2", CHANNELS, 4)


def _resnet(w: _Writer, name: str, into: int, out: int) -> None:
    w.norm(f"{name}.in_layers.0", into)
    w.conv(f"{name}.in_layers.2", into, out)
    w.linear(f"{name}.emb_layers.1", TIME, out)
    w.norm(f"{name}.out_layers.0", out)
    w.conv(f"{name}.out_layers.3", out, out)
    if into != out:
        w.conv(f"{name}.skip_connection", into, out, 1)


def _attention(w: _Writer, name: str, kind: Kind, depth: int) -> None:
    def projection(part: str) -> None:
        if kind.linear:
            w.linear(f"{name}.{part}", CHANNELS, CHANNELS)
        else:
            w.conv(f"{name}.{part}", CHANNELS, CHANNELS, 1)

    w.norm(f"{name}.norm", CHANNELS)
    projection("proj_in")
    for number in range(depth):
        _transformer(w, f"{name}.transformer_blocks.{number}", kind.context)
    projection("proj_out")


def _transformer(w: _Writer, block: str, context_width: int) -> None:
    for number in (1, 2, 3):
        w.norm(f"{block}.norm{number}", CHANNELS)
    for attention, context in (("attn1", CHANNELS), ("attn2", context_width)):
        # Sharp and strong, or the words of a prompt would drown in their padding.
        w.weight(f"{block}.{attention}.to_q.weight", CHANNELS, CHANNELS, scale=0.3)
        w.weight(f"{block}.{attention}.to_k.weight", CHANNELS, context, scale=0.3)
        w.weight(f"{block}.{attention}.to_v.weight", CHANNELS, context, scale=0.4)
        w.linear(f"{block}.{attention}.to_out.0", CHANNELS, CHANNELS)
    w.linear(f"{block}.ff.net.0.proj", CHANNELS, 8 * CHANNELS)
    w.linear(f"{block}.ff.net.2", 4 * CHANNELS, CHANNELS)


def _vae(w: _Writer, p: str) -> None:
    w.conv(f"{p}quant_conv", 8, 8, 1)
    w.conv(f"{p}post_quant_conv", 4, 4, 1)
    w.conv(f"{p}encoder.conv_in", 3, CHANNELS)
    w.conv(f"{p}decoder.conv_in", 4, CHANNELS)
    for level in range(4):
        _vae_resnet(w, f"{p}encoder.down.{level}.block.0")
        for block in range(2):
            _vae_resnet(w, f"{p}decoder.up.{level}.block.{block}")
        if level < 3:
            w.conv(f"{p}encoder.down.{level}.downsample.conv", CHANNELS, CHANNELS)
        if level > 0:
            w.conv(f"{p}decoder.up.{level}.upsample.conv", CHANNELS, CHANNELS)
    for half, out in (("encoder", 8), ("decoder", 3)):
        for part in _middle(f"{p}{half}.mid"):
            _vae_resnet(w, part)
        w.norm(f"{p}{half}.mid.attn_1.norm", CHANNELS)
        for part in ("q", "k", "v", "proj_out"):
            w.conv(f"{p}{half}.mid.attn_1.{part}", CHANNELS, CHANNELS, 1)
        w.norm(f"{p}{half}.norm_out", CHANNELS)
        w.conv(f"{p}{half}.conv_out", CHANNELS, out)


def _middle(name: str) -> Iterator[str]:
    yield f"{name}.block_1"
    yield f"{name}.block_2"


def _vae_resnet(w: _Writer, name: str) -> None:
    for number in (1, 2):
        w.norm(f"{name}.norm{number}", CHANNELS)
        w.conv(f"{name}.conv{number}", CHANNELS, CHANNELS)


def _text(w: _Writer, p: str) -> None:
    w.weight(f"{p}embeddings.token_embedding.weight", WORDS, TEXT, scale=0.5)
    w.weight(f"{p}embeddings.position_embedding.weight", POSITIONS, TEXT, scale=0.1)
    for layer in range(2):
        name = f"{p}encoder.layers.{layer}"
        w.norm(f"{name}.layer_norm1", TEXT)
        w.norm(f"{name}.layer_norm2", TEXT)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            w.linear(f"{name}.self_attn.{part}", TEXT, TEXT)
        w.linear(f"{name}.mlp.fc1", TEXT, 4 * TEXT)
        w.linear(f"{name}.mlp.fc2", 4 * TEXT, TEXT)
    w.norm(f"{p}final_layer_norm", TEXT)


def _open_clip(w: _Writer, p: str, *, pooled: bool) -> None:
    """A text encoder as OpenCLIP names its parts; `pooled` adds what is read of it (SD2 has it too, and never asks)."""
    w.weight(f"{p}token_embedding.weight", WORDS, TEXT, scale=0.5)
    w.weight(f"{p}positional_embedding", POSITIONS, TEXT, scale=0.1)
    for layer in range(3):
        name = f"{p}transformer.resblocks.{layer}"
        w.norm(f"{name}.ln_1", TEXT)
        w.norm(f"{name}.ln_2", TEXT)
        w.weight(f"{name}.attn.in_proj_weight", 3 * TEXT, TEXT)
        w.weight(f"{name}.attn.in_proj_bias", 3 * TEXT, scale=0.02)
        w.linear(f"{name}.attn.out_proj", TEXT, TEXT)
        w.linear(f"{name}.mlp.c_fc", TEXT, 4 * TEXT)
        w.linear(f"{name}.mlp.c_proj", 4 * TEXT, TEXT)
    w.norm(f"{p}ln_final", TEXT)
    w.weight(f"{p}text_projection", TEXT, POOLED if pooled else TEXT)
    w.tensors[f"{p}logit_scale"] = torch.ones(())
