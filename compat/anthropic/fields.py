"""Which request fields are honoured, ignored or refused, and why. A test holds these tables against the structs.

*Ignored* fields are accepted without effect and named in the answer's `x-hearth-ignored` header, as is any unknown one.
*Refused* ones would change the result that the caller asked for: they are answered 400 unless they are empty.
"""

from collections.abc import Mapping

HONOURED: Mapping[str, str] = {
    "model": "id, name or alias of a text model",
    "messages": "text, tool_use, tool_result, thinking and text documents; pictures and other blocks are refused",
    "system": "a text or text blocks; a block that only carries a client's billing header is left out",
    "max_tokens": "required",
    "stop_sequences": "up to 64; empty ones are dropped",
    "stream": "",
    "temperature": "0 ... 2; absent = the server's own default",
    "top_k": "0 or -1 = off",
    "top_p": "",
    "tools": "the client's own; Anthropic's (bash, web search, ...) are refused",
    "tool_choice": "auto, any, tool, none; disable_parallel_tool_use",
    "thinking": "absent or disabled = no thoughts; budget_tokens; display omitted tells none of them",
    "output_config": "format json_schema; effort is handed to the chat template",
    "output_format": "the older place of output_config.format",
    "cache_salt": "vLLM's; what was computed of a prompt is used again for the same salt alone",
}

IGNORED: Mapping[str, str] = {
    "metadata": "bookkeeping of the hosted service",
    "service_tier": "bookkeeping of the hosted service",
    "inference_geo": "bookkeeping of the hosted service",
    "speed": "bookkeeping of the hosted service",
    "diagnostics": "bookkeeping of the hosted service",
    "user_profile_id": "bookkeeping of the hosted service",
    "workspace_id": "bookkeeping of the hosted service",
    "fallbacks": "another model is never put in silently",
    "cache_control": "prompts are cached by their text",
    "context_management": "the client's messages are taken as they come",
}

REFUSED: Mapping[str, str] = {
    "mcp_servers": "this server calls no tools by itself",
    "container": "this server runs no code",
}
