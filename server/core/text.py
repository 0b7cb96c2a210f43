"""What can be asked of a text model, and the events that come back. `None` in a request means the engine's default."""

from typing import Literal

import msgspec

MOST_PICTURES = 64
"""Of one request."""


class TextPart(msgspec.Struct, frozen=True, tag="text_part"):
    """A run of text inside a message."""

    text: str


class PicturePart(msgspec.Struct, frozen=True, tag="picture_part"):
    """An encoded picture inside a message (PNG, JPEG, WebP, GIF or BMP bytes; of several frames the first).

    `param` is the request's field to name when it cannot be read.
    """

    data: bytes
    param: str = "messages"


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
    -inf forbids a token. `text_bias` does so for each token of a text. `samplers` names the filters in the order in
    which they act (`penalties dry top_n_sigma top_k typ_p top_p min_p xtc temperature`), empty = llama.cpp's own.
    `dynatemp_range` 0, `dry_multiplier` 0, `xtc_probability` 0, `top_n_sigma` -1 and `mirostat` 0 switch a sampler off.
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
    text_bias: tuple[tuple[str, float], ...] = ()
    ignore_eos: bool = False
    min_keep: int | None = None
    top_n_sigma: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    samplers: tuple[str, ...] = ()


class JsonConstraint(msgspec.Struct, frozen=True, kw_only=True, tag="json_constraint"):
    """The text is one JSON value that `schema` (a JSON schema as JSON text) admits; "{}" admits every value.

    `param` is the request's field to name when the schema is wrong.
    """

    schema: str
    param: str = "response_format"


class RegexConstraint(msgspec.Struct, frozen=True, kw_only=True, tag="regex_constraint"):
    """The whole text matches the pattern (Rust regex syntax)."""

    pattern: str
    param: str = "regex"


class GrammarConstraint(msgspec.Struct, frozen=True, kw_only=True, tag="grammar_constraint"):
    """The whole text is derived from a grammar, `gbnf` (llama.cpp's) or `lark`."""

    grammar: str
    syntax: Literal["gbnf", "lark"] = "gbnf"
    param: str = "grammar"


Constraint = JsonConstraint | RegexConstraint | GrammarConstraint


class AdapterScale(msgspec.Struct, frozen=True, kw_only=True):
    """How strongly an adapter of the model acts on a request, 0 = not at all.

    `adapter` is its place in the model's list, from 0, or its name. `param` is the request's field to name when there
    is none of that name.
    """

    adapter: int | str
    scale: float
    param: str = "lora"


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, tag="chat"):
    """A conversation to be continued `choices` times. `template_options` reach the chat template as variables.

    `continue_final` continues the last (assistant) message instead of opening a new one. `tool_choice` is `auto`,
    `none`, `required` (at least one call) or `named` (a call of `tool_name`); without `parallel_tools` at most one call
    is made. `constraint` holds for the answer's content. `logprobs` is how many of the most likely tokens are told
    beside each chosen one, None = none at all. `split_reasoning` tells thoughts apart from the answer
    (`ReasoningDelta`); after `reasoning_budget` tokens they are ended (None = never, 0 = at once). What was computed of
    a prompt is used again for requests of the same `scope` alone. Of the model's adapters those in `adapters` act, and
    no other; None = as is set for the model. `slot` is the number by which a `SlotRequest` finds what was computed for
    it; where the request runs is decided without it.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()
    choices: int = 1
    tools: tuple[Tool, ...] = ()
    template_options: dict[str, bool | int | float | str] = {}
    continue_final: bool = False
    tool_choice: Literal["auto", "none", "required", "named"] = "auto"
    tool_name: str = ""
    parallel_tools: bool = True
    constraint: Constraint | None = None
    logprobs: int | None = None
    split_reasoning: bool = True
    reasoning_budget: int | None = None
    scope: str = ""
    adapters: tuple[AdapterScale, ...] | None = None
    slot: int | None = None


class PlacedPicture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture in a raw prompt: which prompt of the request, and before which letter of its text."""

    prompt: int
    at: int
    picture: PicturePart


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True, tag="completion"):
    """Raw prompts (text or token ids), each to be continued `choices` times.

    Choice `k` of prompt `i` has the index `i * choices + k` in every event. `echo` sends the prompt's text first, with
    its tokens' logprobs if `logprobs` (see ChatRequest) asks for them. `suffix` is the text that follows (fill in the
    middle). Of `best_of` drawn continuations the `choices` with the highest mean logprob are sent (0 = all are).
    `pictures` stand in prompts that are texts, in the order of prompts and letters. For `scope`, `adapters` and `slot`
    see ChatRequest.
    """

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    sampling: SamplingParams = SamplingParams()
    choices: int = 1
    echo: bool = False
    constraint: Constraint | None = None
    logprobs: int | None = None
    suffix: str | None = None
    best_of: int = 0
    pictures: tuple[PlacedPicture, ...] = ()
    scope: str = ""
    adapters: tuple[AdapterScale, ...] | None = None
    slot: int | None = None


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, tag="embedding"):
    """Texts (or token ids) to be turned into vectors of length 1.

    `dimensions` keeps the first of each vector and normalises again; None = all. `norm` says what is of length 1: the
    sum of the p-th powers (2 = the usual length), -1 = vectors are left as they come, 0 = the largest number becomes
    32760.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    norm: int = 2


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True, tag="rerank"):
    """Documents to be scored against a query by a reranking model."""

    model: str
    query: str
    documents: tuple[str, ...]


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, tag="tokenize"):
    """Exactly one is given: `text` to be split, `tokens` to be joined, or `chat` to be rendered by its template."""

    model: str
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    chat: ChatRequest | None = None
    add_special: bool = False
    parse_special: bool = True


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one choice. `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class LikelyToken(msgspec.Struct, frozen=True):
    """A token that stood to be chosen: its text as bytes, and the natural logarithm of its probability."""

    token: int
    piece: bytes
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token of the text, and the most likely ones at its place; `logprob` None for a prompt's first token."""

    token: int
    piece: bytes
    logprob: float | None
    top: tuple[LikelyToken, ...] = ()


