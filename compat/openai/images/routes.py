"""The handlers of `/v1/images/*`."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from litestar import Request, Response, get, post
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ASGIApp

from compat.openai import serve
from compat.openai.desk import Desk
from compat.openai.errors import reply
from compat.openai.fields import Field
from compat.openai.images import answer, convert, fields, wire
from compat.openai.images.answer import Making
from compat.openai.images.checkpoints import checkpoint_of
from compat.openai.images.given import Asked, read
from compat.openai.images.settings import ImagesSettings
from compat.openai.images.store import PictureStore
from compat.openai.images.stream import Kind, PictureEncoder, encode
from compat.openai.specs import answers
from server.core.errors import BadRequest
from server.http.json_body import JsonBody, reading
from server.http.picture_files import MEDIA_TYPES
from server.http.sse import event_stream, frame
from server.service.service import JobStream

FILES = "/images/files"

_PARAM = "prompt"
_MULTIPART = "multipart/form-data"
_OUR_WORDS = {"init_images": "image", "width": "size", "height": "size", "batches": "n"}


class FormBody(JsonBody):
    """A request whose multipart body the door reads itself."""

    async def body(self) -> bytes:
        """Return the bytes of the body."""
        return await Request.body(self)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A request that has been read. `given` is the picture that it starts from."""

    kind: Kind
    asked: wire.PictureRequest
    given: convert.Given | None = None
    ignored: tuple[str, ...] = ()


class ImagesDoor:
    """What the handlers do. Owns the pictures behind URLs."""

    def __init__(self, desk: Desk, settings: ImagesSettings) -> None:
        self._desk = desk
        self._settings = settings
        self._store = PictureStore(limit=settings.url_bytes, life_s=settings.url_s, clock=time.time)

    async def generate(self, data: wire.GenerationRequest, request: JsonBody) -> serve.Answer:
        """Make pictures from a prompt."""
        return await self._make(Order(kind="image_generation", asked=data, ignored=request.ignored), request)

    async def edit(self, request: FormBody) -> serve.Answer:
        """Change a picture, or the part of it that a mask leaves open."""
        asked, given, ignored = await _read(request, wire.EditRequest)
        return await self._make(Order(kind="image_edit", asked=asked, given=given, ignored=ignored), request)

    async def vary(self, request: FormBody) -> serve.Answer:
        """Make pictures that are like another one."""
        asked, given, ignored = await _read(request, wire.VariationRequest)
        return await self._make(Order(kind="image_edit", asked=asked, given=given, ignored=ignored), request)

    def file(self, name: str, expires: str, signature: str) -> Response[bytes]:
        """Return the picture behind a URL; raise NotFoundException, whatever the reason."""
        kept = self._store.get(name, expires, signature)
        if kept is None:
            raise NotFoundException(detail="there is no such picture, or its URL has ended")
        left = max(kept.expires - int(time.time()), 0)
        headers = {"Cache-Control": f"private, max-age={left}", "Content-Disposition": "inline"}
        return Response(kept.data, media_type=MEDIA_TYPES[kept.kind], headers=headers)

    async def _make(self, order: Order, request: JsonBody) -> serve.Answer:
        desk, asked = self._desk, order.asked
        card = checkpoint_of(desk.service, asked.model, self._settings.default_model)
        work = convert.to_core(asked, card, convert.draw_seed(), order.given)
        ignored = desk.noted(order.ignored + convert.without_effect(asked))
        accepted = serve.Order(param=_PARAM, ignored=ignored)
        making = Making(work=work, effort=convert.effort_of(asked), created=int(time.time()))
        with _in_our_words():
            stream = serve.submitted(desk.service, work, request)
            if asked.stream:
                encoder = PictureEncoder(order.kind, making, asked.partial_images or 0)
                return await self._streamed(stream, accepted, encoder, request)
            made = await serve.gathered(stream, accepted, answer.collect, request)
        unused = desk.told(convert.unused(asked, made.ignored))
        accepted = msgspec.structs.replace(accepted, ignored=accepted.ignored + unused)
        if asked.response_format == "url":
            base = f"{str(request.base_url).rstrip('/')}/v1{FILES}/"
            body = answer.as_urls(making, made.pictures, lambda file: base + self._store.put(file, making.kind))
        else:
            body = await asyncio.to_thread(answer.as_base64, making, made.pictures)
        return serve.whole(body, accepted)

    async def _streamed(
        self, stream: JobStream, order: serve.Order, encoder: PictureEncoder, request: JsonBody
    ) -> serve.Answer:
        settings = self._desk.settings
        accepted = await serve.opened(stream, order, request, settings.patience_s)
        frames = _frames(stream, encoder, b"" if accepted else serve.WAITING)
        return event_stream(frames, headers=order.headers, ping_s=settings.ping_s, on_close=stream.aclose)


