import pytest

from server.core.errors import LoadFailed
from server.engines.image.layouts import family

UNET = "model.diffusion_model.input_blocks.0.0.weight"
TEXT = "cond_stage_model.transformer.text_model.final_layer_norm.weight"


def test_sd1() -> None:
    found = family.detect({UNET: (320, 4, 3, 3), TEXT: (768,)})
    assert (found.name, found.heads, found.latent_scale) == ("sd1", 8, 0.18215)


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ({"conditioner.embedders.1.model.ln_final.weight": (1280,)}, "SDXL"),
        ({"cond_stage_model.model.ln_final.weight": (1024,)}, "Stable Diffusion 2"),
        ({"model.diffusion_model.x_embedder.proj.weight": (1, 1)}, "Stable Diffusion 3"),
        ({UNET: (320, 9, 3, 3), TEXT: (768,)}, "inpainting"),
        ({UNET: (320, 8, 3, 3), TEXT: (768,)}, "InstructPix2Pix"),
        ({UNET: (320, 4, 3, 3)}, "no text encoder"),
        ({"lora_unet_x.lora_up.weight": (4, 4)}, "no UNet"),
    ],
)
def test_others_are_refused_by_name(shapes: dict[str, tuple[int, ...]], sentence: str) -> None:
    with pytest.raises(LoadFailed, match=sentence):
        family.detect(shapes)
