from typing import Any

import pytest
import torch
from torch import nn

from server.core.errors import InvalidValue
from server.engines.image.control.ip_adapter import Looking, attentions, is_ip_adapter

pytestmark = pytest.mark.torch

WIDTH, HEADS, WORDS = 8, 2, 6


class Attention(nn.Module):
    """As much of diffusers' attention as is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = HEADS
        self.to_q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.to_k = nn.Linear(WORDS, WIDTH, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(WIDTH, WIDTH)])
        self.rescale_output_factor = 2.0

    def forward(self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


def block() -> nn.Module:
    return nn.ModuleDict({"attn1": Attention(), "attn2": Attention()})


def unet() -> nn.Module:
    return nn.ModuleDict({"down_blocks": block(), "mid_block": block(), "up_blocks": block()})


def looking(count: int = 3, **fields: Any) -> Looking:
    pair = torch.randn(2, 4, WIDTH), torch.randn(2, 4, WIDTH)
    return Looking(**{"pairs": [pair] * count, "weight": 0.5} | fields)


def test_the_middle_comes_last() -> None:
    whole: Any = unet()
    assert attentions(whole) == [whole[name]["attn2"] for name in ("down_blocks", "up_blocks", "mid_block")]


def test_what_is_added_is_attention_over_the_pictures_tokens() -> None:
    whole: Any = unet()
    attention, eye = whole["up_blocks"]["attn2"], looking()
    hidden = torch.randn(2, 9, WIDTH)
    with eye.acting(whole, torch.tensor([1.0, 0.0]), (3, 3)):
        found, by_name = attention(hidden), attention(hidden_states=hidden)
        untouched = whole["up_blocks"]["attn1"](hidden)
    assert torch.equal(found, by_name)
    assert not untouched.any()
    for row in (0, 1):
        key, value = (each[row] for each in eye.pairs[0])
        by_head = []
        for head in range(HEADS):
            part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            query = attention.to_q(hidden[row])[:, part]
            scores = torch.softmax(query @ key[:, part].T / (WIDTH // HEADS) ** 0.5, dim=-1)
            by_head.append(scores @ value[:, part])
        expected = 0.5 * torch.cat(by_head, dim=1) @ attention.to_out[0].weight.T / 2.0
        assert torch.allclose(found[row], expected, atol=1e-6)
    assert not attention(hidden).any(), "nothing stays behind"


def test_without_marks_all_rows_see_the_picture() -> None:
    whole: Any = unet()
    hidden = torch.randn(1, 9, WIDTH).expand(2, -1, -1)
    with looking().acting(whole, None, (3, 3)):
        found = whole["mid_block"]["attn2"](hidden)
    assert torch.allclose(found[0], found[1])


def test_a_region_reaches_every_level() -> None:
    whole: Any = unet()
    region = torch.zeros(1, 1, 40, 40)
    region[..., :20] = 1.0
    for cells, tokens, across in (((4, 4), 16, 4), ((4, 4), 4, 2), ((5, 5), 9, 3)):
        with looking(region=region).acting(whole, None, cells):
            found = whole["mid_block"]["attn2"](torch.randn(1, tokens, WIDTH)).unflatten(1, (-1, across))
        assert found[:, :, 0].any()
        assert not found[:, :, -1].any()
    with looking(region=region).acting(whole, None, (4, 4)), pytest.raises(InvalidValue):
        whole["mid_block"]["attn2"](torch.randn(1, 7, WIDTH))


def test_the_hooks_are_gone_after_an_error() -> None:
    whole: Any = unet()
    with pytest.raises(ValueError, match="zip"), looking(count=1).acting(whole, None, (3, 3)):
        pass
    assert not whole["down_blocks"]["attn2"](torch.randn(1, 9, WIDTH)).any()


def test_names() -> None:
    assert is_ip_adapter({"image_proj.proj.weight": (1, 1)})
    assert is_ip_adapter({"ip_adapter.1.to_k_ip.weight": (1, 1)})
    assert not is_ip_adapter({"control_model.x": (1,)})
