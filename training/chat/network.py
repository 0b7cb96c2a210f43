"""The network: a llama of four blocks, small enough for one core."""

import math
from collections.abc import Iterator

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How large the network is. Embeddings are tied: the table that reads tokens also writes them."""

    vocabulary: int = 2560
    width: int = 192
    blocks: int = 4
    heads: int = 6
    kv_heads: int = 3
    hidden: int = 512
    context: int = 1024
    rope_base: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        """Return the width of one head."""
        return self.width // self.heads


class Norm(nn.Module):
    """Root mean square norm, as llama has it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self._epsilon = shape.epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Return x [..., width] scaled to a mean square of one."""
        return functional.rms_norm(x, self.weight.shape, self.weight, self._epsilon)


class Block(nn.Module):
    """Attention over what came before, then a gated feed-forward layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._shape = shape
        inner = shape.kv_heads * shape.head
        self.attn_norm = Norm(shape)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, inner, bias=False)
        self.attn_v = nn.Linear(shape.width, inner, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = Norm(shape)
        self.ffn_gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """Return x [rows, length, width] after the block; `turn` [length, head / 2] are the complex rotations."""
        normed = self.attn_norm(x)
        shape = self._shape
        rows, length, _ = x.shape

        def heads(y: Tensor, count: int) -> Tensor:
            return y.view(rows, length, count, shape.head).transpose(1, 2)

        q = rotated(heads(self.attn_q(normed), shape.heads), turn)
        k = rotated(heads(self.attn_k(normed), shape.kv_heads), turn)
        v = heads(self.attn_v(normed), shape.kv_heads)
        group = shape.heads // shape.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(seen.transpose(1, 2).reshape(rows, length, shape.width))
        normed = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(normed)) * self.ffn_up(normed))


class Network(nn.Module):
    """The whole network. Names of its parts are those of a GGUF file."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.output_norm = Norm(shape)
        self.apply(self._begin)
        self.register_buffer("turn", rotations(shape), persistent=False)

    def _begin(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear):
            std = 0.5 / math.sqrt(module.in_features)
            nn.init.normal_(module.weight, std=std)

    def forward(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """Return logits [n, vocabulary] at the places where `wanted` [rows, length] is true; ids are [rows, length]."""
        x = self.token_embd(ids)
        turn = self.turn[: ids.shape[1]]
        for block in self.blk:
            x = block(x, turn)
        return functional.linear(self.output_norm(x[wanted]), self.token_embd.weight)


def rotations(shape: Shape) -> Tensor:
    """Return the rotations of rotary positions [context, head / 2], complex."""
    powers = torch.arange(0, shape.head, 2, dtype=torch.float64) / shape.head
    angles = torch.outer(torch.arange(shape.context, dtype=torch.float64), shape.rope_base**-powers)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """Return x [..., length, head] with neighbouring pairs rotated, as llama.cpp does for the architecture `llama`."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(-2)


def count(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def matrices_of(network: Network) -> Iterator[nn.Parameter]:
    """Yield the matrices of the blocks; embeddings and norms are for another optimiser."""
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2 and not name.startswith("token_embd"):
            yield parameter
