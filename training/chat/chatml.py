"""How a conversation is written: ChatML, tools as Hermes models have them.

The template says it in Jinja, `written` in Python for the training; a test holds that both say the same.
"""

import json
from typing import Any

Json = dict[str, Any]

BEGIN = "<|im_start|>"
END = "<|im_end|>"
TEXT_END = "<|endoftext|>"
SPECIAL = (TEXT_END, BEGIN, END)

TOOLS_BEGIN = "You can call these functions:\n<tools>\n"
TOOLS_END = (
    "\n</tools>\nA call is written\n<tool_call>\n"
    '{"name": "the name", "arguments": {"an argument": "its value"}}\n</tool_call>'
)

TEMPLATE = (
    "{%- set first = messages[0].content if messages and messages[0].role == 'system' else '' %}"
    "{%- if tools %}"
    "{{- '<|im_start|>system\\n' + (first + '\\n\\n' if first else '') + " + repr(TOOLS_BEGIN) + " }}"
    "{%- for tool in tools %}{{- tool | tojson }}{%- if not loop.last %}{{- '\\n' }}{%- endif %}{%- endfor %}"
    "{{- " + repr(TOOLS_END) + " + '<|im_end|>\\n' }}"
    "{%- elif first %}{{- '<|im_start|>system\\n' + first + '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'tool' %}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}"
    "{%- elif message.role == 'assistant' and message.tool_calls %}"
    "{{- '<|im_start|>assistant\\n' + (message.content + '\\n' if message.content else '') }}"
    "{%- for call in message.tool_calls %}"
    "{{- '<tool_call>\\n{\"name\": ' + (call.function.name | tojson) + ', \"arguments\": ' }}"
    "{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- if not loop.last %}{{- '\\n' }}{%- endif %}"
    "{%- endfor %}{{- '<|im_end|>\\n' }}"
    "{%- elif not (loop.first and message.role == 'system') %}"
    "{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def written(messages: list[Json], tools: list[Json]) -> list[tuple[str, bool]]:
    """Return a conversation as stretches of text, and whether each is what the assistant says (with its end)."""
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    rest = messages[1:] if system else messages
    if tools:
        listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        system = f"{system}\n\n" * bool(system) + f"{TOOLS_BEGIN}{listed}{TOOLS_END}"
    parts = [(f"{BEGIN}system\n{system}{END}\n", False)] if system else []
    for message in rest:
        content = message["content"]
        match message["role"]:
            case "assistant":
                parts += [(f"{BEGIN}assistant\n", False), (f"{content}{END}", True), ("\n", False)]
            case "tool":
                parts.append((f"{BEGIN}user\n<tool_response>\n{content}\n</tool_response>{END}\n", False))
            case role:
                parts.append((f"{BEGIN}{role}\n{content}{END}\n", False))
    return parts
