"""IP-Adapter (Ye et al. 2023): a UNet's attentions to the text attend to a picture's tokens besides.

    Z = Attention(Q, K, V) + weight * Attention(Q, K', V'),  K' = tokens W'_k, V' = tokens W'_v

The second summand is added behind the attention's last layer, which is linear. Keys and values are the same in all
calls of a job, so they are made once; rows without the prompt get those of a picture that says nothing.

Files number the attentions to the text 1, 3, 5 ... in the order of the way down, the way up, the middle.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from server.core.errors import InvalidValue, LoadFailed
from server.engines.image.building import fill
from server.engines.image.control import picture_tokens
from server.engines.image.control.picture_tokens import PictureTokens
from server.engines.image.control.vision import Sight
from server.engines.image.layouts.shapes import Shapes, need, under
from server.engines.image.tensor_files import Tensors

TOKENS, ATTENTIONS = "image_proj.", "ip_adapter."
OTHER_KINDS = ("lora", "to_q", "to_out")
"""In names of adapters of faces, which change more of a UNet."""

Pair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one attention, [2, n, width]: those of the picture, those of none."""


class IpAdapter(nn.Module):
    """The tensors of a file: the projection to tokens, and for each attention its keys' and its values' layer."""

    def __init__(self, tokens: PictureTokens, width: int, inner: Sequence[int]) -> None:
        super().__init__()
        self.tokens = tokens
        self.keys = nn.ModuleList([nn.Linear(width, each, bias=False) for each in inner])
        self.values = nn.ModuleList([nn.Linear(width, each, bias=False) for each in inner])

    @property
    def module(self) -> nn.Module:
        """What is moved between devices."""
        return self

    def pairs(self, sights: Sequence[Sight], blank: Sight) -> list[Pair]:
        """Return keys and values for each attention; of several pictures the tokens' mean counts."""
        with torch.no_grad():
            shown = torch.stack([self.tokens(sight) for sight in sights]).mean(dim=0)
            tokens = torch.cat([shown, self.tokens(blank)])
            return [(key(tokens), value(tokens)) for key, value in zip(self.keys, self.values, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Looking:
    """A picture that a UNet's attentions look at: one pair for each of them."""

    pairs: Sequence[Pair]
    weight: float
    region: torch.Tensor | None = None

    @contextmanager
    def acting(self, unet: nn.Module, prompted: torch.Tensor | None, cells: tuple[int, int]) -> Iterator[None]:
        """While it lasts, have the attentions look at it. `prompted` marks rows; latents have `cells` rows, columns."""
        hooks: list[RemovableHandle] = []
        try:
            for attention, pair in zip(attentions(unet), self.pairs, strict=True):
                hook = _Hook(pair, self.weight, prompted, self.region, cells)
                hooks.append(attention.register_forward_hook(hook, with_kwargs=True))
            yield
        finally:
            for handle in hooks:
                handle.remove()


class _Hook:
    def __init__(
        self,
        pair: Pair,
        weight: float,
        prompted: torch.Tensor | None,
        region: torch.Tensor | None,
        cells: tuple[int, int],
    ) -> None:
        self._pair, self._weight, self._prompted, self._region, self._cells = pair, weight, prompted, region, cells

    def __call__(
        self, attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor
    ) -> torch.Tensor:
        """Return the attention's output with that over the picture's tokens added."""
        hidden = args[0] if args else kwargs["hidden_states"]
        blank = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
        if self._prompted is not None:
            blank = (self._prompted.to(hidden.device) < 0.5).long()
        key, value = (each.to(hidden)[blank] for each in self._pair)
        query, key, value = (_by_head(each, attention.heads) for each in (attention.to_q(hidden), key, value))
        found = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        if self._region is not None:
            found = found * _over_tokens(self._region, self._cells, found.shape[1]).to(found)
        added = functional.linear(found * self._weight, attention.to_out[0].weight)
        return out + added / attention.rescale_output_factor


def attentions(unet: nn.Module) -> list[Any]:
    """Return a UNet's attentions to the text, in the order in which files number them."""
    found = {name: module for name, module in unet.named_modules() if name.rpartition(".")[2] == "attn2"}
    middle = [name for name in found if name.startswith("mid_block.")]
    return [found[name] for name in (*(name for name in found if name not in middle), *middle)]


def is_ip_adapter(shapes: Shapes) -> bool:
    """Tell whether tensors are those of an IP-Adapter of any kind."""
    return any(name.startswith((TOKENS, ATTENTIONS)) for name in shapes)


def build(tensors: Tensors, name: str, unet: UNet2DConditionModel, dtype: torch.dtype) -> IpAdapter:
    """Return the adapter of a file, on the CPU in `dtype`.

    Raises:
        LoadFailed: it is damaged, or of a kind that is not served.
        InvalidValue: it is for another kind of checkpoint.
    """
    parts = under(ATTENTIONS, tensors.shapes)
    if any(word in part for part in parts for word in OTHER_KINDS):
        raise LoadFailed("the file holds an IP-Adapter for faces, which needs a face detector and is not served")
    numbers = sorted({int(part.split(".")[0]) for part in parts if part.split(".")[0].isdecimal()})
    if not numbers:
        raise LoadFailed("the IP-Adapter lacks its attentions")
    shapes = [need(parts, f"{number}.to_k_ip.weight", 2) for number in numbers]
    wanted = [attention.to_k.out_features for attention in attentions(unet)]
    if [inner for inner, _ in shapes] != wanted or shapes[0][1] != unet.config.cross_attention_dim:
        told = f"it has {len(shapes)} attentions of {shapes[0][1]} values a token"
        raise InvalidValue.of("control", f"the control model {name!r} is for another kind of checkpoint: {told}")
    width = shapes[0][1]
    names = {f"{ATTENTIONS}{number}.to_k_ip.weight": f"keys.{place}.weight" for place, number in enumerate(numbers)}
    names |= {f"{ATTENTIONS}{number}.to_v_ip.weight": f"values.{place}.weight" for place, number in enumerate(numbers)}
    projection = under(TOKENS, tensors.shapes)
    names |= {f"{TOKENS}{part}": f"tokens.{part}" for part in projection}
    with torch.device("meta"):
        module = IpAdapter(picture_tokens.build(projection, width), width, wanted)
    kept = {old: new for old, new in names.items() if old in tensors.shapes}
    fill(module, "IP-Adapter", ((new, tensors.get(old).to(dtype)) for old, new in kept.items()))
    return module


def _by_head(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def _over_tokens(region: torch.Tensor, cells: tuple[int, int], count: int) -> torch.Tensor:
    """Return a mask [1, 1, H, W] for as many tokens as a level of the UNet has, [1, count, 1]."""
    height, width = cells
    while height * width > count and (height > 1 or width > 1):
        height, width = -(-height // 2), -(-width // 2)
    if height * width != count:
        raise InvalidValue.of("region", "the region of an IP-Adapter does not fit this size of picture")
    return functional.interpolate(region.float(), size=(height, width), mode="area").flatten(2).transpose(1, 2)
