import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel

from server.core.errors import LoadFailed
from server.engines.image.control.layouts import OTHERS, read
from server.engines.image.layouts.shapes import Shapes
from server.engines.image.layouts.unet_levels import Level, inverse_key_map, modules_of
from tests.support.tiny_checkpoint import CHANNELS, TEXT
from tests.support.tiny_controlnet import tiny_control_tensors

SD1 = {"cross_attention_dim": 768, "attention_head_dim": 8}
SD2 = {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
SDXL = {
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SMALL_SDXL = SDXL | {
    "down_block_types": ["DownBlock2D"] * 3,
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [0, 0, 0],
}

LEVELS = {
    "sd1": [Level(320, 2, 1, True), Level(640, 2, 1, True), Level(1280, 2, 1, True), Level(1280, 2, 0, False)],
    "sdxl": [Level(320, 2, 0, True), Level(640, 2, 2, True), Level(1280, 2, 10, False)],
}


def shapes_of(tensors: dict[str, torch.Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def published(config: dict[str, object]) -> ControlNetModel:
    with torch.device("meta"):
        return ControlNetModel(**config)


def original_names(model: ControlNetModel, levels: list[Level], prefix: str) -> Shapes:
    """Return the model's shapes by the names of the original layout."""
    shapes = shapes_of(model.state_dict())
    unet = [name for name in shapes if not name.startswith("controlnet_")]
    names = inverse_key_map(unet, modules_of(levels))
    for place in range(8):
        inner = "conv_in" if place == 0 else "conv_out" if place == 7 else f"blocks.{place - 1}"
        for kind in ("weight", "bias"):
            names[f"input_hint_block.{2 * place}.{kind}"] = f"controlnet_cond_embedding.{inner}.{kind}"
    for place in range(len(model.controlnet_down_blocks)):
        for kind in ("weight", "bias"):
            names[f"zero_convs.{place}.0.{kind}"] = f"controlnet_down_blocks.{place}.{kind}"
    for kind in ("weight", "bias"):
        names[f"middle_block_out.0.{kind}"] = f"controlnet_mid_block.{kind}"
    assert set(names.values()) == set(shapes)
    return {prefix + old: shapes[new] for old, new in names.items()}


def rebuilt(shapes: Shapes, heads: tuple[int, ...]) -> tuple[Shapes, dict[str, str]]:
    """Return the shapes of the network that a layout describes, and where the file's tensors go."""
    layout = read(shapes)
    return shapes_of(published(layout.config(heads)).state_dict()), layout.names


@pytest.mark.parametrize("config", [SD1, SD2, SDXL, SMALL_SDXL], ids=["sd1", "sd2", "sdxl", "small sdxl"])
def test_files_of_diffusers(config: dict[str, object]) -> None:
    shapes = shapes_of(published(config).state_dict())
    heads = config["attention_head_dim"]
    made, names = rebuilt(shapes, (heads,) * 4 if isinstance(heads, int) else tuple(heads))  # type: ignore[arg-type]
    assert made == shapes
    assert names == {name: name for name in shapes}


@pytest.mark.parametrize("prefix", ["control_model.", ""])
@pytest.mark.parametrize("family, config, heads", [("sd1", SD1, (8,) * 4), ("sdxl", SDXL, (5, 10, 20))])
def test_files_in_the_original_layout(
    family: str, config: dict[str, object], heads: tuple[int, ...], prefix: str
) -> None:
    model = published(config)
    shapes = original_names(model, LEVELS[family], prefix)
    made, names = rebuilt(shapes, heads)
    assert made == shapes_of(model.state_dict())
    assert {names[name]: shape for name, shape in shapes.items()} == made


def test_a_tiny_one() -> None:
    layout = read(shapes_of(tiny_control_tensors()))
    assert [level.width for level in layout.levels] == [CHANNELS] * 2
    assert (layout.context_width, layout.vector_width, layout.in_channels) == (TEXT, 0, 4)
    assert layout.hint_widths == (16, 32, 96, 256)
    assert set(layout.names) == set(tiny_control_tensors())


@pytest.mark.parametrize("start", OTHERS)
def test_other_kinds_are_named(start: str) -> None:
    kind = OTHERS[start]
    with pytest.raises(LoadFailed, match=kind):
        read({f"{start}x": (1,)})
    with pytest.raises(LoadFailed, match=kind):
        read({f"control_model.{start}x": (1,)})


@pytest.mark.parametrize("gone", ["control_model.input_hint_block.0.weight", "control_model.input_blocks.0.0.weight"])
def test_damaged_files(gone: str) -> None:
    shapes = {name: shape for name, shape in shapes_of(tiny_control_tensors()).items() if name != gone}
    with pytest.raises(LoadFailed):
        read(shapes)


def test_files_of_something_else() -> None:
    for shapes in ({}, {"x": (2, 2)}, {"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3)}):
        with pytest.raises(LoadFailed):
            read(shapes)
