import pytest

from server.core.errors import LoadFailed
from server.engines.image.layouts import vae
from server.engines.image.layouts.shapes import under
from tests.support.tiny_checkpoint import CHANNELS, tiny_tensors

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in under("first_stage_model.", tiny_tensors()).items()}


def test_architecture_is_inferred(shapes: dict[str, tuple[int, ...]]) -> None:
    layout = vae.read(shapes)
    assert layout.widths == (CHANNELS,) * 4
    assert layout.resnets == 1
    assert layout.config()["latent_channels"] == 4


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("quant_conv.weight", "quant_conv.weight"),
        ("encoder.norm_out.bias", "encoder.conv_norm_out.bias"),
        ("encoder.down.2.downsample.conv.weight", "encoder.down_blocks.2.downsamplers.0.conv.weight"),
        ("decoder.up.3.block.1.conv2.bias", "decoder.up_blocks.0.resnets.1.conv2.bias"),
        ("decoder.up.1.upsample.conv.bias", "decoder.up_blocks.2.upsamplers.0.conv.bias"),
        ("decoder.mid.block_2.norm1.weight", "decoder.mid_block.resnets.1.norm1.weight"),
        ("decoder.mid.attn_1.norm.weight", "decoder.mid_block.attentions.0.group_norm.weight"),
        ("decoder.mid.attn_1.proj_out.bias", "decoder.mid_block.attentions.0.to_out.0.bias"),
    ],
)
def test_names(shapes: dict[str, tuple[int, ...]], old: str, new: str) -> None:
    assert vae.key_map(shapes, vae.read(shapes))[old] == new


def test_shortcuts_are_renamed(shapes: dict[str, tuple[int, ...]]) -> None:
    extra = shapes | {"decoder.up.0.block.0.nin_shortcut.weight": (32, 32, 1, 1)}
    names = vae.key_map(extra, vae.read(extra))
    assert names["decoder.up.0.block.0.nin_shortcut.weight"] == "decoder.up_blocks.3.resnets.0.conv_shortcut.weight"


def test_every_name_is_mapped_and_none_twice(shapes: dict[str, tuple[int, ...]]) -> None:
    names = vae.key_map(shapes, vae.read(shapes))
    assert set(names) == set(shapes)
    assert len(set(names.values())) == len(names)


def test_only_attention_weights_are_squeezed() -> None:
    assert vae.squeezed("decoder.mid_block.attentions.0.to_q.weight")
    assert not vae.squeezed("decoder.mid_block.attentions.0.to_q.bias")
    assert not vae.squeezed("decoder.mid_block.attentions.0.group_norm.weight")
    assert not vae.squeezed("decoder.mid_block.resnets.0.conv1.weight")


def test_other_latents_are_refused(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(LoadFailed, match="16 latent channels"):
        vae.read(shapes | {"decoder.conv_in.weight": (32, 16, 3, 3)})
    with pytest.raises(LoadFailed, match="3 levels"):
        vae.read({name: shape for name, shape in shapes.items() if not name.startswith("encoder.down.3.")})
