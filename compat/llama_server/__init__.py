"""The door of llama-server's own routes: `/completion`, `/infill`, `/tokenize`, `/embedding`, `/props`, `/metrics`.

`ALIASES` are its names for routes of the OpenAI door.

`wire` is the foreign JSON; `fields` says which of it counts; `convert` (with `sampling`, `prompts`, `adapters` and
`messages`) turns it into core work and whole answers back; `stream` makes the chunks of a streamed one; `facts` tells
about models and jobs; `errors` words every refusal; `routes`, `model_routes` and `embedding` are the handlers.
"""

from compat.llama_server.routes import ALIASES, dialect
from compat.llama_server.settings import LlamaServerSettings

__all__ = ["ALIASES", "LlamaServerSettings", "dialect"]
