"""What can be asked of a text model, and the events that come back. `None` in a request means the engine's default."""

from typing import Literal

import msgspec


class TextPart(msgspec.Struct, frozen=True, tag="text_part"):
    """A run of text inside a message."""

    text: str


class PicturePart(msgspec.Struct, frozen=True, tag="picture_part"):
    """An encoded picture inside a message (PNG, JPEG or WebP bytes)."""

    data: bytes


Part = TextPart | PicturePart


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that an assistant message made; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function the model may call; `parameters` is a JSON schema as JSON text."""

    name: str
    description: str = ""
    parameters: str = "{}"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation. `role` is system, user, assistant or tool."""

    role: str
    parts: tuple[Part, ...] = ()
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are chosen, in llama.cpp's terms and with its defaults where a field is None.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1, `min_p` 0 and `typical_p` 1 switch a filter off. `repeat_last_n`
    counts tokens (-1 = the whole context). `seed` is 0 ... 2^32-1. `max_tokens` None means up to the end of the
    context. `stop` strings end the text and are not part of it. `logit_bias` pairs token ids with a bias that is added;
    -inf forbids a token.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    ignore_eos: bool = False


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, tag="chat"):
    """A conversation to be continued `choices` times. `template_options` reach the chat template as variables.

    `continue_final` continues the last (assistant) message instead of opening a new one.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()
    choices: int = 1
    tools: tuple[Tool, ...] = ()
    template_options: dict[str, bool | int | float | str] = {}
    continue_final: bool = False


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True, tag="completion"):
    """Raw prompts (text or token ids), each to be continued `choices` times.

    Choice `k` of prompt `i` has the index `i * choices + k` in every event. `echo` sends the prompt's text first.
    """

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    sampling: SamplingParams = SamplingParams()
    choices: int = 1
    echo: bool = False


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one choice. `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class TextStarted(msgspec.Struct, frozen=True, kw_only=True, tag="text_started"):
    """The request is valid and fits: every prompt is tokenised. First event of a text job. Counts all prompts."""

    prompt_tokens: int


class TextDelta(msgspec.Struct, frozen=True, kw_only=True, tag="text_delta"):
    """More text of one choice: whole characters only, never a part of a stop string. Never empty.

    `tokens` is how many tokens it stands for.
    """

    choice: int
    text: str
    tokens: int = 1


FinishReason = Literal["stop", "length", "cancelled"]


class TextFinished(msgspec.Struct, frozen=True, kw_only=True, tag="text_finished"):
    """One choice is complete. `stop`: end token or stop string; `length`: max_tokens or the context is full."""

    choice: int
    reason: FinishReason
    usage: Usage
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


GenerationEvent = TextStarted | TextDelta | TextFinished
