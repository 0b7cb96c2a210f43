import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from server.core.errors import LoadFailed
from server.engines.image.layouts import unet, unet_levels
from server.engines.image.layouts.shapes import under
from server.engines.image.layouts.unet import UnetLayout
from server.engines.image.layouts.unet_levels import Level, inverse_key_map, modules_of
from tests.support.tiny_checkpoint import CHANNELS, TEXT, tiny_tensors

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in under("model.diffusion_model.", tiny_tensors()).items()}


def sd1() -> dict[str, tuple[int, ...]]:
    """Shapes of the real Stable Diffusion 1 UNet, as far as the layout looks at them."""
    shapes: dict[str, tuple[int, ...]] = {"input_blocks.0.0.weight": (320, 4, 3, 3), "out.2.weight": (4, 320, 3, 3)}
    for block in range(1, 12):
        width = (320, 640, 1280, 1280)[block // 3 if block % 3 else block // 3 - 1]
        if block % 3 == 0:
            shapes[f"input_blocks.{block}.0.op.weight"] = (width, width, 3, 3)
            continue
        shapes[f"input_blocks.{block}.0.out_layers.3.weight"] = (width, width, 3, 3)
        if block < 10:
            shapes[f"input_blocks.{block}.1.norm.weight"] = (width,)
            shapes[f"input_blocks.{block}.1.proj_in.weight"] = (width, width, 1, 1)
            shapes[f"input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight"] = (width, 768)
    shapes["middle_block.1.transformer_blocks.0.norm1.weight"] = (1280,)
    return shapes


def test_the_real_sd1_unet_is_inferred() -> None:
    config = unet.read(sd1()).config(heads=8, head_width=None)
    assert config["block_out_channels"] == [320, 640, 1280, 1280]
    assert config["layers_per_block"] == 2
    assert config["down_block_types"] == ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    assert config["up_block_types"] == ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    assert config["cross_attention_dim"] == 768
    assert config["attention_head_dim"] == [8, 8, 8, 8]
    assert config["use_linear_projection"] is False
    assert "addition_embed_type" not in config


def test_heads_of_one_width_follow_the_level() -> None:
    assert unet.read(sd1()).config(heads=None, head_width=64)["attention_head_dim"] == [5, 10, 20, 20]


def test_the_tiny_unet_is_inferred(shapes: dict[str, tuple[int, ...]]) -> None:
    layout = unet.read(shapes)
    assert [(level.width, level.resnets, level.depth) for level in layout.levels] == [
        (CHANNELS, 1, 1),
        (CHANNELS, 1, 0),
    ]
    assert layout.context_width == TEXT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("time_embed.0.weight", "time_embedding.linear_1.weight"),
        ("input_blocks.0.0.bias", "conv_in.bias"),
        ("input_blocks.1.0.in_layers.2.weight", "down_blocks.0.resnets.0.conv1.weight"),
        ("input_blocks.2.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"),
        ("middle_block.2.emb_layers.1.bias", "mid_block.resnets.1.time_emb_proj.bias"),
        ("output_blocks.1.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
        (
            "output_blocks.2.1.transformer_blocks.0.attn2.to_out.0.bias",
            "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.bias",
        ),
        ("output_blocks.3.0.skip_connection.weight", "up_blocks.1.resnets.1.conv_shortcut.weight"),
        ("out.2.weight", "conv_out.weight"),
    ],
)
def test_names(shapes: dict[str, tuple[int, ...]], old: str, new: str) -> None:
    assert unet.key_map(shapes, unet.read(shapes))[old] == new


def test_every_name_is_mapped_and_none_twice(shapes: dict[str, tuple[int, ...]]) -> None:
    names = unet.key_map(shapes, unet.read(shapes))
    assert set(names) == set(shapes)
    assert len(set(names.values())) == len(names)


def test_unknown_names_are_left_out(shapes: dict[str, tuple[int, ...]]) -> None:
    extra = shapes | {"input_blocks.1.0.surprise.weight": (1,), "elsewhere.weight": (1,)}
    assert set(unet.key_map(extra, unet.read(extra))) == set(shapes)


def test_a_missing_tensor_is_named() -> None:
    shapes = sd1()
    del shapes["out.2.weight"]
    with pytest.raises(LoadFailed, match=r"out\.2\.weight"):
        unet.read(shapes)


def test_a_unet_without_text_is_refused() -> None:
    shapes = {name: shape for name, shape in sd1().items() if "attn2" not in name}
    with pytest.raises(LoadFailed, match="no text conditioning"):
        unet.read(shapes)


def test_every_module_of_the_real_sd1_unet_has_a_place_in_the_file() -> None:
    layout = unet.read(sd1())
    with torch.device("meta"):
        model = UNet2DConditionModel(**layout.config(heads=8, head_width=None))
    places = tuple(new + "." for new in layout.modules.values())
    assert [name for name in model.state_dict() if not name.startswith(places)] == []
    assert sum(parameter.numel() for parameter in model.parameters()) == 859_520_964


SD1_LEVELS = [Level(320, 2, 1, True), Level(640, 2, 1, True), Level(1280, 2, 1, True), Level(1280, 2, 0, False)]
SDXL_LEVELS = [Level(320, 2, 0, True), Level(640, 2, 2, True), Level(1280, 2, 10, False)]
REFINER_LEVELS = [Level(384, 2, 0, True), Level(768, 2, 4, True), Level(1536, 2, 4, True), Level(1536, 2, 0, False)]


def published(levels: list[Level], *, middle: int, context: int, vector: int, linear: bool = True) -> UnetLayout:
    return UnetLayout(
        in_channels=4,
        out_channels=4,
        levels=tuple(levels),
        middle_depth=middle,
        context_width=context,
        linear_projection=linear,
        vector_width=vector,
        modules=modules_of(levels),
    )


@pytest.mark.parametrize(
    ("layout", "head_width", "parameters"),
    [
        (published(SD1_LEVELS, middle=1, context=1024, vector=0), 64, 865_910_724),
        (published(SDXL_LEVELS, middle=10, context=2048, vector=2816), 64, 2_567_463_684),
        (published(REFINER_LEVELS, middle=4, context=1280, vector=2560), 64, 2_259_526_660),
    ],
    ids=["sd2", "sdxl", "refiner"],
)
def test_the_published_unets_have_so_many_weights_and_a_place_for_each(
    layout: UnetLayout, head_width: int, parameters: int
) -> None:
    with torch.device("meta"):
        model = UNet2DConditionModel(**layout.config(heads=None, head_width=head_width))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    names = inverse_key_map(list(model.state_dict()), layout.modules)
    assert set(names.values()) == set(model.state_dict())
    assert unet_levels.key_map(names, layout.modules) == names
    tensors = model.state_dict()
    assert unet.read({old: tuple(tensors[new].shape) for old, new in names.items()}) == layout


def test_the_middle_block_of_the_refiner_keeps_its_depth() -> None:
    config = published(REFINER_LEVELS, middle=4, context=1280, vector=2560).config(heads=None, head_width=64)
    assert config["transformer_layers_per_block"] == [1, 4, 4, 4]
    assert config["down_block_types"][-1] == "DownBlock2D"


def test_a_middle_block_of_another_depth_than_its_level_is_refused() -> None:
    shapes = sd1() | {f"input_blocks.{block}.1.norm.weight": (1280,) for block in (10, 11)}
    shapes |= {f"input_blocks.{block}.1.transformer_blocks.{depth}.x": (1,) for block in (10, 11) for depth in (0, 1)}
    with pytest.raises(LoadFailed, match="middle block has 1 transformers"):
        unet.read(shapes)
