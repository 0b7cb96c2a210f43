"""From a decoded picture of a job from a picture to what is handed over: its colours, old pixels around the mask."""

from dataclasses import dataclass

import torch
from PIL import Image

from server.core.image import ImageReady, ImageRequest, Inpaint, Size
from server.engines.image import masks
from server.engines.image.colour_correction import corrected
from server.engines.image.files import check_sent, held
from server.engines.image.init_images import Source, Sources
from server.engines.image.inpaint import Blend
from server.engines.image.pictures import png
from server.engines.image.resizing import put_back, resized
from server.engines.image.seeds import picture_seeds
from server.engines.image.soft_inpainting import mask_of_change


@dataclass(frozen=True)
class Finished:
    """The picture, and those that the request asks for besides."""

    image: Image.Image
    further: tuple[Image.Image, ...] = ()

    def ready(self, request: ImageRequest, index: int) -> ImageReady:
        """Return what is sent of picture `index` of a request.

        Raises:
            InvalidValue: if the files are more than a message holds.
        """
        seed, variation = picture_seeds(request.seeds, index)
        as_png, as_other = held(self.image, request.file)
        further = tuple(png(image) for image in self.further)
        check_sent(self.image, (as_png, as_other, *further))
        return ImageReady(
            index=index,
            seed=seed,
            variation=variation,
            png=as_png,
            file=as_other,
            width=self.image.width,
            height=self.image.height,
            further=further,
        )


@dataclass(frozen=True, kw_only=True)
class Finishing:
    """Finishes the pictures of a job; the picture at place k of its batch came from source k."""

    sources: Sources
    asked: Inpaint | None
    blend: Blend | None
    size: Size

    def finished(self, image: Image.Image, latent: torch.Tensor, k: int) -> Finished:
        """Return the picture of one latent [C, h, w], decoded as `image` (RGB)."""
        pictures = self.sources.pictures
        source = pictures[k if len(pictures) > 1 else 0]
        overlay, overlay_mask = self._overlay(source, latent, k)
        if source.colours is not None:
            image = corrected(image, source.colours)
        image, alone = self._laid_under(image, overlay)
        if overlay_mask is None or self.asked is None:
            return Finished(image)
        further = []
        if self.asked.return_mask:
            further.append(overlay_mask.convert("RGB"))
        if self.asked.return_composite:
            further.append(_composite(alone, overlay_mask, image.size))
        return Finished(image, tuple(further))

    def _overlay(self, source: Source, latent: torch.Tensor, k: int) -> tuple[Image.Image | None, Image.Image | None]:
        """Return what is laid over the result, and its mask; soft inpainting makes both from what has changed."""
        if self.blend is None or self.blend.soft is None:
            return source.overlay, self.sources.overlay_mask
        mask = mask_of_change(self.blend.soft, self.blend.old[k], latent, self.blend.remade, self.size)
        if self.sources.place is not None:
            mask = put_back(mask, source.whole.size, self.sources.place)
        return masks.holed(source.whole, mask), mask

    def _laid_under(self, image: Image.Image, overlay: Image.Image | None) -> tuple[Image.Image, Image.Image]:
        """Return the picture under the overlay, and the picture as it lies there alone."""
        if overlay is None:
            return image, image
        if self.sources.place is not None:
            image = put_back(image, overlay.size, self.sources.place)
        under = image.convert("RGBA")
        under.alpha_composite(overlay)
        return under.convert("RGB"), image


def _composite(alone: Image.Image, mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the result as RGBA, as opaque as the mask is white."""
    fitted = resized(mask, Size(*size), "fill").convert("L")
    shown = alone.convert("RGBA").convert("RGBa")
    return Image.composite(shown, Image.new("RGBa", size), fitted).convert("RGBA")
