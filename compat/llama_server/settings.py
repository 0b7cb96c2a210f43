"""What the owner of the server may set about this door."""

import msgspec

MIB = 1024**2


class LlamaServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of llama-server's door, built from the config by the application.

    `default_model` answers requests that name no model ("" = the only one, else a loaded one, else the first by name),
    `default_embedder` requests for vectors ("" = the first model that makes them).
    `patience_s` is how long a streamed request waits for its model before the answer is opened with comments; errors
    after that come inside the stream (0 = open at once). `ping_s` seconds pass between keep-alive comments.
    `body_limit` is in bytes. With `strict`, fields that have no effect are refused. `slots`, `context` and
    `context_cap` are how text models will be loaded (`server.core.models.TextSettings`), told of those that are not.
    With `saves_slots` there is a folder for what slots hold. `build` is told as `build_info`.
    """

    default_model: str = ""
    default_embedder: str = ""
    patience_s: float = 10.0
    ping_s: float = 15.0
    body_limit: int = 64 * MIB
    strict: bool = False
    slots: int = 8
    context: int = 0
    context_cap: int = 8192
    saves_slots: bool = False
    build: str = "b1-hearth"
