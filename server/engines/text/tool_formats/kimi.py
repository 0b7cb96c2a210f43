"""Kimi K2, which names and numbers its calls before their JSON, and K3, whose tags are text between control tokens."""

from server.engines.text.tool_formats.named_calls import NamedCalls
from server.engines.text.tool_formats.tagged_calls import TaggedCalls

KIMI_K2 = NamedCalls(
    opening="<|tool_call_begin|>",
    header=r"(?:functions\.)?(?P<name>[^\s:<>{}]+)(?::\d+)?\s*<\|tool_call_argument_begin\|>",
    head="functions.{name}:{index}<|tool_call_argument_begin|>",
    close="<|tool_call_end|>",
    noise=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    prefix="<|tool_calls_section_begin|>",
    suffix="<|tool_calls_section_end|>",
)


def _tag(text: str) -> str:
    return f"<|open|>{text}<|sep|>"


def _end(text: str) -> str:
    return f"<|close|>{text}<|sep|>"


KIMI_K3 = TaggedCalls(
    openings=("<|open|>call ",),
    header=r'tool="(?P<name>[^"]+)"[^<]*<\|sep\|>',
    key=r'<\|open\|>argument key="(?P<name>[^"]+)"(?: type="(?P<kind>\w+)")?<\|sep\|>',
    value_end=_end("argument"),
    end=_end("call"),
    head=_tag('call tool="{name}" index="{number}"'),
    key_text=_tag('argument key="{name}" type="{kind}"'),
    lead="",
    trail=_end("argument"),
    tail=_end("call"),
    prefix=_tag("tools"),
    between="",
    suffix=_end("tools"),
    noise=(_tag("response"), _end("response"), _tag("tools"), _end("tools"), _end("message")),
    answer_head=_tag("response"),
    wraps=True,
)
