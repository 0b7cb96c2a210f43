"""What the owner of the server may set about this door."""

import msgspec

MIB = 1024**2


class AnthropicSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the Anthropic door, built from the config by the application.

    `patience_s` is how long a streamed request waits for its model before the answer is opened with comments; errors
    after that come inside the stream (0 = open at once). `ping_s` seconds pass between keep-alive comments.
    `body_limit` is in bytes. With `strict`, fields that have no effect are refused. With `fetch_images`,
    pictures that are named by addresses are fetched.
    """

    patience_s: float = 10.0
    ping_s: float = 15.0
    body_limit: int = 64 * MIB
    strict: bool = False
    fetch_images: bool = False
