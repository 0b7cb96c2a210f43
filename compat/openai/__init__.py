"""The OpenAI door: chats, completions, embeddings, reranking, responses and models, with llama-server's extras.

`wire` (with `vectors_wire` and `models_wire`) is the foreign JSON; `fields` says which of it counts.
`convert` turns it into core requests, with a module for each theme: `messages`, `tools`, `sampling`, `constraints`,
`reasoning`, `prompts`. `stream` makes chunks of events and `answer` whole answers, both with `logprobs`. `embeddings`
and `rerank` go both ways. `cards` lists models; `desk` says which one answers; `errors` words every refusal; `serve`
waits, streams, reads and lets go; `routes` and `vectors_routes` are the handlers. `responses` and `images` are
rooms of their own; `picture_urls` has pictures fetched that conversations name; `picture_tool` lets conversations make
them (`picture_fields` is what both say of these).
"""

from compat.openai.images.settings import ImagesSettings
from compat.openai.routes import dialect
from compat.openai.settings import OpenAiSettings

__all__ = ["ImagesSettings", "OpenAiSettings", "dialect"]
