"""A rough look at latents: a linear map from latent channels to colours, one pixel for each latent cell."""

import math

import torch
from PIL import Image

from server.engines.image.pictures import png, to_image

LATENT_TO_RGB = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
)
"""Colours per channel of SD1 latents, fitted by keturn ("Decoding latents to RGB without upscaling", 2022)."""


def preview(latents: torch.Tensor) -> bytes:
    """Return a PNG of a batch of latents [batch, 4, h, w], several pictures as a nearly square grid."""
    colours = torch.tensor(LATENT_TO_RGB, device=latents.device)
    pictures = torch.einsum("bchw,cr->brhw", latents.float(), colours)
    return png(grid([to_image(picture) for picture in torch.nan_to_num(pictures)]))


def grid(images: list[Image.Image]) -> Image.Image:
    """Return images of one size side by side, in rows of about as many as there are rows."""
    if len(images) == 1:
        return images[0]
    rows = max(round(math.sqrt(len(images))), 1)
    columns = math.ceil(len(images) / rows)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, rows * height))
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * width, number // columns * height))
    return sheet
