"""The JSON of llama-server's own routes, as structs without logic.

Source: llama.cpp's `tools/server/README.md` (2026). `None` in a request means absent. Every number has bounds, so
nothing unchecked travels on. Fields that are accepted without effect are not here; see `compat.llama_server.fields`.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

INT32 = 2**31 - 1
INT64 = 2**63 - 1
MAX_TOKENS = 2**20
MAX_MESSAGES = 4096

Temperature = Annotated[float, Meta(ge=-100, le=100)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-100, le=100)]
Factor = Annotated[float, Meta(ge=0, le=100)]
Sigma = Annotated[float, Meta(ge=-1, le=1000)]
Count = Annotated[int, Meta(ge=0, le=INT32)]
OrAll = Annotated[int, Meta(ge=-1, le=INT32)]
Seed = Annotated[int, Meta(ge=-INT64, le=INT64)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Probs = Annotated[int, Meta(ge=0, le=128)]
TokenId = Annotated[int, Meta(ge=0, le=INT32)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Text = Annotated[str, Meta(max_length=10_000)]
Texts = Annotated[list[Text], Meta(max_length=64)]
BiasMap = Annotated[dict[Text, Bias | bool], Meta(max_length=1024)]
BiasPairs = Annotated[list[tuple[TokenId | Text, Bias | bool]], Meta(max_length=1024)]
ModelName = Annotated[str, Meta(max_length=1024)]


class LoraScale(Struct, frozen=True, kw_only=True):
    """How strongly an adapter of the model acts: `id` is its place in `/lora-adapters`, or its name."""

    id: Annotated[int, Meta(ge=0, le=INT32)] | Annotated[str, Meta(min_length=1, max_length=1024)]
    scale: Annotated[float, Meta(ge=-1000, le=1000)] = 0.0


LoraScales = Annotated[list[LoraScale], Meta(max_length=64)]


class GenerationFields(Struct, frozen=True, kw_only=True):
    """What `/completion` and `/infill` share: how text is written and how it is told."""

    model: ModelName | None = None
    n_predict: OrAll | None = None
    max_tokens: OrAll | None = None
    n_cmpl: Choices | None = None
    n: Choices | None = None
    stream: bool | None = None
    stop: Text | Texts | None = None
    seed: Seed | None = None
    ignore_eos: bool | None = None
    logit_bias: BiasMap | BiasPairs | None = None
    temperature: Temperature | None = None
    dynatemp_range: Factor | None = None
    dynatemp_exponent: Factor | None = None
    top_k: OrAll | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    top_n_sigma: Sigma | None = None
    min_keep: Count | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    repeat_last_n: OrAll | None = None
    repeat_penalty: Factor | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    dry_multiplier: Factor | None = None
    dry_base: Factor | None = None
    dry_allowed_length: Count | None = None
    dry_penalty_last_n: OrAll | None = None
    dry_sequence_breakers: Texts | None = None
    mirostat: Literal[0, 1, 2] | None = None
    mirostat_tau: Factor | None = None
    mirostat_eta: Factor | None = None
    samplers: Text | Texts | None = None
    grammar: str | None = None
    json_schema: dict[str, Any] | bool | None = None
    n_probs: Probs | None = None
    post_sampling_probs: bool | None = None
    return_tokens: bool | None = None
    response_fields: Texts | None = None
    lora: LoraScales | None = None
    id_slot: OrAll | None = None


class CompletionRequest(GenerationFields, frozen=True, kw_only=True):
    """`POST /completion`. `prompt` is a text, token ids, an object with `prompt_string`, or a list of such."""

    prompt: str | dict[str, Any] | Annotated[list[Any], Meta(min_length=1, max_length=MAX_TOKENS)]


class ExtraText(Struct, frozen=True, kw_only=True):
    """A piece of another file, to be shown to the model before the prefix."""

    text: str
    filename: str | None = None


class InfillRequest(GenerationFields, frozen=True, kw_only=True):
    """`POST /infill`. `prompt` is the beginning of what stands between prefix and suffix."""

    input_prefix: str
    input_suffix: str
    input_extra: Annotated[list[ExtraText], Meta(max_length=1024)] | None = None
    prompt: str | None = None


class TokenizeRequest(Struct, frozen=True, kw_only=True):
    """`POST /tokenize`."""

    content: str
    model: ModelName | None = None
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None


class DetokenizeRequest(Struct, frozen=True, kw_only=True):
    """`POST /detokenize`."""

    tokens: Annotated[list[TokenId], Meta(max_length=MAX_TOKENS)]
    model: ModelName | None = None


class ImageUrl(Struct, frozen=True):
    """Where a picture is: a data URL."""

    url: str


class ContentPart(Struct, frozen=True):
    """One part of a message; texts and pictures are read."""

    type: str
    text: str | None = None
    image_url: ImageUrl | str | None = None


class FunctionCall(Struct, frozen=True):
    """A call in the history; `arguments` is JSON text or, from some clients, an object."""

    name: str
    arguments: str | dict[str, Any] | None = None


class ToolCall(Struct, frozen=True):
    """A tool call in the history."""

    function: FunctionCall
    id: str | None = None


class ChatMessage(Struct, frozen=True, kw_only=True):
    """One message, in the form of OpenAI's chat completions."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=128)] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class Function(Struct, frozen=True):
    """A function that the model is told of. `parameters` is a JSON schema."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Struct, frozen=True):
    """A tool of the type `function`."""

    function: Function


class TemplateRequest(Struct, frozen=True, kw_only=True):
    """`POST /apply-template`."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    model: ModelName | None = None
    tools: Annotated[list[Tool], Meta(max_length=1024)] | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: Annotated[dict[Text, bool | int | float | Text], Meta(max_length=64)] | None = None


