"""From what an image encoder says to the tokens that a UNet attends to: the three projections that IP-Adapters have.

| kind | tensors | takes | gives |
|---|---|---|---|
| plain | `proj.weight`, `norm` | the pooled vector | some tokens (4) |
| plus | `latents`, `proj_in`, `layers.*`, `proj_out`, `norm_out` | all tokens | as many as there are latents (16) |
| full | `proj.0`, `proj.2`, `proj.3` | all tokens | one for each of them (257) |

Formulas: Ye et al. 2023 (IP-Adapter); the resampler of `plus` is Flamingo's (Alayrac et al. 2022).
"""

import torch
from torch import nn
from torch.nn import functional

from server.core.errors import LoadFailed
from server.engines.image.control.vision import Sight, VisionLayout
from server.engines.image.layouts.shapes import Shapes, count, need

HEAD_WIDTH = 64


class PlainTokens(nn.Module):
    """A linear layer on the pooled vector, cut into tokens."""

    def __init__(self, into: int, width: int, tokens: int) -> None:
        super().__init__()
        self.width = width
        self.proj = nn.Linear(into, tokens * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, sight: Sight) -> torch.Tensor:
        """Return the tokens [1, n, width]."""
        found: torch.Tensor = self.norm(self.proj(sight.pooled).unflatten(1, (-1, self.width)))
        return found

    def fits(self, encoder: VisionLayout) -> bool:
        """Tell whether an encoder is the one that this was trained with."""
        return encoder.projection == self.proj.in_features


class FullTokens(nn.Module):
    """Two linear layers on each token."""

    def __init__(self, into: int, inner: int, width: int) -> None:
        super().__init__()
        self.into = into
        self.proj = nn.Sequential(nn.Linear(into, inner), nn.GELU(), nn.Linear(inner, width), nn.LayerNorm(width))

    def forward(self, sight: Sight) -> torch.Tensor:
        """Return the tokens [1, n, width]."""
        found: torch.Tensor = self.proj(sight.tokens)
        return found

    def fits(self, encoder: VisionLayout) -> bool:
        """Tell whether an encoder is the one that this was trained with."""
        return encoder.width == self.into


class PlusTokens(nn.Module):
    """A resampler: latents that ask all tokens, layer after layer."""

    def __init__(self, into: int, inner: int, width: int, latents: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.into = into
        self.latents = nn.Parameter(torch.empty(1, latents, inner))
        self.proj_in = nn.Linear(into, inner)
        self.proj_out = nn.Linear(inner, width)
        self.norm_out = nn.LayerNorm(width)
        blocks = (nn.ModuleList([_Asking(inner, heads), _feed_forward(inner, hidden)]) for _ in range(layers))
        self.layers = nn.ModuleList(blocks)

    def forward(self, sight: Sight) -> torch.Tensor:
        """Return the tokens [1, n, width]."""
        tokens, latents = self.proj_in(sight.tokens), self.latents
        for block in self.layers:
            asking, forward = block.children()
            latents = asking(tokens, latents) + latents
            latents = forward(latents) + latents
        found: torch.Tensor = self.norm_out(self.proj_out(latents))
        return found

    def fits(self, encoder: VisionLayout) -> bool:
        """Tell whether an encoder is the one that this was trained with."""
        return encoder.width == self.into


PictureTokens = PlainTokens | PlusTokens | FullTokens


class _Asking(nn.Module):
    """Attention of latents over tokens and latents together."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * HEAD_WIDTH, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * HEAD_WIDTH, bias=False)
        self.to_out = nn.Linear(heads * HEAD_WIDTH, width, bias=False)

    def forward(self, tokens: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        tokens, latents = self.norm1(tokens), self.norm2(latents)
        key, value = self.to_kv(torch.cat([tokens, latents], dim=1)).chunk(2, dim=-1)
        query, key, value = (
            each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (self.to_q(latents), key, value)
        )
        found = functional.scaled_dot_product_attention(query, key, value)
        out: torch.Tensor = self.to_out(found.transpose(1, 2).flatten(2))
        return out


def _feed_forward(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, width, bias=False)
    )


def build(shapes: Shapes, width: int) -> PictureTokens:
    """Return the projection of a file for text of `width` values a token, empty, on the device that is set.

    Raises:
        LoadFailed: it has none of the three, or one that makes other tokens.
    """
    if "latents" in shapes:
        _, latents, inner = need(shapes, "latents", 3)
        made, into = need(shapes, "proj_out.weight", 2)[0], need(shapes, "proj_in.weight", 2)[1]
        heads = need(shapes, "layers.0.0.to_q.weight", 2)[0] // HEAD_WIDTH
        hidden = need(shapes, "layers.0.1.1.weight", 2)[0]
        _check(made, width)
        return PlusTokens(into, inner, width, latents, heads, hidden, count(shapes, "layers.{}."))
    if "proj.0.weight" in shapes:
        inner, into = need(shapes, "proj.0.weight", 2)
        _check(need(shapes, "proj.2.weight", 2)[0], width)
        return FullTokens(into, inner, width)
    if "proj.weight" not in shapes:
        raise LoadFailed("the IP-Adapter has a projection of an unknown kind")
    out, into = need(shapes, "proj.weight", 2)
    _check(need(shapes, "norm.weight", 1)[0], width)
    return PlainTokens(into, width, out // width)


def _check(made: int, width: int) -> None:
    if made != width:
        raise LoadFailed(f"the IP-Adapter makes tokens of {made} values, and its attentions take {width}")
