"""The OpenAI door: `/v1/models`, `/v1/chat/completions`, `/v1/completions`, with llama-server's extras.

`wire` is the foreign JSON; `body` reads it; `fields` says which of it counts; `convert` (with `messages`) turns it into
core requests and whole answers back; `stream` makes chunks of events; `cards` lists models; `errors` words every
refusal; `serve` waits, streams, collects and lets go; `routes` are the handlers.
"""

from compat.openai.routes import dialect
from compat.openai.settings import OpenAiSettings

__all__ = ["OpenAiSettings", "dialect"]
