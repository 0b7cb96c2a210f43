"""The JSON of the OpenAI API and of llama-server's additions, as structs without logic.

Source: OpenAI's published OpenAPI document 2.3.0 (chat completions, completions) and llama-server's README for the
sampling fields and `timings`. `None` means absent: clients send null for "not set". Every number has bounds, so nothing
unchecked travels on. Fields that are accepted without effect are not here; see `compat.openai.fields`. The structs of
`/v1/models` are in `models_wire`, of embeddings and reranking in `vectors_wire`, of responses in `responses.wire`.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from compat.openai.picture_fields import ToolFields

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
BiasText = Annotated[str, Meta(min_length=1, max_length=1024)]
BiasPairs = Annotated[list[tuple[TokenId | BiasText, Bias | bool]], Meta(max_length=1024)]
ModelName = Annotated[str, Meta(max_length=1024)]
ShortText = Annotated[str, Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0, le=INT32)]
Budget = Annotated[int, Meta(ge=-1, le=INT32)]
Likely = Annotated[int, Meta(ge=0, le=20)]
Sigmas = Annotated[float, Meta(ge=-1, le=100)]
Breakers = Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=64)]
SamplerNames = Annotated[list[ShortText], Meta(max_length=64)]
GrammarText = Annotated[str, Meta(max_length=2**20)]
Choice = Annotated[str, Meta(max_length=10_000)]
Choosable = Annotated[list[Choice], Meta(max_length=1024)]
JsonObject = dict[str, Any]


class ImageUrl(Struct, frozen=True):
    """Where a picture is: a data URL, or an address. `detail` has no effect: a model sees as much as it can."""

    url: str
    detail: ShortText | None = None


class ContentPart(Struct, frozen=True):
    """One part of a message. Texts, refusals and pictures are read; the others (`input_audio`, `file`) are refused."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None


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
    images: Any = None


class Function(Struct, frozen=True):
    """A function that may be called. `parameters` is a JSON schema."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(ToolFields, frozen=True, kw_only=True):
    """A tool that the model may use, of the type `function` or `image_generation`."""

    function: Function | None = None


class StreamOptions(Struct, frozen=True):
    """Options of a streamed answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchemaFormat(Struct, frozen=True):
    """A named JSON schema."""

    name: str | None = None
    schema: JsonObject | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(Struct, frozen=True):
    """The form of the answer: `text`, `json_object` (llama-server takes a `schema` beside it) or `json_schema`."""

    type: str
    json_schema: JsonSchemaFormat | None = None
    schema: JsonObject | None = None


class StructuredOutputs(Struct, frozen=True):
    """The form of the answer as vLLM's clients say it."""

    json: JsonObject | str | None = None
    regex: GrammarText | None = None
    choice: Choosable | None = None
    grammar: GrammarText | None = None
    json_object: bool | None = None
    structural_tag: Any = None


class LoraScale(Struct, frozen=True, kw_only=True):
    """How strongly an adapter of the model acts: `id` is its place in `/lora-adapters`, or its name."""

    id: Annotated[int, Meta(ge=0, le=INT32)] | Annotated[str, Meta(min_length=1, max_length=1024)]
    scale: Annotated[float, Meta(ge=-1000, le=1000)] = 0.0


class SamplerFields(Struct, frozen=True, kw_only=True):
    """How tokens are chosen and what they form: OpenAI's fields, llama.cpp's, and other servers' names for them."""

    model: ModelName | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: BiasMap | BiasPairs | None = None
    presence_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: StopText | StopTexts | None = None
    stream: bool | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None

    top_k: TopK | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repeat_penalty: Factor | None = None
    repetition_penalty: Factor | None = None
    repeat_last_n: LastN | None = None
    ignore_eos: bool | None = None
    min_keep: Count | None = None
    top_n_sigma: Sigmas | None = None
    dynatemp_range: Factor | None = None
    dynatemp_exponent: Factor | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    dry_multiplier: Factor | None = None
    dry_base: Factor | None = None
    dry_allowed_length: Count | None = None
    dry_penalty_last_n: LastN | None = None
    dry_sequence_breakers: Breakers | Annotated[str, Meta(max_length=10_000)] | None = None
    mirostat: Annotated[int, Meta(ge=0, le=2)] | None = None
    mirostat_mode: Annotated[int, Meta(ge=0, le=2)] | None = None
    mirostat_tau: Factor | None = None
    mirostat_eta: Factor | None = None
    samplers: SamplerNames | Annotated[str, Meta(max_length=1024)] | None = None

    grammar: GrammarText | None = None
    json_schema: JsonObject | str | None = None
    regex: GrammarText | None = None
    guided_json: JsonObject | str | None = None
    guided_regex: GrammarText | None = None
    guided_choice: Choosable | None = None
    guided_grammar: GrammarText | None = None
    structured_outputs: StructuredOutputs | None = None
    grammar_lazy: Any = None
    lora: Annotated[list[LoraScale], Meta(max_length=64)] | None = None
    cache_salt: Annotated[str, Meta(max_length=256)] | None = None
    id_slot: Annotated[int, Meta(ge=-1, le=INT32)] | None = None


