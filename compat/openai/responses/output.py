"""The JSON that `/v1/responses` answers with: items, the response object, and the events of a stream.

Source: OpenAI's published OpenAPI document 2.3.0. A struct's tag is its `type`; every event has a `sequence_number`.
"""

from msgspec import UNSET, Struct, UnsetType

from compat.openai.picture_fields import ToolPictures
from compat.openai.responses.wire import Metadata, Reasoning, TextConfig
from compat.openai.wire import JsonObject, TokenLogprob


class OutputText(Struct, frozen=True, kw_only=True, tag_field="type", tag="output_text"):
    """The text of a message."""

    text: str
    annotations: tuple[str, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningText(Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning_text"):
    """The text of thoughts."""

    text: str


class MessageItem(Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """What the model says."""

    id: str
    status: str
    role: str = "assistant"
    content: tuple[OutputText, ...] = ()


class ReasoningItem(Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning"):
    """What the model thinks. Summaries are not made."""

    id: str
    status: str
    summary: tuple[str, ...] = ()
    content: tuple[ReasoningText, ...] = ()


class CallItem(Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call"):
    """A function that the model calls; `call_id` is what its result refers to."""

    id: str
    status: str
    call_id: str
    name: str
    arguments: str = ""


class PictureItem(Struct, frozen=True, kw_only=True, tag_field="type", tag="image_generation_call"):
    """A picture that the model has asked for: `result` is its file in base64, `revised_prompt` its prompt."""

    id: str
    status: str
    result: str | None = None
    revised_prompt: str | UnsetType = UNSET
    action: str | UnsetType = UNSET
    background: str | UnsetType = UNSET
    output_format: str | UnsetType = UNSET
    quality: str | UnsetType = UNSET
    size: str | UnsetType = UNSET


Piece = OutputText | ReasoningText
OutputItem = MessageItem | ReasoningItem | CallItem | PictureItem


class FunctionTool(Struct, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """A function as it was offered."""

    name: str
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class PictureTool(
    ToolPictures, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="image_generation"
):
    """The tool that makes pictures, as it was offered."""


Tool = FunctionTool | PictureTool


class Failure(Struct, frozen=True, kw_only=True):
    """Why a response failed."""

    code: str
    message: str


class Incomplete(Struct, frozen=True):
    """Why a response is incomplete."""

    reason: str


class InputDetails(Struct, frozen=True, kw_only=True):
    """How many tokens of the input were not computed again."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Struct, frozen=True):
    """What the written tokens were for."""

    reasoning_tokens: int


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of a response."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Response(Struct, frozen=True, kw_only=True):
    """`response`. Every key is always there."""

    id: str
    object: str = "response"
    created_at: int
    completed_at: int | None = None
    status: str = "in_progress"
    background: bool = False
    error: Failure | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: Metadata
    model: str
    output: tuple[OutputItem, ...] = ()
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    reasoning: Reasoning
    store: bool
    temperature: float | None = None
    text: TextConfig
    tool_choice: str | JsonObject = "auto"
    tools: tuple[Tool, ...] = ()
    top_logprobs: int = 0
    top_p: float | None = None
    truncation: str = "disabled"
    usage: Usage | None = None
    user: str | None = None


class _Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    sequence_number: int


class Created(_Event, frozen=True, kw_only=True, tag="response.created"):
    """First event: the response without output."""

    response: Response


class InProgress(_Event, frozen=True, kw_only=True, tag="response.in_progress"):
    """The work has begun."""

    response: Response


class Completed(_Event, frozen=True, kw_only=True, tag="response.completed"):
    """Last event of an answer that came to its end."""

    response: Response


class Ended(_Event, frozen=True, kw_only=True, tag="response.incomplete"):
    """Last event of an answer that met its limit."""

    response: Response


class Failed(_Event, frozen=True, kw_only=True, tag="response.failed"):
    """Last event of an answer that could not be finished."""

    response: Response


class ErrorEvent(_Event, frozen=True, kw_only=True, tag="error"):
    """What went wrong."""

    code: str | None
    message: str
    param: str | None


class ItemAdded(_Event, frozen=True, kw_only=True, tag="response.output_item.added"):
    """An item begins, empty."""

    output_index: int
    item: OutputItem


class ItemDone(_Event, frozen=True, kw_only=True, tag="response.output_item.done"):
    """An item is whole."""

    output_index: int
    item: OutputItem


class _InPart(_Event, frozen=True, kw_only=True):
    item_id: str
    output_index: int
    content_index: int = 0


class PartAdded(_InPart, frozen=True, kw_only=True, tag="response.content_part.added"):
    """A part of an item begins, empty."""

    part: Piece


class PartDone(_InPart, frozen=True, kw_only=True, tag="response.content_part.done"):
    """A part is whole."""

    part: Piece


class TextMore(_InPart, frozen=True, kw_only=True, tag="response.output_text.delta"):
    """More text."""

    delta: str
    logprobs: tuple[TokenLogprob, ...] = ()


class TextDone(_InPart, frozen=True, kw_only=True, tag="response.output_text.done"):
    """The whole text."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ThoughtMore(_InPart, frozen=True, kw_only=True, tag="response.reasoning_text.delta"):
    """More thoughts."""

    delta: str


class ThoughtDone(_InPart, frozen=True, kw_only=True, tag="response.reasoning_text.done"):
    """The whole thoughts."""

    text: str


class ArgumentsMore(_Event, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"):
    """More of a call's arguments."""

    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(_Event, frozen=True, kw_only=True, tag="response.function_call_arguments.done"):
    """A call's whole arguments."""

    item_id: str
    output_index: int
    name: str
    arguments: str


class _OfPicture(_Event, frozen=True, kw_only=True):
    item_id: str
    output_index: int


class PictureAsked(_OfPicture, frozen=True, kw_only=True, tag="response.image_generation_call.in_progress"):
    """The model asks for a picture."""


class PictureBegun(_OfPicture, frozen=True, kw_only=True, tag="response.image_generation_call.generating"):
    """The picture is being made, or waits for its turn."""


class PictureShown(_OfPicture, frozen=True, kw_only=True, tag="response.image_generation_call.partial_image"):
    """A rough look at the picture, a PNG."""

    partial_image_index: int
    partial_image_b64: str
    background: str = "opaque"
    output_format: str = "png"
    quality: str
    size: str


class PictureDone(_OfPicture, frozen=True, kw_only=True, tag="response.image_generation_call.completed"):
    """The picture is there; the item that follows has it."""


StreamEvent = (
    Created
    | InProgress
    | Completed
    | Ended
    | Failed
    | ErrorEvent
    | ItemAdded
    | ItemDone
    | PartAdded
    | PartDone
    | TextMore
    | TextDone
    | ThoughtMore
    | ThoughtDone
    | ArgumentsMore
    | ArgumentsDone
    | PictureAsked
    | PictureBegun
    | PictureShown
    | PictureDone
)


class Deleted(Struct, frozen=True, kw_only=True):
    """The answer to a deletion."""

    id: str
    object: str = "response"
    deleted: bool = True


class ItemList(Struct, frozen=True, kw_only=True):
    """A page of the items that a response was made from."""

    object: str = "list"
    data: list[JsonObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
