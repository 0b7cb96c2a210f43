"""The JSON of Anthropic's Messages API, as structs without logic.

Source: Anthropic's published API reference (Messages, Count tokens, Streaming, Errors; version 2023-06-01) and the
types of its Python package 2.12. `None` in a request means absent. Fields that are accepted without effect are not
here; see `compat.anthropic.fields`.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

INT32 = 2**31 - 1
MAX_MESSAGES = 100_000  # the API's own limit
MAX_TOOLS = 1024

Temperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=INT32)]
TopK = Annotated[int, Meta(ge=-1, le=INT32)]
StopText = Annotated[str, Meta(max_length=10_000)]
StopTexts = Annotated[list[StopText], Meta(max_length=64)]
ModelName = Annotated[str, Meta(min_length=1, max_length=1024)]
ToolName = Annotated[str, Meta(min_length=1, max_length=256)]
ShortText = Annotated[str, Meta(max_length=64)]


class Source(Struct, frozen=True, kw_only=True):
    """Where a picture (`base64` or `url`) or a document comes from; of documents only those of `text` are read."""

    type: str
    media_type: ShortText | None = None
    data: str | None = None
    url: str | None = None


class Block(Struct, frozen=True, kw_only=True):
    """One block of a message, a system prompt or a tool's result: the fields of all types together."""

    type: str
    text: str | None = None
    source: Source | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: "str | list[Block] | None" = None
    is_error: bool | None = None
    thinking: str | None = None


class Message(Struct, frozen=True, kw_only=True):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(Struct, frozen=True, kw_only=True):
    """A tool of the client (`type` absent or `custom`); the others are Anthropic's own and refused."""

    name: ToolName
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class ToolChoice(Struct, frozen=True, kw_only=True):
    """Whether and which tools are to be called; `name` belongs to the type `tool`."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct, frozen=True, kw_only=True):
    """Whether the model thinks before it answers, for how many tokens, and whether its thoughts are told."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Meta(ge=1, le=INT32)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Struct, frozen=True, kw_only=True):
    """The form of the answer: `json_schema`."""

    type: str
    schema: dict[str, Any] | None = None


class OutputConfig(Struct, frozen=True, kw_only=True):
    """The form of the answer and the effort put into it."""

    effort: ShortText | None = None
    format: OutputFormat | None = None


class Conversation(Struct, frozen=True, kw_only=True):
    """What a request for an answer and one for a count share; also the body of `/v1/messages/count_tokens`."""

    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[Block] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    mcp_servers: Any = None
    container: Any = None
    cache_salt: Annotated[str, Meta(max_length=256)] | None = None


class MessagesRequest(Conversation, frozen=True, kw_only=True):
    """`POST /v1/messages`."""

    max_tokens: Count
    stop_sequences: StopTexts | None = None
    stream: bool | None = None
    temperature: Temperature | None = None
    top_k: TopK | None = None
    top_p: Share | None = None


class TokenCount(Struct, frozen=True):
    """The answer of `/v1/messages/count_tokens`."""

    input_tokens: int


class TextBlock(Struct, frozen=True, tag_field="type", tag="text"):
    """Text of an answer."""

    text: str


class ThinkingBlock(Struct, frozen=True, tag_field="type", tag="thinking"):
    """Thoughts that came before an answer."""

    thinking: str
    signature: str


class ToolUseBlock(Struct, frozen=True, tag_field="type", tag="tool_use"):
    """A call of a tool."""

    id: str
    name: str
    input: dict[str, Any]


AnswerBlock = TextBlock | ThinkingBlock | ToolUseBlock


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of an answer. All of the prompt is `input_tokens` and the two caches' together."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int


class Answer(Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """A message of the model, whole or (in `message_start`) before its first block."""

    id: str
    role: str = "assistant"
    model: str
    content: tuple[AnswerBlock, ...]
    stop_reason: str | None
    stop_sequence: str | None
    usage: Usage


class TextDelta(Struct, frozen=True, tag_field="type", tag="text_delta"):
    """More of a text block."""

    text: str


class ThinkingDelta(Struct, frozen=True, tag_field="type", tag="thinking_delta"):
    """More of a thinking block."""

    thinking: str


class SignatureDelta(Struct, frozen=True, tag_field="type", tag="signature_delta"):
    """The signature of a thinking block, at its end."""

    signature: str


class InputJsonDelta(Struct, frozen=True, tag_field="type", tag="input_json_delta"):
    """More of the JSON text of a call's input."""

    partial_json: str


Delta = TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class MessageStart(Struct, frozen=True, tag_field="type", tag="message_start"):
    """First event of a stream."""

    message: Answer


class ContentBlockStart(Struct, frozen=True, tag_field="type", tag="content_block_start"):
    """A block begins."""

    index: int
    content_block: AnswerBlock


class ContentBlockDelta(Struct, frozen=True, tag_field="type", tag="content_block_delta"):
    """More of the block that is open."""

    index: int
    delta: Delta


class ContentBlockStop(Struct, frozen=True, tag_field="type", tag="content_block_stop"):
    """The block is complete."""

    index: int


class StopDelta(Struct, frozen=True):
    """Why the message ended."""

    stop_reason: str
    stop_sequence: str | None


class MessageDelta(Struct, frozen=True, tag_field="type", tag="message_delta"):
    """The end of the message, with its final usage."""

    delta: StopDelta
    usage: Usage


class MessageStop(Struct, frozen=True, tag_field="type", tag="message_stop"):
    """Last event of a stream."""


StreamEvent = MessageStart | ContentBlockStart | ContentBlockDelta | ContentBlockStop | MessageDelta | MessageStop


class ErrorDetail(Struct, frozen=True):
    """What went wrong."""

    type: str
    message: str


class ErrorBody(Struct, frozen=True, tag_field="type", tag="error"):
    """The body of every refusal, and of an `error` event inside a stream."""

    error: ErrorDetail
    request_id: str | UnsetType = UNSET
