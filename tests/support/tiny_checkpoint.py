"""A Stable Diffusion 1 checkpoint of a few megabytes with random weights, in the original single-file layout.

    write_tiny_checkpoint(path)   two UNet levels of 32 channels, a two-layer text encoder of width 16, a full VAE

It makes noise, not pictures, but does everything a real one does, and the same bytes come out on every machine.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file

CHANNELS = 32
TIME = 4 * CHANNELS
TEXT = 16
WORDS = 49408
POSITIONS = 77


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
    path: Path, *, half: bool = True, seed: int = 0, vae_prefix: str = "first_stage_model."
) -> Path:
    """Write the checkpoint, fp16 or fp32, and return its path. Another seed gives other weights."""
    save_file(tiny_tensors(half=half, seed=seed, vae_prefix=vae_prefix), str(path))
    return path


def write_tiny_vae(path: Path, *, seed: int = 1) -> Path:
    """Write a VAE alone, without a prefix, as files in a VAE folder are."""
    writer = _Writer(seed)
    _vae(writer, "")
    save_file(writer.tensors, str(path))
    return path


def tiny_tensors(
    *, half: bool = True, seed: int = 0, vae_prefix: str = "first_stage_model."
) -> dict[str, torch.Tensor]:
    """Return the checkpoint's tensors by name."""
    writer = _Writer(seed)
    _unet(writer, "model.diffusion_model.")
    _vae(writer, vae_prefix)
    _text(writer, "cond_stage_model.transformer.text_model.")
    dtype = torch.float16 if half else torch.float32
    tensors = {name: tensor.to(dtype) for name, tensor in writer.tensors.items()}
    tensors["alphas_cumprod"] = torch.ones(1000)
    tensors["model_ema.decay"] = torch.ones(1)
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    return tensors


def _unet(w: _Writer, p: str) -> None:
    w.linear(f"{p}time_embed.0", CHANNELS, TIME)
    w.linear(f"{p}time_embed.2", TIME, TIME)
    w.conv(f"{p}input_blocks.0.0", 4, CHANNELS)
    _resnet(w, f"{p}input_blocks.1.0", CHANNELS, CHANNELS)
    _attention(w, f"{p}input_blocks.1.1")
    w.conv(f"{p}input_blocks.2.0.op", CHANNELS, CHANNELS)
    _resnet(w, f"{p}input_blocks.3.0", CHANNELS, CHANNELS)
    _resnet(w, f"{p}middle_block.0", CHANNELS, CHANNELS)
    _attention(w, f"{p}middle_block.1")
    _resnet(w, f"{p}middle_block.2", CHANNELS, CHANNELS)
    for block in range(4):
        _resnet(w, f"{p}output_blocks.{block}.0", 2 * CHANNELS, CHANNELS)
    w.conv(f"{p}output_blocks.1.1.conv", CHANNELS, CHANNELS)
    _attention(w, f"{p}output_blocks.2.1")
    _attention(w, f"{p}output_blocks.3.1")
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


def _attention(w: _Writer, name: str) -> None:
    w.norm(f"{name}.norm", CHANNELS)
    w.conv(f"{name}.proj_in", CHANNELS, CHANNELS, 1)
    block = f"{name}.transformer_blocks.0"
    for number in (1, 2, 3):
        w.norm(f"{block}.norm{number}", CHANNELS)
    for attention, context in (("attn1", CHANNELS), ("attn2", TEXT)):
        # Sharp and strong, or the words of a prompt would drown in their padding.
        w.weight(f"{block}.{attention}.to_q.weight", CHANNELS, CHANNELS, scale=0.3)
        w.weight(f"{block}.{attention}.to_k.weight", CHANNELS, context, scale=0.3)
        w.weight(f"{block}.{attention}.to_v.weight", CHANNELS, context, scale=0.4)
        w.linear(f"{block}.{attention}.to_out.0", CHANNELS, CHANNELS)
    w.linear(f"{block}.ff.net.0.proj", CHANNELS, 8 * CHANNELS)
    w.linear(f"{block}.ff.net.2", 4 * CHANNELS, CHANNELS)
    w.conv(f"{name}.proj_out", CHANNELS, CHANNELS, 1)


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
