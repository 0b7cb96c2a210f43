"""The tool of one request: the function that the chat model is offered, and its calls as picture requests. Pure.

| the tool says | the model may say beside `prompt` |
|---|---|
| no `size`, or `auto` | `size`: square, portrait, landscape |
| no `action`, or `auto`, and there is a picture in the conversation | `edit`: that picture is changed |

With the `action` `edit` the newest picture is changed whatever the model says, with `generate` never.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from compat.openai.images import convert, recipes, wire
from compat.openai.images.given import check_mask
from compat.openai.images.look import look
from compat.openai.picture_fields import PictureFields, ToolFields
from compat.openai.picture_tool.names import PICTURE, TYPE
from server.core.errors import BadRequest, InvalidValue
from server.core.image import ImageRequest
from server.core.models import ModelCard
from server.core.text import ChatRequest, Message, Part, PicturePart, TextPart, Tool

LONGEST_PROMPT = 2000
"""Of what the model says; a model that finds no end is stopped there."""

SHAPES = {"square": (1, 1), "portrait": (2, 3), "landscape": (3, 2)}

_ABOUT = "Makes a picture and shows it to the user. Call it when the user wants to see, draw or change a picture."
_PROMPT = "What the picture shows, in full: subject, surroundings, light, style."
_SIZE = "The shape of the picture."
_EDIT = "true: change the newest picture of this conversation; false: make a new one."


class Arguments(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says in a call."""

    prompt: Annotated[str, Meta(min_length=1, max_length=LONGEST_PROMPT)]
    size: Literal["square", "portrait", "landscape"] | None = None
    edit: bool | None = None


class PictureTool(msgspec.Struct, frozen=True, kw_only=True):
    """The tool with its checkpoint.

    `where` is its path in the request. `base` is the newest picture of the conversation, `mask` what is open in it.
    `most` calls are answered in one answer. `sees`: the chat model takes pictures.
    """

    asked: ToolFields
    card: ModelCard
    where: str
    base: bytes | None = None
    mask: bytes | None = None
    most: int
    sees: bool = False

    def function(self) -> Tool:
        """Return what the model is offered."""
        properties: dict[str, object] = {
            "prompt": {"type": "string", "description": _PROMPT, "minLength": 1, "maxLength": LONGEST_PROMPT}
        }
        if self._is_free_in_size():
            properties["size"] = {"type": "string", "description": _SIZE, "enum": list(SHAPES)}
        if self.base is not None and self.asked.action in (None, "auto"):
            properties["edit"] = {"type": "boolean", "description": _EDIT}
        schema = {"type": "object", "properties": properties, "required": ["prompt"], "additionalProperties": False}
        return Tool(name=TYPE, description=_ABOUT, parameters=msgspec.json.encode(schema).decode())

    def offered(self, work: ChatRequest) -> ChatRequest:
        """Return the chat with this function in the place of what stands for the tool.

        A model that does not see is told of pictures in words: it can have them changed all the same.

        Raises:
            InvalidValue: a function has the tool's name, or several answers are wanted.
        """
        if sum(tool.name == TYPE for tool in work.tools) > 1:
            raise InvalidValue.of(f"{self.where}.type", f"a function cannot be called {TYPE!r} beside this tool")
        if work.choices > 1:
            raise InvalidValue.of("n", f"'n' must be 1 with a tool of the type {TYPE!r}")
        own = self.function()
        tools = tuple(own if tool.name == TYPE else tool for tool in work.tools)
        blind = own in tools and not self.sees and self.asked.action != "generate"
        messages = tuple(map(_told, work.messages)) if blind else work.messages
        return msgspec.structs.replace(work, tools=tools, messages=messages)

    def read(self, arguments: str) -> Arguments:
        """Return what a call says; raise InvalidValue with a sentence for the model."""
        try:
            return msgspec.json.decode(arguments, type=Arguments)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            text = f"The arguments must be a JSON object with a prompt of 1 ... {LONGEST_PROMPT} characters: {error}"
            raise InvalidValue.of("arguments", text) from None

    def edits(self, said: Arguments) -> bool:
        """Tell whether a call changes the newest picture."""
        match self.asked.action:
            case "edit":
                return True
            case "generate":
                return False
            case _:
                return bool(said.edit) and self.base is not None

    def request(self, said: Arguments, *, stream: bool = True) -> wire.GenerationRequest | wire.EditRequest:
        """Return a call as a request of the picture routes."""
        fields = {name: getattr(self.asked, name) for name in PictureFields.__struct_fields__}
        if self._is_free_in_size() and said.size is not None:
            size = recipes.fitted(*SHAPES[said.size], recipes.side_of(self.card))
            fields["size"] = f"{size.width}x{size.height}"
        fields |= {"prompt": said.prompt, "stream": stream}
        if self.edits(said):
            return wire.EditRequest(input_fidelity=self.asked.input_fidelity, **fields)
        return wire.GenerationRequest(**fields)

    def work(self, said: Arguments, seed: int) -> ImageRequest:
        """Return what the engine is asked for; `seed` counts where the tool has none.

        Raises:
            BadRequest: as `images.convert.to_core`, with the field's path in the request; there is no picture to be
                changed, or it cannot be read.
        """
        request = self.request(said)
        try:
            given = self._given() if isinstance(request, wire.EditRequest) else None
            return convert.to_core(request, self.card, seed, given)
        except BadRequest as error:
            raise self.placed(error) from None

    def placed(self, error: BadRequest) -> BadRequest:
        """Return an error about a field of pictures with the field's path in the request."""
        param = error.fact("param")
        return type(error)(error.message, **{**error.facts, "param": f"{self.where}.{param or 'type'}"})

    def _given(self) -> convert.Given:
        if self.base is None:
            raise InvalidValue.of("action", "there is no picture in the conversation to be changed")
        given = convert.Given(image=self.base, seen=look(self.base, "image"), mask=self.mask)
        if self.mask is not None:
            check_mask(self.mask, given.seen)
        return given

    def _is_free_in_size(self) -> bool:
        return (self.asked.size or "auto").strip().lower() == "auto"


def _told(message: Message) -> Message:
    """Return a message with words in the place of its pictures."""
    parts: tuple[Part, ...] = tuple(
        TextPart(PICTURE) if isinstance(part, PicturePart) else part for part in message.parts
    )
    return message if parts == message.parts else msgspec.structs.replace(message, parts=parts)
