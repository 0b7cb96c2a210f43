"""A rough look at latents while they are made: by a tiny decoder, or by a linear map to colours."""

import logging
import math

import torch
from PIL import Image

from server.core.errors import LoadFailed
from server.engines.image.pictures import png, to_image
from server.engines.image.placement import Placement
from server.engines.image.tiny_decoder import TinyDecoder, load_decoder

logger = logging.getLogger(__name__)

CELL = 8

LATENT_TO_RGB = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
)
"""Colours per channel of SD1 latents, fitted by keturn ("Decoding latents to RGB without upscaling", 2022)."""


class Previews:
    """Makes the previews of one checkpoint. `decoder` is the file of a tiny decoder for its latents, None = none.

    The file is read when the first preview is made; one that cannot be used is told of in the log, once.
    """

    def __init__(self, decoder: str | None, placement: Placement, *, allow_pickle: bool) -> None:
        self._file = decoder
        self._placement = placement
        self._allow_pickle = allow_pickle
        self._decoder: TinyDecoder | None = None

    def of(self, latents: torch.Tensor) -> bytes:
        """Return a PNG of a batch of latents [batch, 4, h, w], 8 pixels a cell, several pictures as a square grid."""
        decoder = self._opened()
        if decoder is None:
            return preview(latents)
        pictures = [decoder.decode(latent) for latent in latents]
        return png(grid([to_image(torch.nan_to_num(picture)) for picture in pictures]))

    def _opened(self) -> TinyDecoder | None:
        if self._decoder is None and self._file is not None:
            try:
                self._decoder = load_decoder(self._file, self._placement.device, allow_pickle=self._allow_pickle)
            except LoadFailed as error:
                logger.warning("previews are made without the decoder: %s", error.message)
                self._file = None
        return self._decoder


def preview(latents: torch.Tensor) -> bytes:
    """Return the PNG that the linear map makes of a batch of latents."""
    colours = torch.tensor(LATENT_TO_RGB, device=latents.device)
    pictures = torch.einsum("bchw,cr->brhw", latents.float(), colours)
    return png(grid([_enlarged(to_image(picture)) for picture in torch.nan_to_num(pictures)]))


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


def _enlarged(image: Image.Image) -> Image.Image:
    return image.resize((image.width * CELL, image.height * CELL), Image.Resampling.BILINEAR)
