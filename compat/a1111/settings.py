"""What the house's config says about this door."""

import msgspec


class A1111Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the AUTOMATIC1111 door; `server.app` builds them from the config.

    `options_file` keeps the options between runs, None keeps them in memory. `styles_files` are tried in order.
    `version` is what infotexts and `info` name as the program's version, "" leaves it out; the default is the release
    whose pictures we make, so that readers apply its rules and not those of older releases. `default_model` is the
    checkpoint used until a client chooses one, "" the first in the list. `previews_every` model calls a preview is
    made, 0 = never, -1 = as the options say. `models_dir`, `listen` and `port` are what cmd-flags shows.
    `body_limit` is in bytes. `output_dir` is where pictures are saved when a request asks for that, None saves none.
    With `fetch_images`, pictures that requests name by addresses are fetched.
    `caption_model` is the chat model that `interrogate` asks, "" for none; `server_stop` lets clients end the server.
    """

    options_file: str | None = None
    styles_files: tuple[str, ...] = ()
    models_dir: str | None = None
    output_dir: str | None = None
    default_model: str = ""
    version: str = "v1.10.1"
    previews_every: int = -1
    max_pixels: int = 16_777_216
    max_batch_size: int = 64
    max_batches: int = 100
    max_steps: int = 1000
    body_limit: int = 256 * 1024 * 1024
    listen: bool = False
    caption_model: str = ""
    server_stop: bool = False
    fetch_images: bool = False
    port: int = 7860
