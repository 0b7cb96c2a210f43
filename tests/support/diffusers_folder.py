"""A tiny checkpoint as a folder in the layout of the diffusers library, written by diffusers and transformers."""

import json
from pathlib import Path
from typing import Any

from tests.support import reference_models as reference
from tests.support.tiny_checkpoint import KINDS, tiny_tensors

INDEX = "model_index.json"


def write_tiny_folder(folder: Path, family: str = "sd1", **schedule: Any) -> Path:
    """Write the folder and return its `model_index.json`. `schedule` changes keys of the scheduler's configuration."""
    tensors = tiny_tensors(half=False, family=family)
    kind = KINDS[family]
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0"}
    for name in ("unet", "vae"):
        model = reference.unet(tensors, family) if name == "unet" else reference.vae(tensors)
        if name == "vae" and kind.sizes:
            model.register_to_config(scaling_factor=0.13025)
        model.save_pretrained(folder / name)
        index[name] = ["diffusers", type(model).__name__]
    for name, text in _texts(tensors, family).items():
        text.model.save_pretrained(folder / name)
        index[name] = ["transformers", type(text.model).__name__]
    if family == "sdxl-refiner":
        index["text_encoder"] = [None, None]
    prediction = "v_prediction" if family == "sd2-v" else "epsilon"
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": prediction}
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config | schedule))
    (folder / INDEX).write_text(json.dumps(index))
    return folder / INDEX


def _texts(tensors: reference.Tensors, family: str) -> dict[str, reference.Text]:
    match KINDS[family].towers:
        case (first, second):
            return {
                "text_encoder": reference.clip_l(tensors, first.removesuffix("text_model.")),
                "text_encoder_2": reference.open_clip(tensors, second, pooled=True),
            }
        case (only,) if only.endswith("text_model."):
            return {"text_encoder": reference.clip_l(tensors, only.removesuffix("text_model."))}
        case (only,):
            pooled = KINDS[family].sizes > 0
            name = "text_encoder_2" if pooled else "text_encoder"
            # SD2 is published in this layout without the layer that nobody asks.
            return {name: reference.open_clip(tensors, only, pooled=pooled, layers=3 if pooled else 2)}
    raise AssertionError(family)
