"""What the owner of the server may set about this door."""

import msgspec

from compat.openai.images.settings import ImagesSettings

MIB = 1024**2


class OpenAiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the OpenAI door, built from the config by the application.

    `default_model` answers requests that name no model ("" = the only one, else a loaded one, else the first by name);
    `default_embedder` and `default_reranker` do so for embeddings and reranking.
    `strict` refuses fields that would have no effect, instead of naming them in a header.
    `patience_s` is how long a streamed request waits for its model before the answer is opened with comments; errors
    after that come inside the stream (0 = open at once). `ping_s` seconds pass between keep-alive comments.
    `completion_tokens` is the limit of `/v1/completions` when the request names none (OpenAI's is 16).
    `body_limit` is in bytes. `fingerprint` is told as `system_fingerprint`; llama-server's clients want a leading `b`.
    `responses_file` is the SQLite file that remembers answers of `/v1/responses` (None = they are not remembered): at
    most `responses_kept` of them, for `responses_days` since they were last used, in `responses_bytes` together.
    With `fetch_images`, pictures that conversations name by addresses are fetched.
    """

    default_model: str = ""
    default_embedder: str = ""
    default_reranker: str = ""
    strict: bool = False
    patience_s: float = 10.0
    ping_s: float = 15.0
    completion_tokens: int = 16
    body_limit: int = 64 * MIB
    fingerprint: str = "b1-hearth"
    responses_file: str | None = None
    responses_kept: int = 10_000
    responses_days: float = 30.0
    responses_bytes: int = 512 * MIB
    images: ImagesSettings = ImagesSettings()
    fetch_images: bool = False
