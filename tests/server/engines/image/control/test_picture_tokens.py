import pytest
import torch

from server.core.errors import LoadFailed
from server.engines.image.control.picture_tokens import FullTokens, PlainTokens, PlusTokens, build
from server.engines.image.control.vision import Sight, read
from server.engines.image.layouts.shapes import under
from tests.support import tiny_ip_adapter as tiny
from tests.support.tiny_checkpoint import TEXT

pytestmark = pytest.mark.torch

ENCODER = read({name: tuple(tensor.shape) for name, tensor in tiny.encoder_tensors().items()})


def shapes(kind: tiny.Kind) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in under("image_proj.", tiny.adapter_tensors(kind)).items()}


@pytest.mark.parametrize(
    ("kind", "made", "tokens"), [("plain", PlainTokens, 4), ("plus", PlusTokens, 6), ("full", FullTokens, 17)]
)
def test_the_kind_is_told_by_names(kind: tiny.Kind, made: type, tokens: int) -> None:
    found = build(shapes(kind), TEXT)
    assert isinstance(found, made)
    assert {name for name, _ in found.named_parameters()} == set(shapes(kind))
    sight = Sight(torch.randn(1, tiny.PROJECTION), torch.randn(1, 17, tiny.WIDTH))
    torch.nn.init.zeros_(next(found.parameters()))
    assert found(sight).shape == (1, tokens, TEXT)
    assert found.fits(ENCODER)


@pytest.mark.parametrize("kind", ["plain", "plus", "full"])
def test_another_encoder_does_not_fit(kind: tiny.Kind) -> None:
    other = type(ENCODER)(width=99, inner_width=64, layers=3, projection=98, patch=tiny.PATCH, side=tiny.SIDE)
    assert not build(shapes(kind), TEXT).fits(other)


def test_what_is_none() -> None:
    with pytest.raises(LoadFailed, match="unknown kind"):
        build({"other.weight": (1, 1)}, TEXT)
    for kind in ("plain", "plus", "full"):
        with pytest.raises(LoadFailed, match="tokens of 16 values"):
            build(shapes(kind), TEXT + 1)
