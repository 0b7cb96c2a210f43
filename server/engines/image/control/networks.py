"""A control model's file as a network, checked against the checkpoint that it is to steer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from server.core.errors import InvalidValue, LoadFailed
from server.engines.image.building import fill
from server.engines.image.control import ip_adapter, layouts, t2i
from server.engines.image.control.ip_adapter import IpAdapter
from server.engines.image.control.layouts import ControlLayout
from server.engines.image.layouts.shapes import Shapes
from server.engines.image.tensor_files import Tensors, open_tensors
from server.engines.image.unet_call import UNetInputs

SOFTER = 0.825
"""How much weaker each coarser output is in the modes `prompt` and `control`, counted back from number 12."""

LAST = 12

ADAPTER_SOFT = (0.25, 0.62, 0.825, 1.0)

POOLED = "shuffle"
"""Models with this in their name see no places: what they add is the same all over the picture."""

Kind = Literal["controlnet", "adapter"]


class Network(Protocol):
    """A control model in memory."""

    kind: Kind
    is_pooled: bool
    channels: int

    @property
    def module(self) -> nn.Module:
        """What is moved between devices."""
        ...

    def outputs(self, call: UNetInputs, hint: torch.Tensor) -> list[torch.Tensor]:
        """Return what is to be added, in the order of the UNet's levels; `hint` is [1, channels, H, W], 0 ... 1."""
        ...

    def softness(self, count: int) -> list[float]:
        """Return the factor of each output in the modes that weaken coarser layers."""
        ...


class ControlNet:
    """A ControlNet: outputs for each tensor that the UNet's way down hands over, and for its middle."""

    kind: Kind = "controlnet"

    def __init__(self, module: ControlNetModel, *, is_pooled: bool) -> None:
        self.module: nn.Module = module
        self.is_pooled = is_pooled
        self.channels: int = module.config.conditioning_channels
        self._latents: int = module.config.in_channels

    def outputs(self, call: UNetInputs, hint: torch.Tensor) -> list[torch.Tensor]:
        """Run the network."""
        down, middle = self.module(
            call.inputs[:, : self._latents],
            call.times,
            encoder_hidden_states=call.text,
            controlnet_cond=hint,
            added_cond_kwargs=call.added,
            return_dict=False,
        )
        return [*down, middle]

    def softness(self, count: int) -> list[float]:
        """Return 0.825 to the power of 12 - i for output i."""
        return [SOFTER ** (LAST - place) for place in range(count)]


class Adapter:
    """A T2I-Adapter: outputs for the end of each level on the UNet's way down."""

    kind: Kind = "adapter"
    is_pooled = False

    def __init__(self, module: t2i.AdapterNet) -> None:
        self.module: nn.Module = module
        self.channels = module.channels

    def outputs(self, call: UNetInputs, hint: torch.Tensor) -> list[torch.Tensor]:
        """Run the network, once for all rows."""
        rows = len(call.inputs)
        found: list[torch.Tensor] = self.module(hint)
        return [each.expand(rows, -1, -1, -1) for each in found]

    def softness(self, count: int) -> list[float]:
        """Return the published factors of the four levels."""
        return list(ADAPTER_SOFT[:count])


@contextmanager
def opened(path: Path, name: str, *, allow_pickle: bool) -> Iterator[Tensors]:
    """Open a control model's file.

    Raises:
        InvalidValue: it cannot be used, whatever goes wrong until it is closed; the sentence says why.
    """
    try:
        with open_tensors(path, allow_pickle=allow_pickle) as tensors:
            yield tensors
    except LoadFailed as error:
        raise InvalidValue.of("control", f"the control model {name!r} cannot be used: {error.message}") from error


def size_of(shapes: Shapes, dtype: torch.dtype) -> int:
    """Return the bytes of all tensors in a dtype."""
    return sum(torch.Size(shape).numel() for shape in shapes.values()) * dtype.itemsize


def build(tensors: Tensors, name: str, unet: UNet2DConditionModel, dtype: torch.dtype) -> Network | IpAdapter:
    """Return the network of a file, on the CPU in `dtype`.

    Raises:
        LoadFailed: it holds none, or one that is not served.
        InvalidValue: it is for another kind of checkpoint.
    """
    if ip_adapter.is_ip_adapter(tensors.shapes):
        return ip_adapter.build(tensors, name, unet, dtype)
    if t2i.is_adapter(tensors.shapes):
        return _adapter(tensors, name, unet, dtype)
    layout = layouts.read(tensors.shapes)
    _check_fit(layout, name, unet)
    with torch.device("meta"):
        module = ControlNetModel(**layout.config(_heads(unet, len(layout.levels))))
    _fill(module, tensors, layout.names, dtype)
    return ControlNet(module, is_pooled=POOLED in name.lower())


def _adapter(tensors: Tensors, name: str, unet: UNet2DConditionModel, dtype: torch.dtype) -> Network:
    renamed = t2i.names(tensors.shapes)
    module = t2i.build({new: tensors.shapes[old] for old, new in renamed.items()}, len(_widths(unet)))
    if module.widths != _widths(unet):
        raise _misfit(name, f"its levels have {module.widths} channels, the checkpoint's {_widths(unet)}")
    _fill(module, tensors, renamed, dtype)
    return Adapter(module)


def _fill(module: nn.Module, tensors: Tensors, names: dict[str, str], dtype: torch.dtype) -> None:
    wanted = {names[name]: name for name in tensors.shapes if name in names}
    fill(module, "network", ((new, tensors.get(old).to(dtype)) for new, old in wanted.items()))


def _check_fit(layout: ControlLayout, name: str, unet: UNet2DConditionModel) -> None:
    """Raise InvalidValue for a ControlNet whose outputs or inputs are not those of the checkpoint."""
    config = unet.config
    widths = tuple(level.width for level in layout.levels)
    if layout.context_width not in (0, config.cross_attention_dim):
        wide = layout.context_width
        raise _misfit(name, f"it takes text of {wide} values a token, the checkpoint {config.cross_attention_dim}")
    if widths != _widths(unet) or layout.levels[0].resnets != config.layers_per_block:
        raise _misfit(name, f"its levels have {widths} channels, the checkpoint's {_widths(unet)}")
    if layout.context_width and layout.linear_projection != bool(config.use_linear_projection):
        raise _misfit(name, "Stable Diffusion 1 and later ones have other transformers")
    vector = config.projection_class_embeddings_input_dim or 0
    if layout.vector_width != vector or layout.in_channels > config.in_channels:
        raise _misfit(name, "it takes other inputs than the checkpoint")


def _misfit(name: str, why: str) -> InvalidValue:
    return InvalidValue.of("control", f"the control model {name!r} is for another kind of checkpoint: {why}")


def _widths(unet: UNet2DConditionModel) -> tuple[int, ...]:
    return tuple(unet.config.block_out_channels)


def _heads(unet: UNet2DConditionModel, levels: int) -> tuple[int, ...]:
    """Return the number of attention heads at each level: a ControlNet is a copy of the UNet."""
    told = unet.config.num_attention_heads or unet.config.attention_head_dim
    return (told,) * levels if isinstance(told, int) else tuple(told)
