"""Hermes 2 and 3, Qwen 2.5 and 3, Granite 4 and many more: JSON between `<tool_call>` and `</tool_call>`."""

from server.engines.text.tool_formats.json_calls import JsonCalls

HERMES = JsonCalls(opens=(("<tool_call>", "</tool_call>"),), before="\n", after="\n")
