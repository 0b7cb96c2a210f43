"""JSON calls behind marks of their own, most of them in a list.

<|tool_call|>[{"name": "f", "arguments": {}}]     Granite 3, Phi-4-mini, Nemotron, Apriel, Firefunction, MiniMax M1
<|START_ACTION|>[{"tool_name": "f", ...}]         Command R7B, North Mini; Command R+ in a fence behind `Action:`
<|tools_prefix|>[{"f": {}}]<|tools_suffix|>       Apertus
<|function_call|>{"name": "f", "arguments": {}}   GigaChat 3.1; GigaChat 3 in a message of its own
"""

from server.engines.text.tool_formats.json_calls import JsonCalls

GRANITE = JsonCalls(opens=(("<|tool_call|>", ""),), listed=True)
PHI4_MINI = JsonCalls(opens=(("<|tool_call|>", "<|/tool_call|>"),), listed=True)
NEMOTRON = JsonCalls(opens=(("<TOOLCALL>", "</TOOLCALL>"),), listed=True)
FIREFUNCTION = JsonCalls(opens=(("functools", ""),), listed=True)
APRIEL = JsonCalls(opens=(("<tool_calls>", "</tool_calls>"),), listed=True, noise=("[END FINAL RESPONSE]",))
MINIMAX_M1 = JsonCalls(opens=(("<tool_calls>", "</tool_calls>"),), before="\n", after="\n", together=True)
COMMAND_R7B = JsonCalls(
    opens=(("<|START_ACTION|>", "<|END_ACTION|>"),),
    lead='"tool_call_id": "{index}", ',
    name_key="tool_name",
    key="parameters",
    listed=True,
    noise=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    answer_head="<|START_RESPONSE|>",
)
NORTH_MINI = COMMAND_R7B._replace(noise=("<|START_TEXT|>", "<|END_TEXT|>"), answer_head="<|START_TEXT|>")
COMMAND_R_PLUS = JsonCalls(
    opens=(("Action:\n```json", "```"), ("Action: ```json", "```")),
    name_key="tool_name",
    key="parameters",
    before="\n",
    listed=True,
)
APERTUS = JsonCalls(opens=(("<|tools_prefix|>", "<|tools_suffix|>"),), keyed=True, listed=True)
GIGACHAT_31 = JsonCalls(opens=(("<|function_call|>", ""),))
GIGACHAT_3 = JsonCalls(opens=(("<|message_sep|>\n\nfunction call<|role_sep|>\n", ""),))