async def _read(request: FormBody, wanted: type[Asked]) -> tuple[Asked, convert.Given, tuple[str, ...]]:
    kind, options = request.content_type
    if kind != _MULTIPART or not options.get("boundary"):
        raise HTTPException(status_code=415, detail=f"send pictures and fields as {_MULTIPART}")
    body = await request.body()
    return await asyncio.to_thread(read, body, options["boundary"], wanted)


async def _frames(stream: JobStream, encoder: PictureEncoder, preface: bytes) -> AsyncIterator[bytes]:
    """Yield the frames of a job; an error is a frame and the end."""
    try:
        if preface:
            yield preface
        with _in_our_words():
            async for event in stream:
                for made in encoder.feed(event):
                    yield frame(encode(made), event=made.type)
            encoder.close()
    except Exception as error:
        yield frame(reply(error).body, event="error")


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Name fields as this API does in errors of the engine."""
    try:
        yield
    except BadRequest as error:
        param = _OUR_WORDS.get(str(error.fact("param")))
        if param is None:
            raise
        raise type(error)(error.message, **{**error.facts, "param": param}) from None


def _form_of(wanted: type[msgspec.Struct], table: Mapping[str, Field]) -> type[Operation]:
    """Return how the API description tells of a multipart body."""
    pictures = [name for name in ("image", "mask") if name in table]
    properties: dict[str, Any] = {
        name: Schema(type=OpenAPIType.STRING, description=table[name].note or None) for name in wanted.__struct_fields__
    }
    for name in pictures:
        properties[name] = Schema(
            type=OpenAPIType.STRING, content_media_type="application/octet-stream", description=table[name].note
        )
    schema = Schema(type=OpenAPIType.OBJECT, properties=properties, required=["image"])

    @dataclass
    class FormOperation(Operation):
        """An operation with a multipart body."""

        def __post_init__(self) -> None:
            self.request_body = RequestBody(required=True, content={_MULTIPART: OpenAPIMediaType(schema=schema)})

    return FormOperation


def image_routes(desk: Desk, settings: ImagesSettings | None = None) -> list[HTTPRouteHandler]:
    """Return the handlers below `/v1`."""
    door = ImagesDoor(desk, settings or ImagesSettings())
    described = answers(wire.PicturesAnswer, "The pictures, or a stream of events")

    @post(
        "/images/generations",
        status_code=200,
        request_class=reading(wire.GenerationRequest),
        responses=described,
        summary="Make pictures from a prompt",
    )
    async def generations(data: JSONBody[wire.GenerationRequest], request: JsonBody) -> ASGIApp:
        return cast("ASGIApp", await door.generate(data, request))

    @post(
        "/images/edits",
        status_code=200,
        request_class=FormBody,
        responses=described,
        operation_class=_form_of(wire.EditRequest, fields.EDIT),
        summary="Change a picture",
    )
    async def edits(request: FormBody) -> ASGIApp:
        return cast("ASGIApp", await door.edit(request))

    @post(
        "/images/variations",
        status_code=200,
        request_class=FormBody,
        responses=described,
        operation_class=_form_of(wire.VariationRequest, fields.VARIATION),
        summary="Make pictures that are like another one",
    )
    async def variations(request: FormBody) -> ASGIApp:
        return cast("ASGIApp", await door.vary(request))

    @get(FILES + "/{file:str}", opt={"public": True}, media_type="image/png", summary="A picture behind a signed URL")
    async def file(
        file: FromPath[str], expires: FromQuery[str] = "", signature: FromQuery[str] = ""
    ) -> Response[bytes]:
        return door.file(file, expires, signature)

    return [generations, edits, variations, file]
