"""Extras: finished pictures enlarged by one upscaler, or by two whose results are mixed.

| upscaler_1 | upscaler_2, visibility | what is done |
|---|---|---|
| `None` | any | nothing but writing the picture anew, whatever the sizes say |
| `Lanczos` | `None` or 0 | one job |
| `Lanczos` | `4x-UltraSharp`, 0.3 | two jobs, the second is laid over the first's result |
"""

import asyncio
import base64
import html
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from compat.a1111 import encoded, infotext
from compat.a1111.file_formats import Form, delivered, form_of
from compat.a1111.lenient import BODY, Problem, Unreadable
from compat.a1111.making import MOST_BYTES, Maker
from compat.a1111.options import OptionValues
from compat.a1111.postprocess_wire import BatchAnswer, BatchExtras, Extras, SingleAnswer, SingleExtras
from compat.a1111.refusals import bad_image
from compat.a1111.runs import Run
from compat.a1111.upscalers import Upscaler, named
from server.core.errors import BadImage, Cancelled, InvalidValue, Unsupported
from server.core.image import Size
from server.core.pixels import UpscaleRequest
from server.http.picture_files import comment_of
from server.http.png import add_text, read_text

LABEL = "extras"
NO_UPSCALER = Upscaler(name="None")
MOST_PICTURES = 256
KEPT, MOST_KEPT = "upscaling_max_images_in_cache", 64

SHARES: Final = ("gfpgan_visibility", "codeformer_visibility", "codeformer_weight", "extras_upscaler_2_visibility")
FACES: Final = {"gfpgan_visibility": "GFPGAN", "codeformer_visibility": "CodeFormer"}

FIELDS: Final[dict[str, str]] = {
    "resize_mode": "honoured",
    "show_extras_results": "echoed",
    "gfpgan_visibility": "refused",
    "codeformer_visibility": "refused",
    "codeformer_weight": "echoed",
    "upscaling_resize": "honoured",
    "upscaling_resize_w": "honoured",
    "upscaling_resize_h": "honoured",
    "upscaling_crop": "honoured",
    "upscaler_1": "honoured",
    "upscaler_2": "honoured",
    "extras_upscaler_2_visibility": "honoured",
    "upscale_first": "echoed",
    "image": "honoured",
    "imageList": "honoured",
}
"""What becomes of each field, in the words of `compat.a1111.fields`. A test holds this against the wire."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A request with its upscalers found. `second` is there only when it is to be seen."""

    asked: Extras
    first: Upscaler
    second: Upscaler | None = None
    options: OptionValues

    @property
    def jobs(self) -> int:
        """Return how many jobs a picture is."""
        return 1 if self.second is None else 2


def chosen(asked: Extras, known: Sequence[Upscaler], options: OptionValues) -> Chosen:
    """Hold a request against bounds and find its upscalers. Pure.

    Raises:
        Unreadable: a number out of bounds, told as A1111's validation does.
        Refused: an upscaler that is not there.
        Unsupported: faces are to be restored.
    """
    _check(asked)
    for field, what in FACES.items():
        if getattr(asked, field) > 0:
            raise Unsupported.of(field, f"{what} is not offered; leave {field} at 0")
    first = NO_UPSCALER if asked.upscaler_1 in ("None", "") else named(asked.upscaler_1, known)
    second = None
    if first.card is not None or first.kernel != "none":
        second = None if asked.upscaler_2 in ("None", "") else named(asked.upscaler_2, known)
    seen = second is not None and asked.extras_upscaler_2_visibility > 0
    return Chosen(asked=asked, first=first, second=second if seen else None, options=options)


def first_work(choice: Chosen, picture: bytes) -> UpscaleRequest:
    """Return the first job for a picture. Pure."""
    return _work(choice, choice.first, picture)


def second_work(choice: Chosen, picture: bytes, result: bytes) -> UpscaleRequest | None:
    """Return the job that lays the second upscaler's result over the first's, None when there is none. Pure."""
    if choice.second is None:
        return None
    work = _work(choice, choice.second, picture)
    visibility = choice.asked.extras_upscaler_2_visibility
    return msgspec.structs.replace(work, under=(result,), visibility=visibility)


def told(choice: Chosen) -> str:
    """Return the text that goes with the pictures. Pure."""
    asked = choice.asked
    if choice.first is NO_UPSCALER:
        return ""
    size = f"{asked.upscaling_resize_w}x{asked.upscaling_resize_h}"
    entries: dict[str, Any] = {"Postprocess upscale by": asked.upscaling_resize}
    if asked.resize_mode == 1:
        entries = {"Postprocess upscale to": size}
        if asked.upscaling_crop:
            entries["Postprocess crop to"] = size
    entries["Postprocess upscaler"] = choice.first.name
    if choice.second is not None:
        entries["Postprocess upscaler 2"] = choice.second.name
    return ", ".join(f"{key}: {infotext.quoted(value)}" for key, value in entries.items())


