"""JSON calls behind marks of their own, most of them in a list: Granite, Phi-4-mini, Nemotron, Apriel, Command R7B."""

from server.engines.text.tool_formats.json_calls import JsonCalls

GRANITE = JsonCalls(opens=(("<|tool_call|>", ""),), listed=True)
PHI4_MINI = JsonCalls(opens=(("<|tool_call|>", "<|/tool_call|>"),), listed=True)
NEMOTRON = JsonCalls(opens=(("<TOOLCALL>", "</TOOLCALL>"),), listed=True)
APRIEL = JsonCalls(opens=(("<tool_calls>", "</tool_calls>"),), listed=True)
MINIMAX_M1 = JsonCalls(opens=(("<tool_calls>", "</tool_calls>"),), before="\n", after="\n")
COMMAND_R7B = JsonCalls(
    opens=(("<|START_ACTION|>", "<|END_ACTION|>"),),
    lead='"tool_call_id": "0", ',
    name_key="tool_name",
    key="parameters",
    listed=True,
)