class TextStarted(msgspec.Struct, frozen=True, kw_only=True, tag="text_started"):
    """The request is valid and fits: every prompt is tokenised. First event of a text job. Counts all prompts."""

    prompt_tokens: int


class TextDelta(msgspec.Struct, frozen=True, kw_only=True, tag="text_delta"):
    """More text of one choice: whole characters only, never a part of a stop string. Never empty.

    `tokens` is how many tokens it stands for; `logprobs` tells of each of them when asked for.
    """

    choice: int
    text: str
    tokens: int = 1
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(msgspec.Struct, frozen=True, kw_only=True, tag="reasoning_delta"):
    """More of the thoughts that come before an answer. Never empty."""

    choice: int
    text: str
    tokens: int = 1
    logprobs: tuple[TokenLogprob, ...] = ()


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True, tag="tool_call_delta"):
    """A piece of call number `index` (from 0) of one choice. The first has `id` and `name`, the others `arguments`.

    All `arguments` of a call together are one JSON object.
    """

    choice: int
    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]


class TextFinished(msgspec.Struct, frozen=True, kw_only=True, tag="text_finished"):
    """One choice is complete. `stop`: end token or stop string; `length`: max_tokens or the context is full.

    `stopped_by` is the stop string, if one ended it.
    """

    choice: int
    reason: FinishReason
    stopped_by: str | None = None
    usage: Usage
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class EmbeddingsReady(msgspec.Struct, frozen=True, kw_only=True, tag="embeddings_ready"):
    """Vectors for inputs from number `first` on: little-endian float32, `dimensions` each, one after the other."""

    first: int
    dimensions: int
    vectors: bytes


class ScoresReady(msgspec.Struct, frozen=True, kw_only=True, tag="scores_ready"):
    """How well documents from number `first` on answer the query: raw scores of the model (a logit for most)."""

    first: int
    scores: tuple[float, ...]


class Tokenized(msgspec.Struct, frozen=True, kw_only=True, tag="tokenized"):
    """The tokens with their pieces, and the text that they stand for (a rendered chat's prompt).

    The places that a picture takes are negative numbers without a piece.
    """

    tokens: tuple[int, ...]
    pieces: tuple[bytes, ...]
    text: str


GenerationEvent = TextStarted | TextDelta | ReasoningDelta | ToolCallDelta | TextFinished
