"""DeepSeek V3 and R1 (the arguments in a fence) and V3.1 (bare); what came later writes tags (`invoke`).

DeepSeek writes its marks with a fullwidth bar and, for spaces, the lower one eighth block.
"""

from server.engines.text.tool_formats.named_calls import NamedCalls

_BAR, _BLOCK = "\uff5c", "\u2581"


def _mark(words: str) -> str:
    return f"<{_BAR}{words.replace(' ', _BLOCK)}{_BAR}>"


CALLS_BEGIN, _CALLS_END = _mark("tool calls begin"), _mark("tool calls end")
_CALL, _SEPARATOR, _CALL_END = _mark("tool call begin"), _mark("tool sep"), _mark("tool call end")

DEEPSEEK_V3 = NamedCalls(
    opening=_CALL,
    header=rf"(?:function{_SEPARATOR})?(?P<name>[^<\n`{{]+?)\s*(?:{_SEPARATOR}\s*(?=\{{)|\n```(?:json)?\s)",
    head=f"function{_SEPARATOR}{{name}}\n```json\n",
    close=_CALL_END,
    noise=(CALLS_BEGIN, _CALLS_END),
    prefix=CALLS_BEGIN,
    tail="\n```",
    between="\n",
    suffix=_CALLS_END,
)
DEEPSEEK_V31 = DEEPSEEK_V3._replace(head=f"{{name}}{_SEPARATOR}", tail="", between="")