async def single(asked: SingleExtras, choice: Chosen, maker: Maker, run: Run) -> SingleAnswer:
    """Answer `extra-single-image`; raise what the job ended with."""
    form = form_of(choice.options)
    picture = await asyncio.to_thread(encoded.picture, asked.image)
    image = await _made(choice, picture, form, maker, run)
    return SingleAnswer(html_info=_html(told(choice)), image=_base64(image))


async def batch(asked: BatchExtras, choice: Chosen, maker: Maker, run: Run) -> BatchAnswer:
    """Answer `extra-batch-images`: an interrupt hands over the pictures that are done."""
    form = form_of(choice.options)
    pictures = await asyncio.to_thread(lambda: [encoded.picture(entry["data"]) for entry in entries(asked)])
    made: list[str] = []
    for picture in pictures:
        if run.stopped:
            break
        try:
            made.append(_base64(await _made(choice, picture, form, maker, run)))
        except Cancelled:
            break
    return BatchAnswer(html_info=_html(told(choice)), images=made)


def entries(asked: BatchExtras) -> list[dict[str, Any]]:
    """Return the list of pictures; raise Unreadable for an entry without data or name."""
    if len(asked.imageList) > MOST_PICTURES:
        raise InvalidValue.of("imageList", f"these are more than {MOST_PICTURES} pictures")
    problems = [
        Problem(loc=[BODY, "imageList", index, key], msg="field required", type="value_error.missing")
        for index, entry in enumerate(asked.imageList)
        for key in ("data", "name")
        if key not in entry
    ]
    if problems:
        raise Unreadable(problems)
    return asked.imageList


async def _made(choice: Chosen, picture: bytes, form: Form, maker: Maker, run: Run) -> bytes:
    if len(picture) > encoded.MOST_BYTES:
        raise InvalidValue.of("image", f"the picture is more than {encoded.MOST_BYTES} bytes")
    try:
        most = choice.options.integer(KEPT, 0, MOST_KEPT)
        result = await maker.enlarged(first_work(choice, picture), owner=run.owner, run=run, most=most)
        second = second_work(choice, picture, result)
        if second is not None:
            if len(picture) + len(result) > MOST_BYTES:
                text = "the pictures are too large for two upscalers; leave upscaler_2 empty"
                raise InvalidValue.of("upscaler_2", text)
            result = await maker.enlarged(second, owner=run.owner, run=run, most=most)
    except BadImage as error:
        raise bad_image(error) from None
    except InvalidValue as error:
        if error.fact("param") == "factor":
            raise InvalidValue.of("upscaling_resize", error.message) from None
        raise
    signed = add_text(result, _texts(picture) | {"postprocessing": told(choice)})
    (file,) = await delivered([signed], form, maker, owner=run.owner)
    return file


def _work(choice: Chosen, upscaler: Upscaler, picture: bytes) -> UpscaleRequest:
    asked = choice.asked
    tile, overlap = upscaler.tiles(choice.options)
    to_size = asked.resize_mode == 1
    return UpscaleRequest(
        model=upscaler.model,
        pictures=(picture,),
        factor=asked.upscaling_resize,
        size=Size(asked.upscaling_resize_w, asked.upscaling_resize_h) if to_size else None,
        crop=asked.upscaling_crop and to_size,
        kernel=upscaler.kernel,
        tile=tile,
        overlap=overlap,
    )


def _texts(picture: bytes) -> dict[str, str]:
    """Return the texts that a picture brings; what cannot be read is no reason to refuse it."""
    comment = comment_of(picture)
    parameters = {"parameters": comment} if comment else {}
    try:
        return read_text(picture) | parameters
    except BadImage:
        return parameters


def _check(asked: Extras) -> None:
    problems = []
    if asked.resize_mode not in (0, 1):
        given = {"given": asked.resize_mode, "permitted": [0, 1]}
        problems.append(_problem("resize_mode", "unexpected value; permitted: 0, 1", "value_error.const", given))
    for field in SHARES:
        value = getattr(asked, field)
        if value < 0:
            problems.append(_bound(field, "greater than or equal to", "not_ge", 0))
        if value > 1:
            problems.append(_bound(field, "less than or equal to", "not_le", 1))
    if asked.upscaling_resize <= 0:
        problems.append(_bound("upscaling_resize", "greater than", "not_gt", 0))
    for field in ("upscaling_resize_w", "upscaling_resize_h"):
        if getattr(asked, field) < 1:
            problems.append(_bound(field, "greater than or equal to", "not_ge", 1))
    if problems:
        raise Unreadable(problems)


def _bound(field: str, words: str, kind: str, limit: int) -> Problem:
    text = f"ensure this value is {words} {limit}"
    return _problem(field, text, f"value_error.number.{kind}", {"limit_value": limit})


def _problem(field: str, text: str, kind: str, ctx: dict[str, Any]) -> Problem:
    return Problem(loc=[BODY, field], msg=text, type=kind, ctx=ctx)


def _html(text: str) -> str:
    return f"<p>{html.escape(text).replace(chr(10), '<br>')}</p>"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
