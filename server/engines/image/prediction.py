"""What a UNet predicts, noise or velocity: told by the files, or found out by asking the network once.

In this order: the YAML beside the file; `modelspec.prediction_type` in its header; a tensor named `v_pred`, by which
SDXL models are marked. SD2 models that say nothing are asked as A1111 asks them; all others predict
noise.
"""

from collections.abc import Mapping

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from server.engines.image.denoisers import Prediction
from server.engines.image.layouts.shapes import Shapes
from server.engines.image.layouts.sidecar import Sidecar

SPEC_KEY = "modelspec.prediction_type"
VELOCITY_MARK = "v_pred"
ZERO_TERMINAL_MARK = "ztsnr"

SAID: Mapping[str, Prediction] = {
    "v": "v",
    "v_prediction": "v",
    "v-prediction": "v",
    "epsilon": "eps",
    "eps": "eps",
}

LAST_TIME = 999
ASKED_VALUE = 0.5
VELOCITY_BELOW = -1.0
"""A v model's answer to a plain grey latent at the last time lies below this on average, less the latent."""


def said(extra: Sidecar, metadata: Mapping[str, str], shapes: Shapes) -> Prediction | None:
    """Return what the files say, None when they do not."""
    if extra.prediction is not None:
        return extra.prediction
    spec = SAID.get(metadata.get(SPEC_KEY, "").strip().lower())
    if spec is not None:
        return spec
    return "v" if VELOCITY_MARK in shapes else None


def asked(unet: UNet2DConditionModel, device: torch.device) -> Prediction:
    """Run the network once on a small grey latent and tell by its answer; `device` is where it runs."""
    options = {"device": device, "dtype": unet.dtype}
    latent = torch.full((1, unet.config.in_channels, 8, 8), ASKED_VALUE, **options)
    text = torch.full((1, 2, unet.config.cross_attention_dim), ASKED_VALUE, **options)
    with torch.no_grad():
        out = unet(latent, torch.tensor([LAST_TIME], device=device), text, return_dict=False)[0]
    gap = (out - latent[:, : out.shape[1]]).float().mean().item()
    return "v" if gap < VELOCITY_BELOW else "eps"
