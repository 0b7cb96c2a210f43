from pathlib import Path
from typing import Any

import pytest
import torch

from server.engines.image.denoisers import Condition
from server.engines.image.layouts.family import SD1, SDXL
from server.engines.image.offload import Seats
from server.engines.image.unet_call import UNetCall
from tests.support.tiny_checkpoint import POOLED, TEXT, write_tiny_checkpoint
from tests.support.towers import CPU, load_tiny

pytestmark = pytest.mark.torch


class Network(torch.nn.Module):
    """Writes down what it is called with; runs out of memory until its attention is sliced, if told so."""

    def __init__(self, channels: int = 4, *, lacks_memory: bool = False) -> None:
        super().__init__()
        self.config = type("Config", (), {"in_channels": channels})
        self.calls: list[dict[str, Any]] = []
        self.lacks_memory = lacks_memory
        self.slices: list[str] = []

    def set_attention_slice(self, size: str) -> None:
        self.slices.append(size)

    def forward(self, x: torch.Tensor, t: torch.Tensor, **others: Any) -> tuple[torch.Tensor]:
        if self.lacks_memory and (not self.slices or self.lacks_memory == "always"):
            raise torch.OutOfMemoryError("no")
        self.calls.append({"x": x, "t": t, **others})
        return (x[:, :4],)


def called(network: Network, condition: Condition, dtype: torch.dtype = torch.float32, family: Any = SD1) -> Any:
    call = UNetCall(network, family, dtype, Seats(CPU, "none"))  # type: ignore[arg-type]
    out = call(torch.ones(2, 4, 2, 2), torch.tensor([5.0, 6.0]), condition)
    assert out.dtype == torch.float32
    return network.calls[-1]


TEXT_ONLY = Condition(torch.ones(2, 77, 3))


def test_plain_models_get_latents_and_text_alone() -> None:
    seen = called(Network(), TEXT_ONLY)
    assert seen["x"].shape == (2, 4, 2, 2)
    assert seen["added_cond_kwargs"] is None


def test_pictures_follow_the_latents_and_zeros_stand_for_none() -> None:
    picture = torch.full((2, 5, 2, 2), 7.0)
    seen = called(Network(9), Condition(TEXT_ONLY.text, image=picture))
    assert torch.equal(seen["x"][:, 4:], picture)
    assert not called(Network(9), TEXT_ONLY)["x"][:, 4:].any()


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.float32, 2049.0), (torch.bfloat16, 2049.0), (torch.float16, 2048.0)]
)
def test_sizes_pass_through_float16_only(dtype: torch.dtype, size: float) -> None:
    vector = torch.cat([torch.ones(2, 3), torch.full((2, 6), 2049.0)], 1)
    added = called(Network(), Condition(TEXT_ONLY.text, vector), dtype, SDXL)["added_cond_kwargs"]
    assert added["text_embeds"].shape == (2, 3)
    assert added["text_embeds"].dtype == dtype
    assert added["time_ids"].tolist() == [[size] * 6] * 2


def test_attention_is_sliced_once_memory_runs_out() -> None:
    network = Network(lacks_memory=True)
    called(network, TEXT_ONLY)
    assert network.slices == ["max"]


def test_memory_that_runs_out_again_is_an_error() -> None:
    network = Network(lacks_memory="always")  # type: ignore[arg-type]
    with pytest.raises(torch.OutOfMemoryError):
        called(network, TEXT_ONLY)


def test_sliced_attention_gives_the_same_numbers(tmp_path: Path) -> None:
    found = load_tiny(write_tiny_checkpoint(tmp_path / "x.safetensors", half=False, family="sdxl"))
    call = UNetCall(found.unet, SDXL, torch.float32, Seats(CPU, "none"))
    generator = torch.Generator().manual_seed(0)
    vector = torch.cat([torch.randn(1, POOLED, generator=generator), torch.full((1, 6), 64.0)], 1)
    inputs = (
        torch.randn(1, 4, 8, 8, generator=generator),
        torch.tensor([500.0]),
        Condition(torch.randn(1, 77, 2 * TEXT, generator=generator), vector),
    )
    whole = call(*inputs)
    found.unet.set_attention_slice("max")
    assert (call(*inputs) - whole).abs().max() < 1e-5
