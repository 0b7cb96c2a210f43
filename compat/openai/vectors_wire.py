"""The JSON of `/v1/embeddings` and `/v1/rerank`.

Source: OpenAI's published OpenAPI document 2.3.0 for embeddings; Jina's and text-embeddings-inference's own
documentation for the two shapes of reranking, with llama-server's additions.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from compat.openai.wire import INT32, MAX_PROMPTS, MAX_TOKEN_IDS, ModelName, TokenId


class EmbeddingRequest(Struct, frozen=True, kw_only=True):
    """`POST /v1/embeddings`. `input` is a text, texts, the token ids of one text, or of several."""

    input: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1, max_length=MAX_TOKEN_IDS)]
    model: ModelName | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=INT32)] | None = None


class Embedding(Struct, frozen=True, kw_only=True):
    """The vector of one input: numbers, or base64 of little-endian float32."""

    object: str = "embedding"
    index: int
    embedding: str | tuple[float, ...]


class VectorUsage(Struct, frozen=True, kw_only=True):
    """Tokens of all inputs together."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, frozen=True, kw_only=True):
    """The answer of `/v1/embeddings`, in the order of the inputs."""

    object: str = "list"
    data: tuple[Embedding, ...]
    model: str
    usage: VectorUsage


class Document(Struct, frozen=True):
    """A document in its longer form."""

    text: str


class RerankRequest(Struct, frozen=True, kw_only=True):
    """`POST /v1/rerank`: Jina's shape with `documents`, or text-embeddings-inference's with `texts`."""

    query: Annotated[str, Meta(min_length=1)]
    model: ModelName | None = None
    documents: Annotated[list[str | Document], Meta(max_length=MAX_PROMPTS)] | None = None
    texts: Annotated[list[str], Meta(max_length=MAX_PROMPTS)] | None = None
    top_n: Annotated[int, Meta(ge=1, le=INT32)] | None = None
    return_documents: bool | None = None
    return_text: bool | None = None
    raw_scores: bool | None = None


class Ranked(Struct, frozen=True, kw_only=True):
    """How well one document answers the query, as the model scores it."""

    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class Ranking(Struct, frozen=True, kw_only=True):
    """The answer to `documents`, best first."""

    model: str
    object: str = "list"
    results: tuple[Ranked, ...]
    usage: VectorUsage


class Rank(Struct, frozen=True, kw_only=True):
    """How well one text answers the query: 0 ... 1, or the model's own score when `raw_scores` was set."""

    index: int
    score: float
    text: str | UnsetType = UNSET
