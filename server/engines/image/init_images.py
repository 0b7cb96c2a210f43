"""Init pictures and their mask, from files to what is encoded and what is laid over the result."""

from dataclasses import dataclass, replace

from PIL import Image

from server.core.image import InitImages, Inpaint, Size
from server.engines.image import masks
from server.engines.image.colour_correction import Bytes, colours_of
from server.engines.image.enlarging import Enlarger
from server.engines.image.resizing import Place, resized
from server.engines.input_pictures import decoded, flattened, opened


@dataclass(frozen=True, kw_only=True)
class Source:
    """One init picture: `picture` is to be encoded; `whole` is it as far as the result is laid into it.

    `overlay` is `whole` with a hole under the mask, `colours` are those that the result shall have.
    """

    picture: Image.Image
    whole: Image.Image
    overlay: Image.Image | None = None
    colours: Bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Sources:
    """All init pictures of a job with their mask.

    `mask` is of the request's size, None where nothing is masked; `overlay_mask` belongs to the result. `place` is
    where the result lies in the whole picture, None when it is the whole. `latent_mask` is the mask for latents, of any
    size, None for `mask`.
    """

    pictures: tuple[Source, ...]
    mask: Image.Image | None = None
    overlay_mask: Image.Image | None = None
    place: Place | None = None
    blank_mask: bool = False
    latent_mask: Image.Image | None = None


@dataclass(frozen=True)
class _Masks:
    mask: Image.Image
    overlay: Image.Image
    place: Place | None
    latent: Image.Image | None = None


def prepared(init: InitImages, size: Size, by: Enlarger | None = None) -> Sources:
    """Decode and bring to size; `by` enlarges in place of the filter that `init` names.

    With `only_masked` and a black mask nothing is masked: the job is an ordinary one from a picture.

    Raises:
        BadImage: a file is no picture, too large, or too thin for the size asked for.
    """
    upscaler = by or init.upscaler
    found = None if init.inpaint is None else _masks(init, init.inpaint, size)
    pictures: list[Source] = []
    for image in opened(init.images, "init_images"):
        source, found = _source(image, init, size, found, upscaler)
        pictures.append(source)
    if found is None:
        return Sources(pictures=tuple(pictures), blank_mask=init.inpaint is not None)
    return Sources(
        pictures=tuple(pictures),
        mask=found.mask,
        overlay_mask=found.overlay,
        place=found.place,
        latent_mask=found.latent,
    )


def _masks(init: InitImages, asked: Inpaint, size: Size) -> _Masks | None:
    mask = masks.mask_of(decoded(asked.mask, "mask"), asked)
    if not asked.only_masked:
        fitted = resized(mask, size, init.resize)
        latent = None if asked.latent_mask is None else decoded(asked.latent_mask, "latent_mask").convert("L")
        return _Masks(fitted, masks.doubled(fitted), None, latent)
    place = masks.region_of(mask, asked.padding, size)
    if place is None:
        return None
    return _Masks(resized(masks.cut(mask, place), size, "fill"), mask, place)


def _source(
    image: Image.Image, init: InitImages, size: Size, found: _Masks | None, upscaler: str | Enlarger
) -> tuple[Source, _Masks | None]:
    whole = flattened(image, init.background)
    if (found is None or found.place is None) and init.resize != "latent":
        whole = resized(whole, size, init.resize, upscaler)
    if found is None or init.inpaint is None:
        return Source(picture=whole, whole=whole, colours=_colours(whole, init)), None
    if found.overlay.size != whole.size:
        # It stays at that size for the pictures that follow, as in A1111.
        fitted = resized(found.overlay, Size(*whole.size), init.resize)
        found = replace(found, overlay=fitted)
    picture = whole
    if found.place is not None:
        picture = resized(masks.cut(whole, found.place), size, "fill", upscaler)
    if init.inpaint.content != "original":
        picture = masks.smeared(picture, _of_size(found.latent or found.mask, picture))
    overlay = masks.holed(whole, found.overlay) if init.inpaint.overlay else None
    return Source(picture=picture, whole=whole, overlay=overlay, colours=_colours(picture, init)), found


def _of_size(mask: Image.Image, picture: Image.Image) -> Image.Image:
    """Return the mask at the size of the picture, which differs only in mode `latent`."""
    return mask if mask.size == picture.size else resized(mask, Size(*picture.size), "stretch")


def _colours(picture: Image.Image, init: InitImages) -> Bytes | None:
    return colours_of(picture) if init.match_colours else None
