"""The JSON of the OpenAI API and of llama-server's additions, as structs without logic.

Source: OpenAI's published OpenAPI document 2.3.0 (chat completions, completions, models) and llama-server's README for
the sampling fields, `timings` and the extras of `/v1/models`. `None` means absent: clients send null for "not set".
Every number has bounds, so nothing unchecked travels on. Fields that are accepted without effect are not here; see
`compat.openai.fields`.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

INT32 = 2**31 - 1
INT64 = 2**63 - 1
MAX_MESSAGES = 4096
MAX_PROMPTS = 2048
MAX_TOKEN_IDS = 2**20

Temperature = Annotated[float, Meta(ge=0, le=100)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Factor = Annotated[float, Meta(ge=0, le=100)]
TopK = Annotated[int, Meta(ge=-1, le=INT32)]
LastN = Annotated[int, Meta(ge=-1, le=INT32)]
Limit = Annotated[int, Meta(ge=-2, le=INT32)]
Seed = Annotated[int, Meta(ge=-INT64, le=INT64)]
Choices = Annotated[int, Meta(ge=1, le=128)]
BestOf = Annotated[int, Meta(ge=1, le=20)]
TokenId = Annotated[int, Meta(ge=0, le=INT32)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
StopText = Annotated[str, Meta(max_length=10_000)]
StopTexts = Annotated[list[StopText], Meta(max_length=64)]
BiasMap = Annotated[dict[str, Bias | bool], Meta(max_length=1024)]
BiasPairs = Annotated[list[tuple[TokenId, Bias | bool]], Meta(max_length=1024)]
ModelName = Annotated[str, Meta(max_length=1024)]
ShortText = Annotated[str, Meta(max_length=64)]


class ContentPart(Struct, frozen=True):
    """One part of a message. Only text and refusal are read; the others (`image_url`, `input_audio`) are refused."""

    type: str
    text: str | None = None
    refusal: str | None = None


class FunctionCall(Struct, frozen=True):
    """A call in the history. `arguments` is JSON text; some clients echo it as an object."""

    name: str
    arguments: str | dict[str, Any] | None = None


class ToolCall(Struct, frozen=True):
    """A tool call in the history."""

    function: FunctionCall
    id: str | None = None
    type: str | None = None


class Message(Struct, frozen=True):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=128)] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Function(Struct, frozen=True):
    """A function that may be called. `parameters` is a JSON schema."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, frozen=True):
    """A tool that the model may use; of the types only `function` is known."""

    type: str = "function"
    function: Function | None = None


class StreamOptions(Struct, frozen=True):
    """Options of a streamed answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ResponseFormat(Struct, frozen=True):
    """The form of the answer: `text`, `json_object` or `json_schema`."""

    type: str
    json_schema: Any = None


class SamplingFields(Struct, frozen=True, kw_only=True):
    """What chat and plain completions share: OpenAI's fields, then llama.cpp's, then those that are refused."""

    model: ModelName | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: BiasMap | BiasPairs | None = None
    max_tokens: Limit | None = None
    n: Choices | None = None
    presence_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: StopText | StopTexts | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None

    top_k: TopK | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repeat_penalty: Factor | None = None
    repetition_penalty: Factor | None = None
    repeat_last_n: LastN | None = None
    ignore_eos: bool | None = None
    n_predict: Limit | None = None
    max_completion_tokens: Limit | None = None

    response_format: ResponseFormat | None = None
    grammar: Any = None
    json_schema: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    structured_outputs: Any = None
    n_probs: Any = None
    lora: Any = None


class ChatCompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: Annotated[list[Function], Meta(max_length=128)] | None = None
    function_call: str | dict[str, Any] | None = None
    reasoning_effort: ShortText | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    modalities: list[str] | None = None

    audio: Any = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    chat_template: Any = None


class CompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """`POST /v1/completions`. `prompt` is a text, texts, the token ids of one prompt, or of several."""

    prompt: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1, max_length=MAX_TOKEN_IDS)]
    echo: bool | None = None
    best_of: BestOf | None = None

    suffix: Any = None
    logprobs: bool | int | None = None


class PromptTokensDetails(Struct, frozen=True):
    """How many of the prompt's tokens were not computed again."""

    cached_tokens: int


class CompletionTokensDetails(Struct, frozen=True):
    """What the written tokens were for."""

    reasoning_tokens: int


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of a whole answer, all its choices together; a prompt counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class Timings(Struct, frozen=True, kw_only=True):
    """Speed as llama-server tells it. Times are milliseconds."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float


class Delta(Struct, frozen=True):
    """What is new in a choice: nothing, its role, or more text."""

    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET


class ChunkChoice(Struct, frozen=True, kw_only=True):
    """A choice in a streamed chat answer."""

    index: int
    delta: Delta
    logprobs: None = None
    finish_reason: str | None = None


class Chunk(Struct, frozen=True, kw_only=True):
    """`chat.completion.chunk`. `usage` is absent unless it was asked for, and null until the last chunk."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET


class AssistantMessage(Struct, frozen=True, kw_only=True):
    """The message of a whole answer."""

    role: str = "assistant"
    content: str | None
    refusal: None = None
    annotations: tuple[str, ...] = ()


class ChatChoice(Struct, frozen=True, kw_only=True):
    """A choice of a whole chat answer."""

    index: int
    message: AssistantMessage
    logprobs: None = None
    finish_reason: str


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """`chat.completion`."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChatChoice, ...]
    usage: Usage
    timings: Timings | UnsetType = UNSET


class CompletionChoice(Struct, frozen=True, kw_only=True):
    """A choice of a plain completion, whole or streamed."""

    text: str
    index: int
    logprobs: None = None
    finish_reason: str | None = None


class Completion(Struct, frozen=True, kw_only=True):
    """`text_completion`, whole or one chunk of a stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[CompletionChoice, ...]
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET


class ModelMeta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Figures of a model under llama-server's names; what a model has not is left out. `size` is in bytes."""

    size: int
    n_ctx_train: int = 0
    n_params: int = 0
    n_vocab: int = 0
    n_embd: int = 0
    ftype: str = ""


class ModelStatus(Struct, frozen=True):
    """`loaded`, `loading` or `unloaded`."""

    value: str


class ModelArchitecture(Struct, frozen=True, kw_only=True):
    """What goes in and what comes out."""

    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]


class Model(Struct, frozen=True, kw_only=True):
    """One entry of `/v1/models`; `created` is when its file was last changed."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "hearth"
    aliases: tuple[str, ...]
    meta: ModelMeta
    status: ModelStatus
    architecture: ModelArchitecture


class ModelList(Struct, frozen=True, kw_only=True):
    """`GET /v1/models`."""

    object: str = "list"
    data: tuple[Model, ...]


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """What went wrong: all four keys are always there."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    n_prompt_tokens: int | UnsetType = UNSET
    n_ctx: int | UnsetType = UNSET


class ErrorBody(Struct, frozen=True):
    """The body of every refusal, and of an error inside a stream."""

    error: ErrorDetail
