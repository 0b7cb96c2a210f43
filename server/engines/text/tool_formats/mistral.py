"""Mistral's two forms: `[TOOL_CALLS]` with a JSON list, and since 2025 with the name, `[ARGS]` and the arguments."""

from server.engines.text.tool_formats.json_calls import JsonCalls
from server.engines.text.tool_formats.named_calls import NamedCalls

MISTRAL_LIST = JsonCalls(opens=(("[TOOL_CALLS]", ""),), listed=True)
MISTRAL_ARGS = NamedCalls(
    opening="[TOOL_CALLS]",
    header=r"(?P<name>[^\[\]{}\s]+?)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\]|(?=\{))",
    head="{name}[ARGS]",
    other_marks=("[CALL_ID]",),
)
