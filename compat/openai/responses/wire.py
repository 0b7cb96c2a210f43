"""The JSON of a request to `/v1/responses`, as structs without logic.

Source: OpenAI's published OpenAPI document 2.3.0. An item is one lenient struct for all its kinds: clients leave out
`type` on messages, and send back what they were given with keys that have no effect here.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from compat.openai.picture_fields import ToolFields
from compat.openai.wire import Function, ImageUrl, JsonObject, Likely, Limit, SamplerFields, ShortText

MAX_ITEMS = 4096
MAX_TOOLS = 128

ItemId = Annotated[str, Meta(max_length=256)]


class Part(Struct, frozen=True, omit_defaults=True):
    """A part of a message, of a tool's output, or of thoughts; texts, refusals and pictures are read."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    file_id: str | None = None
    detail: ShortText | None = None


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item of the input: `message` (by default), `function_call`, `function_call_output`, `reasoning`, ...

    `result` is the picture of an `image_generation_call` in base64, `revised_prompt` what it was made from.
    """

    type: str | None = None
    id: ItemId | None = None
    status: ShortText | None = None
    role: ShortText | None = None
    content: str | list[Part] | None = None
    call_id: ItemId | None = None
    name: Annotated[str, Meta(max_length=256)] | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None
    summary: list[Part] | None = None
    result: str | None = None
    revised_prompt: str | None = None


class Tool(ToolFields, frozen=True, kw_only=True):
    """A tool; of the types `function` and `image_generation` are used. Some clients nest functions as chats do."""

    type: str
    name: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None
    function: Function | None = None


class TextFormat(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The form of the answer, flat: `text`, `json_object` or `json_schema`."""

    type: str
    name: str | None = None
    schema: JsonObject | None = None
    strict: bool | None = None
    description: str | None = None


class TextConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the text is to be."""

    format: TextFormat | None = None
    verbosity: ShortText | None = None


class Reasoning(Struct, frozen=True, kw_only=True):
    """How much is thought, and how that is told."""

    effort: ShortText | None = None
    summary: ShortText | None = None
    generate_summary: ShortText | None = None


Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


class ResponsesRequest(SamplerFields, frozen=True, kw_only=True):
    """`POST /v1/responses`."""

    input: str | Annotated[list[Item], Meta(max_length=MAX_ITEMS)] | None = None
    instructions: str | None = None
    max_output_tokens: Limit | None = None
    previous_response_id: ItemId | None = None
    store: bool | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    include: Annotated[list[ShortText], Meta(max_length=64)] | None = None
    top_logprobs: Likely | None = None
    metadata: Metadata | None = None
    user: Annotated[str, Meta(max_length=1024)] | None = None
    chat_template_kwargs: JsonObject | None = None

    background: Any = None
    conversation: Any = None
    prompt: Any = None
    context_management: Any = None
    max_tool_calls: Annotated[int, Meta(ge=1, le=1024)] | None = None
