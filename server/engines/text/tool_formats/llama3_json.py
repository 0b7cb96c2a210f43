"""Llama 3.1 to 3.3: a bare JSON object with `parameters`, sometimes after `<|python_tag|>`."""

from server.engines.text.tool_formats.json_calls import JsonCalls

LLAMA3_JSON = JsonCalls(opens=(("<|python_tag|>", ""),), bare=True, key="parameters", between="; ")
