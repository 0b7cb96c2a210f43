import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import nn
from torch.nn import functional

from server.engines.image import attention
from server.engines.image.attention import ChunkedAttention, attended, is_chunked, rows_of, settle
from server.engines.image.placement import Placement, Precision

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def place(dtype: torch.dtype, device: str = "cpu") -> Placement:
    return Placement(device=torch.device(device), precision=Precision(model=dtype, vae=dtype))


class Calls:
    """Counts how often pieces were used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(attention, "attended", self)

    def __call__(self, *args: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return attended(*args)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batch", "queries", "keys", "heads", "width"),
    [(2, 256, 256, 4, 8), (2, 700, 700, 2, 8), (1, 1, 300, 1, 8), (1, 600, 257, 1, 512), (3, 64, 64, 2, 5)],
)
def test_pieces_are_torchs_attention(batch: int, queries: int, keys: int, heads: int, width: int) -> None:
    query, key, value = (drawn(batch, length, heads * width) for length in (queries, keys, keys))
    value = value + 1
    split = [each.unflatten(2, (heads, width)).transpose(1, 2) for each in (query, key, value)]
    whole = functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
    assert torch.allclose(attended(query, key, value, heads), whole, atol=2e-6)


def test_pieces_in_bfloat16_are_as_near_to_float32_as_torchs_own() -> None:
    exact = [drawn(1, 512, 64) for _ in range(2)]
    query, value = exact
    truth = attended(query, query, value, 2)
    half = [each.bfloat16() for each in (query, query, value)]
    split = [each.unflatten(2, (2, 32)).transpose(1, 2) for each in half]
    torchs = functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
    ours = attended(*half, 2)
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - truth).pow(2).mean() < 4 * (torchs.float() - truth).pow(2).mean()


@pytest.mark.parametrize("keys", [256, 1024, 4096, 16384, 10**6])
@pytest.mark.parametrize("width", [40, 160, 512])
def test_a_block_of_scores_stays_in_the_cache(keys: int, width: int) -> None:
    rows = rows_of(keys, width, 2)
    assert 1 <= rows <= 512
    assert rows * keys * 2 <= attention.BLOCK_BYTES


def test_pieces_are_for_long_sequences_in_bfloat16_on_the_cpu() -> None:
    assert is_chunked(torch.bfloat16, CPU, 256)
    assert not is_chunked(torch.bfloat16, CPU, 255)
    assert not is_chunked(torch.float32, CPU, 4096)
    assert not is_chunked(torch.float16, CPU, 4096)
    assert not is_chunked(torch.bfloat16, torch.device("cuda"), 4096)


def layer(**more: object) -> Attention:
    torch.manual_seed(0)
    made = Attention(query_dim=16, heads=2, dim_head=8, **more)
    return made.to(torch.bfloat16).eval()


VAE_LIKE = {"norm_num_groups": 4, "residual_connection": True, "rescale_output_factor": 2.0, "bias": True, "eps": 1e-6}


@pytest.mark.parametrize(
    ("more", "shape"),
    [({}, (2, 300, 16)), (VAE_LIKE, (2, 16, 16, 18)), ({}, (1, 16, 20, 16))],
    ids=["UNet", "VAE", "map"],
)
def test_a_layer_gives_what_it_gave(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, object], shape: tuple[int, ...]
) -> None:
    calls = Calls(monkeypatch)
    one, x = layer(**more), drawn(*shape, dtype=torch.bfloat16)
    with torch.no_grad():
        theirs = AttnProcessor2_0()(one, x)
        ours = ChunkedAttention()(one, x)
        turned = ChunkedAttention()(one, x.contiguous(memory_format=torch.channels_last)) if x.ndim == 4 else ours
    assert calls.count == (2 if x.ndim == 4 else 1)
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, atol=0.03)
    assert torch.allclose(turned, theirs, atol=0.03)


def test_everything_else_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    x = drawn(1, 300, 16, dtype=torch.bfloat16)
    context = drawn(1, 300, 16, dtype=torch.bfloat16)
    mask = torch.zeros(1, 300, dtype=torch.bfloat16)
    with torch.no_grad():
        for one, args in (
            (layer(), (x, context)),
            (layer(), (x[:, :255], None)),
            (layer(), (x, None, mask)),
            (layer(qk_norm="layer_norm"), (x, None)),
            (layer().float(), (x.float(), None)),
        ):
            assert torch.equal(ChunkedAttention()(one, *args), AttnProcessor2_0()(one, *args))
    assert calls.count == 0


class Model(nn.Module):
    """A convolution, and a place for a processor."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, dtype=dtype)
        self.processor: object = None

    def set_attn_processor(self, processor: object) -> None:
        self.processor = processor

    @property
    def is_channels_last(self) -> bool:
        return self.convolution.weight.is_contiguous(memory_format=torch.channels_last)


def test_settling_is_for_bfloat16_on_the_cpu() -> None:
    model = Model(torch.bfloat16)
    settle(model, place(torch.bfloat16))
    assert isinstance(model.processor, ChunkedAttention)
    assert model.is_channels_last
    for dtype, device in ((torch.float32, "cpu"), (torch.bfloat16, "cuda")):
        model = Model(dtype)
        settle(model, place(dtype, device))
        assert model.processor is None
        assert not model.is_channels_last


def test_a_module_without_attention_settles_too() -> None:
    convolution = nn.Conv2d(4, 4, 3, dtype=torch.bfloat16)
    settle(convolution, place(torch.bfloat16))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
