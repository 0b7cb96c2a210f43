"""GLM since 4.5 (Ling 3, Spark 2.5 and Laguna share its tags) and Hy3: tags in pairs, one for a key, one for its value.

<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>
"""

from server.engines.text.tool_formats.tagged_calls import TaggedCalls

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
    other_marks=("<arg_key>", "</arg_key>", "<arg_value>"),
)

_HY = ":opensource"
_CALL, _CALLS, _SEPARATOR, _KEY, _VALUE = (
    f"{word}{_HY}>" for word in ("tool_call", "tool_calls", "tool_sep", "arg_key", "arg_value")
)
HY_3 = TaggedCalls(
    openings=(f"<{_CALL}",),
    header=rf"(?P<name>[^\s<>{{}}]+)\s*<{_SEPARATOR}",
    key=rf"<{_KEY}(?P<name>[^<]*)</{_KEY}\s*<{_VALUE}",
    value_end=f"</{_VALUE}",
    end=f"</{_CALL}",
    head=f"<{_CALL}{{name}}<{_SEPARATOR}\n",
    key_text=f"<{_KEY}{{name}}</{_KEY}\n",
    lead=f"<{_VALUE}",
    trail=f"</{_VALUE}\n",
    tail=f"</{_CALL}\n",
    prefix=f"<{_CALLS}\n",
    between="",
    suffix=f"</{_CALLS}",
    noise=(f"<{_CALLS}", f"</{_CALLS}"),
    other_marks=(f"<{_SEPARATOR}", f"<{_KEY}", f"</{_KEY}", f"<{_VALUE}"),
)
