import pytest

from server.engines.image.layouts import text_encoder
from server.engines.image.layouts.shapes import under
from tests.support.tiny_checkpoint import TEXT, tiny_tensors

pytestmark = pytest.mark.torch


def clip(width: int, layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (49408, width),
        "embeddings.position_embedding.weight": (77, width),
    }
    for layer in range(layers):
        shapes[f"encoder.layers.{layer}.mlp.fc1.weight"] = (4 * width, width)
    return shapes


def open_clip(width: int, layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "positional_embedding": (77, width),
        "token_embedding.weight": (49408, width),
        "ln_final.weight": (width,),
        "text_projection": (width, width),
    }
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}"
        shapes[f"{block}.attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{block}.attn.in_proj_bias"] = (3 * width,)
        shapes[f"{block}.attn.out_proj.weight"] = (width, width)
        shapes[f"{block}.ln_1.weight"] = (width,)
        shapes[f"{block}.mlp.c_fc.weight"] = (4 * width, width)
    return shapes


def test_the_real_clip_is_inferred() -> None:
    config = text_encoder.read(clip(768, 12)).config(heads=None)
    assert (config["hidden_size"], config["num_hidden_layers"], config["intermediate_size"]) == (768, 12, 3072)
    assert config["num_attention_heads"] == 12
    assert config["hidden_act"] == "quick_gelu"


def test_toys_have_four_heads_unless_told() -> None:
    layout = text_encoder.read(clip(64, 4))
    assert layout.config(heads=None)["num_attention_heads"] == 4
    assert layout.config(heads=2)["num_attention_heads"] == 2


def test_the_tiny_file() -> None:
    prefix = "cond_stage_model.transformer.text_model."
    shapes = {name: tuple(t.shape) for name, t in under(prefix, tiny_tensors()).items()}
    layout = text_encoder.read(shapes)
    assert (layout.width, layout.layers, layout.positions) == (TEXT, 2, 77)
    names = text_encoder.key_map(shapes, layout)
    assert set(shapes) - set(names) == {"embeddings.position_ids"}
    assert all(old == new for old, new in names.items())


def test_open_clip_names() -> None:
    shapes = open_clip(1024, 23)
    layout = text_encoder.read(shapes)
    assert (layout.width, layout.layers, layout.config(None)["num_attention_heads"]) == (1024, 23, 16)
    assert layout.config(None)["hidden_act"] == "gelu"
    names = text_encoder.key_map(shapes, layout)
    assert names["ln_final.weight"] == "final_layer_norm.weight"
    assert names["transformer.resblocks.3.ln_1.weight"] == "encoder.layers.3.layer_norm1.weight"
    assert names["transformer.resblocks.3.mlp.c_fc.weight"] == "encoder.layers.3.mlp.fc1.weight"
    cut = text_encoder.fused(shapes)
    assert len(cut) == 46
    assert cut["transformer.resblocks.0.attn.in_proj_bias"] == (
        "encoder.layers.0.self_attn.q_proj.bias",
        "encoder.layers.0.self_attn.k_proj.bias",
        "encoder.layers.0.self_attn.v_proj.bias",
    )