class EmbeddingRequest(Struct, frozen=True, kw_only=True):
    """`POST /embedding`. `input` and `content` are two names of the texts; see `CompletionRequest` for their forms.

    `embd_normalize` is -1 for none, 0 for the largest number (which becomes 32760), else the p of the p-norm.
    """

    content: str | dict[str, Any] | Annotated[list[Any], Meta(min_length=1, max_length=MAX_TOKENS)] | None = None
    input: str | dict[str, Any] | Annotated[list[Any], Meta(min_length=1, max_length=MAX_TOKENS)] | None = None
    model: ModelName | None = None
    embd_normalize: Annotated[int, Meta(ge=-1, le=64)] | None = None


class Embedding(Struct, frozen=True, kw_only=True):
    """The vector of one input, alone in a list."""

    index: int
    embedding: tuple[tuple[float, ...], ...]


class SlotFile(Struct, frozen=True):
    """The body of `/slots/{id_slot}`: the file's name in the folder for slots; not needed to erase."""

    filename: str = ""
    model: ModelName | None = None


class SaveTimings(Struct, frozen=True):
    """How long it took to save a slot, in milliseconds."""

    save_ms: float


class SlotSaved(Struct, frozen=True, kw_only=True):
    """A slot was saved: how many tokens it holds, how many bytes were written."""

    id_slot: int
    filename: str
    n_saved: int
    n_written: int
    timings: SaveTimings


class RestoreTimings(Struct, frozen=True):
    """How long it took to restore a slot, in milliseconds."""

    restore_ms: float


class SlotRestored(Struct, frozen=True, kw_only=True):
    """A slot was restored: how many tokens it holds, how many bytes were read."""

    id_slot: int
    filename: str
    n_restored: int
    n_read: int
    timings: RestoreTimings


class SlotErased(Struct, frozen=True, kw_only=True):
    """A slot was emptied: how many tokens it held."""

    id_slot: int
    n_erased: int


class NamedModel(Struct, frozen=True):
    """The body of `/models/load` and `/models/unload`."""

    model: Annotated[str, Meta(min_length=1, max_length=1024)]


class Success(Struct, frozen=True):
    """The answer of routes that only do something."""

    success: bool = True


class LoraAdapter(Struct, frozen=True, kw_only=True):
    """An adapter of a model. `path` is its name; `problem` is why it cannot be used, absent when it can."""

    id: int
    path: str
    scale: float
    problem: str | UnsetType = UNSET


class TokenPiece(Struct, frozen=True):
    """A token with its text, as bytes when that is no whole text by itself."""

    id: int
    piece: str | list[int]


class Tokens(Struct, frozen=True):
    """The answer of `/tokenize`."""

    tokens: tuple[int | TokenPiece, ...]


class Content(Struct, frozen=True):
    """The answer of `/detokenize`."""

    content: str


