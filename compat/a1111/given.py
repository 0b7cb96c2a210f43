"""What an img2img request adds to a plan, and what its infotext says of it."""

from typing import Any

import msgspec

from compat.a1111 import wire
from server.core.image import InitImages

SOFT_KEYS = (
    "Soft inpainting schedule bias",
    "Soft inpainting preservation strength",
    "Soft inpainting transition contrast boost",
    "Soft inpainting mask influence",
    "Soft inpainting difference threshold",
    "Soft inpainting difference contrast",
)

CONTENTS = {0: "fill", 2: "latent noise", 3: "latent nothing"}
"""How infotexts name what is under the mask; the original is not told."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The request as it came, the pictures as the engine gets them, soft inpainting's numbers as they were written.

    `digest` is the name of the last init picture where those are saved.
    """

    request: wire.Img2Img
    init: InitImages
    soft: tuple[float, ...] = ()
    digest: str | None = None

    @property
    def blur(self) -> int | None:
        """The mask's blur if it is the same on both axes, as infotexts tell it."""
        across, down = blurs(self.request)
        return across if across == down else None


def blurs(request: wire.Img2Img) -> tuple[int, int]:
    """Return the mask's blur along x and y: one number for both wins, null is none."""
    if request.mask_blur is not None:
        return request.mask_blur, request.mask_blur
    return request.mask_blur_x or 0, request.mask_blur_y or 0


def entries_before(given: Given, *, blank_mask: bool) -> dict[str, Any]:
    """Return the entries that A1111 makes before a batch begins, in its order.

    `blank_mask`: the mask was left out, for it masked nothing.
    """
    request, inpaint = given.request, given.init.inpaint
    entries: dict[str, Any] = {}
    if given.soft and inpaint is not None:
        entries |= {"Soft inpainting enabled": True} | dict(zip(SOFT_KEYS, given.soft, strict=True))
    entries["Denoising strength"] = request.denoising_strength
    if inpaint is None:
        return entries
    if inpaint.invert:
        entries["Mask mode"] = "Inpaint not masked"
    if inpaint.blur_x > 0 or inpaint.blur_y > 0:
        entries["Mask blur"] = given.blur
    if blank_mask:
        return entries
    if inpaint.only_masked:
        entries |= {"Inpaint area": "Only masked", "Masked area padding": inpaint.padding}
    content = CONTENTS.get(request.inpainting_fill or 0)
    return entries if content is None else entries | {"Masked content": content}
