"""Which fields of the picture routes are honoured, ignored or refused, and why. A test holds this against the structs.

Ignored fields are named in the answer's `x-hearth-ignored`, as is any unknown one. The pictures themselves (`image`,
`mask`) come in multipart bodies alone.
"""

from collections.abc import Mapping

from compat.openai.fields import Field, Standing


def _honoured(note: str = "") -> Field:
    return Field(standing=Standing.HONOURED, note=note)


def _ignored(note: str) -> Field:
    return Field(standing=Standing.IGNORED, note=note)


def _refused(note: str) -> Field:
    return Field(standing=Standing.REFUSED, note=note)


_OWN = "Hearth's own field"
_BOOKKEEPING = "bookkeeping of the hosted service"
_DRAWINGS = "nothing is animated or drawn in lines"

_PICTURES: dict[str, Field] = {
    "model": _honoured("a checkpoint; absent, or a hosted model's name = the default one"),
    "n": _honoured("1 ... 10, made one after the other"),
    "size": _honoured("auto or WIDTHxHEIGHT"),
    "quality": _honoured("how many steps are done; unknown ones have no effect"),
    "response_format": _honoured("b64_json (the default) or url"),
    "output_format": _honoured("png (the default), jpeg, webp; others are refused"),
    "output_compression": _honoured("0 ... 100, of jpeg and webp: 100, the default, keeps most"),
    "background": _honoured("auto or opaque; transparent is refused, pictures are opaque"),
    "stream": _honoured(),
    "partial_images": _honoured("0 ... 3 for each picture, with stream"),
    "negative_prompt": _honoured(_OWN),
    "seed": _honoured(_OWN),
    "steps": _honoured(_OWN),
    "cfg_scale": _honoured(_OWN),
    "sampler": _honoured(_OWN),
    "schedule": _honoured(_OWN),
    "moderation": _ignored("nothing is moderated"),
    "style": _ignored("the checkpoint decides"),
    "complexity": _ignored("nothing is planned"),
    "frame_count": _ignored(_DRAWINGS),
    "frame_duration_ms": _ignored(_DRAWINGS),
    "svg": _ignored(_DRAWINGS),
    "user": _ignored(_BOOKKEEPING),
    "safety_identifier": _ignored(_BOOKKEEPING),
}

GENERATION: Mapping[str, Field] = _PICTURES | {"prompt": _honoured("as it is: no weights, no networks")}

EDIT: Mapping[str, Field] = _PICTURES | {
    "prompt": _honoured("as it is: no weights, no networks"),
    "input_fidelity": _honoured("low or high: how far the edit goes when strength is absent"),
    "strength": _honoured(_OWN),
    "image": _honoured("one picture: PNG, JPEG, WebP, GIF, BMP"),
    "mask": _honoured("an RGBA PNG as large as the picture: its transparent part is made anew"),
    "markup": _refused("drawings on top of a picture are not understood; use a mask"),
}

VARIATION: Mapping[str, Field] = _PICTURES | {
    "prompt": _honoured(_OWN),
    "strength": _honoured(_OWN),
    "image": _honoured("one picture: PNG, JPEG, WebP, GIF, BMP"),
}
