"""A multipart request's texts as a struct, and its pictures, looked at before a model is loaded for them."""

from typing import TypeVar

import msgspec

from compat.openai.images import fields, wire
from compat.openai.images.convert import Given
from compat.openai.images.form import Form, read_form
from compat.openai.images.look import Look, has_transparency, look
from server.core.errors import BadImage, InvalidValue, Unsupported
from server.http.refusals import body_error

FILES = ("image", "mask", "markup")

Asked = TypeVar("Asked", bound=wire.EditRequest | wire.VariationRequest)


def read(body: bytes, boundary: str, wanted: type[Asked]) -> tuple[Asked, Given, tuple[str, ...]]:
    """Return the request, its pictures, and the names of what nobody reads. May take a while for a large body.

    Raises:
        InvalidValue: the body is damaged, a text has a wrong value, or there is no picture.
        BadImage: what should be a picture is none, or the mask does not fit it.
        Unsupported: more than one picture, or drawings on top of one.
    """
    form = read_form(body, boundary, FILES)
    try:
        request = msgspec.convert(form.texts, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise body_error(error) from None
    known = {*request.__struct_fields__, *(FILES if isinstance(request, wire.EditRequest) else FILES[:1])}
    ignored = tuple(name for name in (*form.texts, *form.files) if name not in known)
    return request, _given(request, form), ignored


def _given(request: wire.EditRequest | wire.VariationRequest, form: Form) -> Given:
    image = _one(form, "image")
    if image is None:
        raise InvalidValue.of("image", "Missing required parameter: 'image'.")
    seen = look(image, "image")
    if not isinstance(request, wire.EditRequest):
        return Given(image=image, seen=seen)
    if _one(form, "markup") is not None:
        raise Unsupported.of("markup", fields.EDIT["markup"].note)
    mask = _one(form, "mask")
    if mask is not None:
        check_mask(mask, seen)
    elif request.model == "dall-e-2" and seen.rgba and has_transparency(image):
        # Its own rule: without a mask the picture's transparent part is the mask.
        mask = image
    return Given(image=image, seen=seen, mask=mask)


def _one(form: Form, name: str) -> bytes | None:
    found = form.files.get(name, ())
    if len(found) > 1:
        raise Unsupported.of(name, f"'{name}' was given {len(found)} times; one picture is taken at a time")
    return found[0] if found and found[0] else None


def check_mask(mask: bytes, seen: Look) -> None:
    """Raise BadImage when a mask is none, does not fit the picture, or has nothing open; may take a while."""
    its = look(mask, "mask")
    if not its.rgba:
        raise BadImage("'mask' must be an RGBA PNG whose transparent part is to be made anew", param="mask")
    if (its.width, its.height) != (seen.width, seen.height):
        sizes = f"{its.width}x{its.height} and {seen.width}x{seen.height}"
        raise BadImage(f"'mask' and 'image' must be of the same size, not {sizes}", param="mask")
    if not has_transparency(mask):
        raise BadImage("'mask' has no transparent part, so nothing would be made anew", param="mask")
