"""Self-attention in bfloat16 on the CPU, in pieces that stay in its cache; everything else is torch's own.

torch's fused attention is no faster in bfloat16 than in float32, far below what its matrix products do. By hand, head
by head and a few hundred rows of queries at a time (`q @ kT`, softmax, `@ v`, all in bfloat16), the block of scores
never leaves the cache: 2 to 3.6 times as fast with AVX512-BF16, and no further from float32. In float32 it is slower
(1.2 to 1.5 times on AVX2), so parity mode runs torch's own, bit for bit; so do short sequences, cross attention and
accelerators. `bench/NOTES.md` has the figures.
"""

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn

from server.engines.image.placement import Placement

LEAST_KEYS = 256
"""Shortest sequence at which pieces were measured to be faster."""

WHOLE_KEYS = 256
"""Longest sequence whose scores of all heads are made in one product."""

ROWS = 512
"""Most rows of queries in a piece."""

WIDE_ROWS = 256
"""The same for heads as wide as a VAE's."""

WIDE_HEAD = 256
"""Channels of a head from which it counts as wide."""

BLOCK_BYTES = 4 * 1024 * 1024
"""Most bytes that a block of scores may have, so that it stays in the cache."""


def is_chunked(dtype: torch.dtype, device: torch.device, keys: int) -> bool:
    """Tell whether self-attention over so many keys runs in pieces."""
    return device.type == "cpu" and dtype == torch.bfloat16 and keys >= LEAST_KEYS


def rows_of(keys: int, head_width: int, itemsize: int) -> int:
    """Return how many rows of queries a piece has.

    >>> rows_of(4096, 40, 2), rows_of(4096, 40, 4), rows_of(4096, 512, 2), rows_of(16384, 40, 2)
    (512, 256, 256, 128)
    """
    most = WIDE_ROWS if head_width >= WIDE_HEAD else ROWS
    return max(1, min(most, BLOCK_BYTES // (keys * itemsize)))


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    """Return attention over all heads: softmax(q kT / sqrt(d)) v, in pieces.

    Shapes: [batch, n, heads * d] each, and so is the result. Vaswani et al. 2017, equation 1.
    """
    query, key, value = (_by_head(each, heads) for each in (query, key, value))
    query = query * query.shape[-1] ** -0.5
    batch, _, length, width = query.shape
    if key.shape[2] <= WHOLE_KEYS:
        scores = torch.softmax(query @ key.transpose(2, 3), dim=-1)
        return (scores @ value).transpose(1, 2).reshape(batch, length, heads * width)
    out = query.new_empty(batch, length, heads, width)
    rows = rows_of(key.shape[2], width, query.element_size())
    for row in range(batch):
        for head in range(heads):
            turned, weighed = key[row, head].T, value[row, head]
            for start in range(0, length, rows):
                piece = query[row, head, start : start + rows]
                out[row, start : start + rows, head] = torch.softmax(piece @ turned, dim=-1) @ weighed
    return out.reshape(batch, length, heads * width)


class ChunkedAttention:
    """An attention processor of diffusers: pieces where they are faster, `AttnProcessor2_0` everywhere else.

    The names of the parameters are those of diffusers, which passes them by name.
    """

    def __init__(self) -> None:
        self._plain = AttnProcessor2_0()

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the output of one attention layer, for tokens [B, n, C] or a map [B, C, h, w]."""
        is_plain = encoder_hidden_states is None and attention_mask is None and _is_simple(attn)
        keys = hidden_states.shape[1] if hidden_states.ndim == 3 else hidden_states[0, 0].numel()
        if not is_plain or not is_chunked(hidden_states.dtype, hidden_states.device, keys):
            found: torch.Tensor = self._plain(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return found
        tokens = hidden_states.flatten(2).transpose(1, 2) if hidden_states.ndim == 4 else hidden_states
        if attn.group_norm is not None:
            tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
        out = attended(attn.to_q(tokens), attn.to_k(tokens), attn.to_v(tokens), attn.heads)
        out = attn.to_out[1](attn.to_out[0](out))
        if hidden_states.ndim == 4:
            out = out.transpose(1, 2).reshape(hidden_states.shape)
        if attn.residual_connection:
            out = out + hidden_states
        return out / attn.rescale_output_factor


def settle(module: nn.Module, placement: Placement) -> None:
    """Have a freshly loaded UNet, ControlNet or VAE run as fast as it can where it is placed.

    In bfloat16 on the CPU self-attention runs in pieces, and convolutions take channels last (5 % of a step).
    Everywhere else all stays as the library has it.
    """
    if placement.device.type != "cpu" or next(module.parameters()).dtype != torch.bfloat16:
        return
    install = getattr(module, "set_attn_processor", None)
    if install is not None:
        install(ChunkedAttention())
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _by_head(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Turn [B, n, heads * d] into [B, heads, n, d], each head in one piece of memory."""
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2).contiguous()


def _is_simple(attn: Any) -> bool:
    """Tell whether a layer is one of Stable Diffusion's: no norms of queries and keys, no further inputs."""
    extras = ("spatial_norm", "norm_q", "norm_k", "add_k_proj")
    return all(getattr(attn, name, None) is None for name in extras)