class SamplingFields(SamplerFields, frozen=True, kw_only=True):
    """What chat and plain completions share."""

    max_tokens: Limit | None = None
    n: Choices | None = None
    stream_options: StreamOptions | None = None
    n_predict: Limit | None = None
    max_completion_tokens: Limit | None = None
    response_format: ResponseFormat | None = None
    n_probs: Likely | None = None


class Reasoning(Struct, frozen=True):
    """How much is thought before the answer, in the form of `/v1/responses` and of OpenRouter."""

    effort: ShortText | None = None
    max_tokens: Budget | None = None
    enabled: bool | None = None
    exclude: bool | None = None


class Thinking(Struct, frozen=True):
    """The same in a third form: `type` is `enabled`, `disabled` or `adaptive`."""

    type: ShortText
    budget_tokens: Budget | None = None


class ChatCompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: Annotated[list[Function], Meta(max_length=128)] | None = None
    function_call: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: ShortText | None = None
    reasoning: Reasoning | None = None
    thinking: Thinking | None = None
    enable_thinking: bool | None = None
    thinking_budget: Budget | None = None
    reasoning_budget: Budget | None = None
    include_reasoning: bool | None = None
    reasoning_format: ShortText | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    modalities: list[str] | None = None

    logprobs: bool | None = None
    top_logprobs: Likely | None = None

    audio: Any = None
    chat_template: Any = None


class CompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """`POST /v1/completions`. `prompt` is a text, texts, the token ids of one prompt, or of several."""

    prompt: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1, max_length=MAX_TOKEN_IDS)]
    echo: bool | None = None
    best_of: BestOf | None = None
    suffix: str | None = None
    logprobs: bool | Likely | None = None


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


class LikelyToken(Struct, frozen=True, kw_only=True):
    """A token that stood to be chosen. `bytes` is what it stands for, where characters span several tokens too."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct, frozen=True, kw_only=True):
    """A token of the answer, and the likeliest ones at its place."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: tuple[LikelyToken, ...] = ()


class ChatLogprobs(Struct, frozen=True):
    """The tokens of a chat answer or of one of its chunks: thoughts, text and calls, in order."""

    content: tuple[TokenLogprob, ...]
    refusal: None = None


class PlainLogprobs(Struct, frozen=True, kw_only=True):
    """The four parallel lists of a plain completion; the first token of a prompt has null for its probability."""

    tokens: tuple[str, ...]
    token_logprobs: tuple[float | None, ...]
    top_logprobs: tuple[dict[str, float] | None, ...]
    text_offset: tuple[int, ...]


class CalledFunction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function's name, told once, and its arguments or a piece of them."""

    name: str | None = None
    arguments: str | UnsetType = UNSET


class CallDelta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a tool call: all pieces have the index, only the first has the rest."""

    index: int
    id: str | None = None
    type: str | None = None
    function: CalledFunction


class MadeCall(Struct, frozen=True, kw_only=True):
    """A whole tool call."""

    id: str
    type: str = "function"
    function: CalledFunction


class PictureUrl(Struct, frozen=True):
    """Where a picture is: a data URL that holds it."""

    url: str


class ShownPicture(Struct, frozen=True, kw_only=True):
    """A picture that the tool `image_generation` has made, in the shape that OpenRouter and LiteLLM gave to such."""

    index: int
    type: str = "image_url"
    image_url: PictureUrl


class Delta(Struct, frozen=True):
    """What is new in a choice: nothing, its role, more text or thoughts, pieces of calls, or a picture."""

    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: tuple[CallDelta, ...] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET
    images: tuple[ShownPicture, ...] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True, kw_only=True):
    """A choice in a streamed chat answer."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
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
    reasoning_content: str | UnsetType = UNSET
    tool_calls: tuple[MadeCall, ...] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET
    images: tuple[ShownPicture, ...] | UnsetType = UNSET


class ChatChoice(Struct, frozen=True, kw_only=True):
    """A choice of a whole chat answer."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
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
    logprobs: PlainLogprobs | None = None
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
