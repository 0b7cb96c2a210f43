"""A ControlNet for the tiny checkpoint with random weights, in the original single-file layout, and a T2I-Adapter.

    write_tiny_controlnet(path)   a copy of half the checkpoint's UNet, a little changed, with loud outputs

Its outputs are no zeros, as those of a trained one are not, so whatever is done wrong with them shows in a picture.
"""

import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.support.tiny_checkpoint import CHANNELS, tiny_tensors

UNET = "model.diffusion_model."
PARTS = ("time_embed.", "label_emb.", "input_blocks.", "middle_block.")
HINT = ((0, 3, 16), (2, 16, 16), (4, 16, 32), (6, 32, 32), (8, 32, 96), (10, 96, 96), (12, 96, 256))
"""Number, channels in and out of the convolutions before the map, but for the last one."""


def tiny_control_tensors(
    *,
    prefix: str = "control_model.",
    seed: int = 0,
    loudness: float = 0.5,
    text: int | None = None,
    family: str = "sd1",
) -> dict[str, torch.Tensor]:
    """Return the tensors by name, fp16; `text` is another width of the text it attends to."""
    made: dict[str, torch.Tensor] = {}
    for name, tensor in tiny_tensors(half=False, family=family).items():
        short = name.removeprefix(UNET)
        if name.startswith(UNET) and short.startswith(PARTS):
            if text is not None and (".attn2.to_k." in short or ".attn2.to_v." in short):
                tensor = random_tensor(short, seed, tensor.shape[0], text) * 0.4
            made[short] = tensor + random_tensor(f"change {short}", seed, *tensor.shape) * 0.02
    widths = _widths(made)
    for number, into, out in (*HINT, (14, 256, widths[0])):
        made |= _convolution(f"input_hint_block.{number}", seed, into, out, 3)
    for number, width in enumerate(widths):
        made |= _convolution(f"zero_convs.{number}.0", seed, width, width, 1, loudness)
    made |= _convolution("middle_block_out.0", seed, widths[-1], widths[-1], 1, loudness)
    return {prefix + name: tensor.half() for name, tensor in made.items()}


def write_tiny_controlnet(path: Path, **how: object) -> Path:
    """Write the ControlNet and return its path."""
    save_file(tiny_control_tensors(**how), str(path))  # type: ignore[arg-type]
    return path


def tiny_adapter_tensors(*, seed: int = 0, channels: int = 3) -> dict[str, torch.Tensor]:
    """Return the tensors of a T2I-Adapter with two blocks for each of the tiny UNet's two levels."""
    made = _convolution("conv_in", seed, channels * 64, CHANNELS, 3)
    for block in range(4):
        made |= _convolution(f"body.{block}.block1", seed, CHANNELS, CHANNELS, 3)
        made |= _convolution(f"body.{block}.block2", seed, CHANNELS, CHANNELS, 1)
    return made


def random_tensor(name: str, seed: int, *shape: int) -> torch.Tensor:
    """Return numbers that depend on name and seed alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/control/{name}".encode()))
    return torch.randn(shape, generator=generator)


def _widths(tensors: dict[str, torch.Tensor]) -> list[int]:
    """Return the channels of what each block on the way down hands over."""
    widths: list[int] = []
    while True:
        block = f"input_blocks.{len(widths)}.0"
        names = (f"{block}.weight", f"{block}.op.weight", f"{block}.out_layers.3.weight")
        ends = [tensors[name] for name in names if name in tensors]
        if not ends:
            return widths
        widths.append(ends[0].shape[0])


def _convolution(
    name: str, seed: int, into: int, out: int, size: int, loudness: float = 1.0
) -> dict[str, torch.Tensor]:
    spread = loudness * (into * size * size) ** -0.5
    return {
        f"{name}.weight": random_tensor(f"{name}.weight", seed, out, into, size, size) * spread,
        f"{name}.bias": random_tensor(f"{name}.bias", seed, out) * 0.05,
    }
