"""Tags of Qwen3-Coder and Qwen3.5 (Nemotron 3 and Step 3.5 share them), Seed-OSS, MiniMax M2, and GLM since 4.5."""

from server.engines.text.tool_formats.tagged_calls import TaggedCalls

QWEN3_CODER = TaggedCalls(
    openings=("<tool_call>", "<function="),
    header=r"<function=(?P<name>[^<>\n]+)>\s*",
    key=r"<parameter=(?P<name>[^<>\n]+)>",
    value_end="</parameter>",
    end="</function>",
    head="<tool_call>\n<function={name}>\n",
    key_text="<parameter={name}>",
    lead="\n",
    trail="\n</parameter>\n",
    tail="</function>\n</tool_call>",
    close="</tool_call>",
)
SEED_OSS = QWEN3_CODER._replace(
    openings=("<seed:tool_call>", "<function="),
    end="</function>",
    head="<seed:tool_call>\n<function={name}>\n",
    lead="",
    trail="</parameter>\n",
    tail="</function>\n</seed:tool_call>",
    close="</seed:tool_call>",
)
MINIMAX_M2 = TaggedCalls(
    openings=("<minimax:tool_call>", "<invoke name="),
    header=r'<invoke name="?(?P<name>[^<>"\n]+)"?>\s*',
    key=r'<parameter name="?(?P<name>[^<>"\n]+)"?>',
    value_end="</parameter>",
    end="</invoke>",
    head='<minimax:tool_call>\n<invoke name="{name}">\n',
    key_text='<parameter name="{name}">',
    lead="",
    trail="</parameter>\n",
    tail="</invoke>\n</minimax:tool_call>",
    close="</minimax:tool_call>",
)
GLM = TaggedCalls(
    openings=("<tool_call>",),
    header=r"(?P<name>[^\s<>{}]+)\s*(?=<arg_key>|</tool_call>)",
    key=r"<arg_key>(?P<name>[^<]*)</arg_key>\s*<arg_value>",
    value_end="</arg_value>",
    end="</tool_call>",
    head="<tool_call>{name}\n",
    key_text="<arg_key>{name}</arg_key>\n",
    lead="<arg_value>",
    trail="</arg_value>\n",
    tail="</tool_call>",
    other_marks=("<arg_key>", "</arg_key>", "<arg_value>", "</tool_call>"),
)
