"""From a request's list of tools to the tool `image_generation` with its checkpoint and the picture that it changes."""

import asyncio
from collections.abc import Sequence

from compat.openai.images.checkpoints import checkpoint_of
from compat.openai.picture_fields import ToolFields
from compat.openai.picture_tool.names import TYPE
from compat.openai.picture_tool.tool import Arguments, PictureTool
from server.core.errors import InvalidValue, UnknownModel, Unsupported
from server.core.models import ModelCard, ModelKind
from server.core.text import Message, PicturePart
from server.http.pictures import picture_at
from server.service.service import Service

MOST_CALLS = 8
"""How many calls are answered in one answer when the request does not say."""


def is_offered(tools: Sequence[ToolFields] | None) -> bool:
    """Tell whether the tool is among those of a request."""
    return any(tool.type == TYPE for tool in tools or ())


async def picture_tool(
    tools: Sequence[ToolFields] | None,
    service: Service,
    default: str,
    *,
    model: str = "",
    base: bytes | None = None,
    most: int | None = None,
) -> PictureTool | None:
    """Return the tool of a request, None when it is not among its tools.

    `default` is the checkpoint where the tool names none of ours; empty = as the picture routes choose. `model` is the
    chat model that is asked; `base` and `most` as in `PictureTool`.

    Raises:
        InvalidValue, Unsupported: there are several; no checkpoint, or none of its name; a field that makes no sense.
        BadImage: its mask is no picture, or has nothing open.
    """
    offered = [(f"tools[{number}]", tool) for number, tool in enumerate(tools or ()) if tool.type == TYPE]
    if not offered:
        return None
    if len(offered) > 1:
        raise InvalidValue.of(f"{offered[1][0]}.type", f"a request can have one tool of the type {TYPE!r}")
    ((where, asked),) = offered
    tool = PictureTool(
        asked=asked,
        card=_card(service, asked, where, default),
        where=where,
        sees=_sees(service, model),
        base=base,
        mask=_mask(asked, f"{where}.input_image_mask"),
        most=MOST_CALLS if most is None else most,
    )
    # What is wrong with it is told before the chat model is loaded. A large mask takes a while.
    await asyncio.to_thread(tool.work, Arguments(prompt="x"), 0)
    return tool


def _sees(service: Service, model: str) -> bool:
    try:
        return bool(service.find(model, ModelKind.TEXT).projector)
    except UnknownModel:
        return False  # whoever submits the chat is told


def _card(service: Service, asked: ToolFields, where: str, default: str) -> ModelCard:
    try:
        return checkpoint_of(service, asked.model, default)
    except InvalidValue as error:
        raise InvalidValue.of(f"{where}.model", error.message) from None
    except UnknownModel as error:
        if asked.model:
            raise InvalidValue.of(f"{where}.model", error.message) from None
        raise Unsupported.of(f"{where}.type", f"the tool {TYPE!r} needs a checkpoint: {error.message}") from None


def _mask(asked: ToolFields, where: str) -> bytes | None:
    address = asked.input_image_mask
    if address is None or (address.image_url is None and address.file_id is None):
        return None
    if address.image_url is None:
        raise Unsupported.of(f"{where}.file_id", "files are not kept by this server; give the mask as a data URL")
    return picture_at(address.image_url, f"{where}.image_url").data


def newest_picture(messages: Sequence[Message]) -> bytes | None:
    """Return the last picture in a conversation."""
    parts = (part for message in reversed(messages) for part in reversed(message.parts))
    return next((part.data for part in parts if isinstance(part, PicturePart)), None)
