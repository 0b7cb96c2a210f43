"""Picture files and forms as clients send them."""

import io
from typing import Any

import httpx
import msgspec
from PIL import Image

from compat.openai.images import wire
from server.core.models import ImageFacts, ModelCard
from tests.support.fake_service import image_card

BOUNDARY = "a-boundary"


def picture(width: int = 64, height: int = 64, *, mode: str = "RGB", kind: str = "PNG", **settings: Any) -> bytes:
    """Return a picture file of one colour; with alpha it is half transparent throughout."""
    colour: Any = {"RGBA": (9, 8, 7, 128), "LA": (9, 128), "L": 9, "P": 1}.get(mode, (9, 8, 7))
    out = io.BytesIO()
    Image.new(mode, (width, height), colour).save(out, kind, **settings)
    return out.getvalue()


def hole(width: int = 64, height: int = 64, *, box: tuple[int, int, int, int] = (0, 0, 8, 8)) -> bytes:
    """Return an opaque RGBA PNG with a transparent box."""
    image = Image.new("RGBA", (width, height), (9, 8, 7, 255))
    image.paste((0, 0, 0, 0), box)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def form(files: list[tuple[str, bytes]], **texts: str) -> tuple[bytes, str]:
    """Return a multipart body as httpx writes it, and its boundary."""
    sent = [(name, ("f.bin", data, "application/octet-stream")) for name, data in files]
    request = httpx.Request("POST", "http://hearth/", data=texts, files=sent or [("none", ("n", b""))])
    kind = request.headers["content-type"]
    return request.read(), kind.partition("boundary=")[2]


def card(name: str = "paint", family: str = "sd1", **fields: Any) -> ModelCard:
    """Return a checkpoint's card of a family."""
    return image_card(name, image=ImageFacts(family=family), **fields)


def asked(**fields: Any) -> wire.GenerationRequest:
    """Return a request for a picture from a prompt."""
    return msgspec.convert({"prompt": "a cat", **fields}, wire.GenerationRequest)


def edited(**fields: Any) -> wire.EditRequest:
    """Return a request for an edit."""
    return msgspec.convert({"prompt": "a cat", **fields}, wire.EditRequest)
