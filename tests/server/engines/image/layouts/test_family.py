import pytest

from server.core.errors import LoadFailed
from server.engines.image.layouts import family

PREFIX = "model.diffusion_model."
UNET = f"{PREFIX}input_blocks.0.0.weight"
VECTOR = f"{PREFIX}label_emb.0.0.weight"
Shapes = dict[str, tuple[int, ...]]

SD1_UNET: Shapes = {UNET: (320, 4, 3, 3), f"{PREFIX}input_blocks.1.1.proj_in.weight": (320, 320, 1, 1)}
SD2_UNET: Shapes = {UNET: (320, 4, 3, 3), f"{PREFIX}input_blocks.1.1.proj_in.weight": (320, 320)}
SDXL_UNET: Shapes = {
    UNET: (320, 4, 3, 3),
    VECTOR: (1280, 2816),
    **{f"{PREFIX}input_blocks.{block}.0.x": (1,) for block in range(1, 9)},
    f"{PREFIX}input_blocks.8.1.norm.weight": (1280,),
}
REFINER_UNET: Shapes = {
    UNET: (384, 4, 3, 3),
    VECTOR: (1536, 2560),
    **{f"{PREFIX}input_blocks.{block}.0.x": (1,) for block in range(1, 12)},
    f"{PREFIX}input_blocks.8.1.norm.weight": (1536,),
}

L = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
H = "cond_stage_model.model.ln_final.weight"
G = "conditioner.embedders.1.model.ln_final.weight"
G_ALONE = "conditioner.embedders.0.model.ln_final.weight"


@pytest.mark.parametrize(
    ("unet", "encoder", "name"),
    [
        (SD1_UNET, L, "sd1"),
        (SD2_UNET, H, "sd2"),
        (SDXL_UNET, G, "sdxl"),
        (REFINER_UNET, G_ALONE, "sdxl_refiner"),
    ],
)
def test_families_by_encoder_and_without_one_by_the_unet(unet: Shapes, encoder: str, name: str) -> None:
    assert family.detect({**unet, encoder: (768,)}).name == name
    assert family.detect(unet).name == name
    bare = {key.removeprefix(PREFIX): shape for key, shape in unet.items()}
    assert family.detect(bare).name == name
    assert family.unet_prefix(bare) == ""


@pytest.mark.parametrize(("channels", "inputs"), [(4, "none"), (9, "inpaint"), (8, "pix2pix")])
def test_inputs_by_channels(channels: int, inputs: str) -> None:
    assert family.detect({**SD1_UNET, UNET: (320, channels, 3, 3), L: (768,)}) is family.SD1
    assert family.picture_inputs(channels) == inputs


def test_sizes_follow_the_pooled_text() -> None:
    """The real widths: 1280 pooled values, then 256 for each number."""
    counts = {name: family.SIZE_COUNT[each.sizes] for name, each in family.FAMILIES.items()}
    assert counts == {"sd1": 0, "sd2": 0, "sdxl": (2816 - 1280) // 256, "sdxl_refiner": (2560 - 1280) // 256}


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ({f"{PREFIX}x_embedder.proj.weight": (1, 1)}, "Stable Diffusion 3"),
        ({"double_blocks.0.img_attn.qkv.weight": (1, 1)}, "Flux"),
        ({**SDXL_UNET, "edm_vpred.sigma_max": (1,)}, "CosXL"),
        ({**SD2_UNET, VECTOR: (1, 2048)}, "unCLIP"),
        ({UNET: (320, 5, 3, 3), L: (768,)}, "depth"),
        ({UNET: (320, 13, 3, 3), L: (768,)}, "13 input channels"),
        ({"lora_unet_x.lora_up.weight": (4, 4)}, "no UNet"),
        ({}, "no UNet"),
    ],
)
def test_others_are_refused_by_name(shapes: Shapes, sentence: str) -> None:
    with pytest.raises(LoadFailed, match=sentence):
        family.detect(shapes)