class Prompt(Struct, frozen=True):
    """The answer of `/apply-template`."""

    prompt: str


class TopProbability(Struct, frozen=True, kw_only=True):
    """A token that stood to be chosen."""

    id: int
    token: str
    bytes: list[int]
    logprob: float


class Probability(Struct, frozen=True, kw_only=True):
    """A chosen token, and the most likely ones at its place."""

    id: int
    token: str
    bytes: list[int]
    logprob: float
    top_logprobs: list[TopProbability]


class Timings(Struct, frozen=True, kw_only=True):
    """Speed of one answer. Times are milliseconds."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float


class GenerationSettings(Struct, frozen=True, kw_only=True):
    """How text is written, with every value given."""

    n_predict: int = -1
    seed: int = 2**32 - 1
    temperature: float = 0.8
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    stop: tuple[str, ...] = ()
    max_tokens: int = -1
    n_keep: int = 0
    n_discard: int = 0
    ignore_eos: bool = False
    stream: bool = False
    logit_bias: tuple[tuple[int, float | bool], ...] = ()
    n_probs: int = 0
    min_keep: int = 0
    grammar: str = ""
    samplers: tuple[str, ...] = (
        "penalties",
        "dry",
        "top_n_sigma",
        "top_k",
        "typ_p",
        "top_p",
        "min_p",
        "xtc",
        "temperature",
    )
    post_sampling_probs: bool = False
    lora: tuple[LoraScale, ...] = ()


class Chunk(Struct, frozen=True, kw_only=True):
    """A piece of a streamed completion."""

    index: int
    content: str
    tokens: tuple[int, ...] = ()
    stop: bool = False
    id_slot: int = -1
    tokens_predicted: int
    tokens_evaluated: int
    completion_probabilities: tuple[Probability, ...] | UnsetType = UNSET


class Completion(Struct, frozen=True, kw_only=True):
    """A whole completion, and (with empty `content`) the last piece of a streamed one.

    `stopped_*` are what `stop_type` was called before 2025; older clients read them.
    """

    index: int
    content: str
    tokens: tuple[int, ...] = ()
    id_slot: int = -1
    stop: bool = True
    model: str
    tokens_predicted: int
    tokens_evaluated: int
    tokens_cached: int
    generation_settings: GenerationSettings
    prompt: str
    has_new_line: bool
    truncated: bool
    stop_type: str
    stopping_word: str
    stopped_eos: bool
    stopped_limit: bool
    stopped_word: bool
    timings: Timings
    completion_probabilities: tuple[Probability, ...] | UnsetType = UNSET


class DefaultSettings(Struct, frozen=True, kw_only=True):
    """How a slot stands that nobody has set otherwise."""

    id: int = 0
    id_task: int = -1
    n_ctx: int
    speculative: bool = False
    is_processing: bool = False
    params: GenerationSettings


class Modalities(Struct, frozen=True):
    """What a model takes in besides text."""

    vision: bool = False
    audio: bool = False


class Props(Struct, frozen=True, kw_only=True):
    """The answer of `GET /props`. `model_path` is the file's name inside its models folder."""

    default_generation_settings: DefaultSettings
    total_slots: int
    model_alias: str
    model_path: str
    modalities: Modalities = Modalities()
    media_marker: str
    chat_template: str
    build_info: str
    is_sleeping: bool


class NextToken(Struct, frozen=True, kw_only=True):
    """How far the answers of a job are: tokens that were written and those that may still be, -1 = no limit is set."""

    has_next_token: bool = True
    n_remain: int
    n_decoded: int


class Slot(Struct, frozen=True, kw_only=True):
    """One running job of the caller; llama-server's answer has a prompt too, ours has not."""

    id: int
    id_task: str
    model: str
    n_ctx: int
    speculative: bool = False
    is_processing: bool = True
    params: GenerationSettings | UnsetType = UNSET
    next_token: NextToken | UnsetType = UNSET


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """What went wrong; `code` is the status."""

    code: int
    message: str
    type: str
    param: str | UnsetType = UNSET
    n_prompt_tokens: int | UnsetType = UNSET
    n_ctx: int | UnsetType = UNSET


class ErrorBody(Struct, frozen=True):
    """The body of every refusal, and of an error inside a stream."""

    error: ErrorDetail
