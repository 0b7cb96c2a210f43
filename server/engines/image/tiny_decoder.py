"""TAESD, a decoder of latents that is small enough for previews (Ollin Boer Bohan, 2023), with diffusers' modules.

| file | names |
|---|---|
| `taesd_decoder.pth`, `taesdxl_decoder.pth` of its author | `1.weight`, `3.conv.0.weight`, ...: layer 0 is a clamp |
| `diffusion_pytorch_model.safetensors` for diffusers | `decoder.layers.0.weight`, ...: no layer for the clamp |
"""

import re
from pathlib import Path

import torch
from diffusers.models.autoencoders.vae import DecoderTiny

from server.core.errors import LoadFailed
from server.engines.image.layouts.shapes import Shapes
from server.engines.image.tensor_files import open_tensors

BLOCKS = (3, 3, 3, 1)
"""Blocks between its three doublings of the size."""

LATENT_CHANNELS = 4

_LIBRARY = "decoder.layers."
_AUTHOR = re.compile(r"(\d+)\.(.+)")


class TinyDecoder:
    """A loaded decoder, in float32 where latents are."""

    def __init__(self, model: DecoderTiny, device: torch.device) -> None:
        self._model = model.to(device)
        self._device = device

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the picture [3, h * 8, w * 8], about -1 ... 1, of one latent [4, h, w] as samplers have it."""
        with torch.no_grad():
            picture: torch.Tensor = self._model(latent[None].to(self._device, torch.float32))[0]
        return picture


def load_decoder(file: str, device: torch.device, *, allow_pickle: bool) -> TinyDecoder:
    """Read a decoder; the file alone tells how wide it is.

    Raises:
        LoadFailed: unreadable, or no such decoder.
    """
    path = Path(file)
    with open_tensors(path, allow_pickle=allow_pickle) as tensors:
        names = _names(tensors.shapes)
        width = tensors.shapes[names["layers.0.weight"]][0] if "layers.0.weight" in names else 0
        if not 0 < width <= 1024:
            raise LoadFailed(f"{path.name} is no decoder of the TAESD kind")
        model = DecoderTiny(
            in_channels=LATENT_CHANNELS,
            out_channels=3,
            num_blocks=BLOCKS,
            block_out_channels=(width,) * len(BLOCKS),
            upsampling_scaling_factor=2,
            act_fn="relu",
            upsample_fn="nearest",
        )
        found = {ours: tensors.get(theirs).to(torch.float32) for ours, theirs in names.items()}
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        raise LoadFailed(f"{path.name} is no decoder of the TAESD kind, or one of another make") from error
    model.requires_grad_(False)
    return TinyDecoder(model.eval(), device)


def _names(shapes: Shapes) -> dict[str, str]:
    """Return the file's names by those of the module."""
    library = {name.removeprefix("decoder."): name for name in shapes if name.startswith(_LIBRARY)}
    if library:
        return library
    parts = ((name, _AUTHOR.fullmatch(name)) for name in shapes)
    return {f"layers.{int(part.group(1)) - 1}.{part.group(2)}": name for name, part in parts if part is not None}
