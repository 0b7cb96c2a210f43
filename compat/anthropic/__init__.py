"""The Anthropic door: `/v1/messages`, whole and streamed, and `/v1/messages/count_tokens`.

`wire` is the foreign JSON; `fields` says which of it counts; `messages` turns the conversation, `convert` the whole
request into core work and whole answers back; `stream` makes the events of an answer; `errors` words every refusal;
`picture_urls` has pictures fetched that messages name by addresses; `routes` are the handlers.
"""

from compat.anthropic.routes import dialect
from compat.anthropic.settings import AnthropicSettings

__all__ = ["AnthropicSettings", "dialect"]
