"""A single-file checkpoint to modules: family, architecture and names from the file itself, no hub, no configs.

Modules are built on the meta device and take the file's tensors over, converted one at a time; so loading peaks at the
size of the model in its run dtype. Everything must match: a missing or left-over tensor is an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from server.core.errors import LoadFailed
from server.engines.base import Report
from server.engines.image import skips
from server.engines.image.layouts import family as families
from server.engines.image.layouts import sidecar, text_encoder, unet, vae
from server.engines.image.layouts.shapes import KeyMap, under
from server.engines.image.sigma_table import alphas_cumprod
from server.engines.image.tensor_files import Tensors, open_tensors

HARMLESS = ("loss.", "model_ema.", "logit_scale", "text_projection")
"""Beginnings of names that training leaves in a part and that nobody needs for pictures."""

NAMED = 5
"""How many offending tensors an error names."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The dtypes to run in."""

    model: torch.dtype
    vae: torch.dtype


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The parts of a loaded model, on the CPU, without gradients, in evaluation mode.

    `unet_names` maps the UNet's tensor names in the file to those of the module, which adapters may use either way.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    unet_names: KeyMap
    family: families.Family
    latent_scale: float
    alphas_cumprod: torch.Tensor
    velocity: bool

    def modules(self) -> tuple[nn.Module, ...]:
        """Return the three modules in the order in which a picture needs them."""
        return (self.text_encoder, self.unet, self.vae)


def load(path: Path, *, precision: Precision, vae_path: Path | None, allow_pickle: bool, report: Report) -> Checkpoint:
    """Load a checkpoint, with another VAE if `vae_path` is given.

    Raises:
        LoadFailed: unreadable, damaged or of a family that is not served; the sentence says which.
    """
    extra = sidecar.read(path)
    with open_tensors(path, allow_pickle=allow_pickle) as tensors:
        family = families.detect(tensors.shapes)
        report(0.05)
        text_model = _text_encoder(tensors, family, extra, precision.model)
        report(0.2)
        unet_model, unet_names = _unet(tensors, family, extra, precision.model)
        report(0.85)
        vae_model = _vae(tensors, precision.vae) if vae_path is None else None
    if vae_path is not None:
        with open_tensors(vae_path, allow_pickle=allow_pickle) as tensors:
            vae_model = _vae(tensors, precision.vae)
    assert vae_model is not None
    return Checkpoint(
        unet=unet_model,
        vae=vae_model,
        text_encoder=text_model,
        unet_names=unet_names,
        family=family,
        latent_scale=extra.latent_scale or family.latent_scale,
        alphas_cumprod=alphas_cumprod(extra.first_beta or 0.00085, extra.last_beta or 0.012),
        velocity=extra.velocity,
    )


def _unet(
    tensors: Tensors, family: families.Family, extra: sidecar.Sidecar, dtype: torch.dtype
) -> tuple[UNet2DConditionModel, KeyMap]:
    shapes = under(families.UNET, tensors.shapes)
    layout = unet.read(shapes)
    heads, head_width = family.heads, family.head_width
    if extra.unet_head_width is not None:
        heads, head_width = None, extra.unet_head_width
    elif extra.unet_heads is not None:
        heads, head_width = extra.unet_heads, None
    with torch.device("meta"):
        model = UNet2DConditionModel(**layout.config(heads, head_width))
    names = unet.key_map(shapes, layout)
    _fill(model, "UNet", _renamed(tensors, families.UNET, names, dtype))
    skips.match_sizes(model)
    return model, names


def _vae(tensors: Tensors, dtype: torch.dtype) -> AutoencoderKL:
    """Build the VAE of a checkpoint, or of a file that holds only a VAE (without the prefix)."""
    prefix = families.VAE if any(name.startswith(families.VAE) for name in tensors.shapes) else ""
    shapes = under(prefix, tensors.shapes)
    layout = vae.read(shapes)
    with torch.device("meta"):
        model = AutoencoderKL(**layout.config())

    def named() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in _renamed(tensors, prefix, vae.key_map(shapes, layout), dtype):
            yield name, tensor[..., 0, 0] if vae.squeezed(name) and tensor.ndim == 4 else tensor

    _fill(model, "VAE", named())
    return model


def _text_encoder(
    tensors: Tensors, family: families.Family, extra: sidecar.Sidecar, dtype: torch.dtype
) -> CLIPTextModel:
    prefix = family.text
    if any(name.startswith(prefix + "text_model.") for name in tensors.shapes):
        prefix += "text_model."
    shapes = under(prefix, tensors.shapes)
    layout = text_encoder.read(shapes)
    with torch.device("meta"):
        model = CLIPTextModel(CLIPTextConfig(**layout.config(extra.text_heads)))
    inner = bare_text_model(model)
    _fill(inner, "text encoder", _renamed(tensors, prefix, text_encoder.key_map(shapes, layout), dtype))
    inner.get_submodule("embeddings").register_buffer(
        "position_ids", torch.arange(layout.positions).expand((1, -1)), persistent=False
    )
    return model


def bare_text_model(model: CLIPTextModel) -> nn.Module:
    """Return the module with `embeddings`, `encoder` and `final_layer_norm`: transformers 4 nests it, 5 does not."""
    inner: nn.Module = getattr(model, "text_model", model)
    return inner


def _renamed(tensors: Tensors, prefix: str, names: KeyMap, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each tensor of a part under its new name, in `dtype`; unknown ones keep their old name."""
    for name in under(prefix, tensors.shapes):
        if name.startswith(HARMLESS) or name.endswith("position_ids"):
            continue
        yield names.get(name, prefix + name), tensors.get(prefix + name).to(dtype)


def _fill(module: nn.Module, part: str, named: Iterator[tuple[str, torch.Tensor]]) -> None:
    try:
        left = module.load_state_dict(dict(named), strict=False, assign=True)
    except RuntimeError as error:
        raise LoadFailed(f"the {part} of the checkpoint has tensors of unexpected shapes") from error
    if left.missing_keys or left.unexpected_keys:
        parts = [_some("lacks", left.missing_keys), _some("has unknown tensors", left.unexpected_keys)]
        raise LoadFailed(f"the {part} of the checkpoint {' and '.join(part for part in parts if part)}")
    module.requires_grad_(False)
    module.eval()


def _some(verb: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{verb} {', '.join(sorted(names)[:NAMED])}{more}"
