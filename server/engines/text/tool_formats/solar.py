"""Solar Open: calls with ids of their own; thoughts, answers and calls are messages of different kinds."""

from server.engines.text.tool_formats.named_calls import NamedCalls

SOLAR = NamedCalls(
    opening="<|tool_call:begin|>",
    header=r"[^<]*<\|tool_call:name\|>(?P<name>[^<\n]+)<\|tool_call:args\|>",
    head="{id}<|tool_call:name|>{name}<|tool_call:args|>",
    close="<|tool_call:end|>",
    noise=("<|begin|>assistant", "<|content|>", "<|end|>", "<|tool_calls|>", "<|calls|>"),
    prefix="<|tool_calls|>",
    between="",
    suffix="<|calls|>",
    answer_head="<|content|>",
    wraps=True,
)
