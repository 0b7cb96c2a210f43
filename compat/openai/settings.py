"""What the owner of the server may set about this door."""

import msgspec

MIB = 1024**2


class OpenAiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the OpenAI door, built from the config by the application.

    `default_model` answers requests that name no model ("" = the only one, else a loaded one, else the first by name).
    `patience_s` is how long a streamed request waits for its model before the answer is opened with comments; errors
    after that come inside the stream (0 = open at once). `ping_s` seconds pass between keep-alive comments.
    `completion_tokens` is the limit of `/v1/completions` when the request names none (OpenAI's is 16).
    `body_limit` is in bytes. `fingerprint` is told as `system_fingerprint`; llama-server's clients want a leading `b`.
    """

    default_model: str = ""
    patience_s: float = 10.0
    ping_s: float = 15.0
    completion_tokens: int = 16
    body_limit: int = 64 * MIB
    fingerprint: str = "b1-hearth"
