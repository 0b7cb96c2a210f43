"""Tags of Qwen3-Coder and Qwen3.5 (Nemotron 3 and Step 3.5 share them), of Seed-OSS, and of MiniCPM 5."""

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
    head="<seed:tool_call>\n<function={name}>\n",
    lead="",
    trail="</parameter>\n",
    tail="</function>\n</seed:tool_call>",
    close="</seed:tool_call>",
)
MINICPM_5 = TaggedCalls(
    openings=("<function name=",),
    header=r'"(?P<name>[^<>"\n]+)">\s*',
    key=r'<param name="(?P<name>[^<>"\n]+)">',
    value_end="</param>",
    end="</function>",
    head='<function name="{name}">',
    key_text='<param name="{name}">',
    lead="",
    trail="</param>",
    tail="</function>",
    verbatim=("<![CDATA[", "]]>"),
)
