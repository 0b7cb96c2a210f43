"""Blocks of `invoke` tags: MiniMax M2 and M3, DeepSeek since V3.2 and Muse, which differ in what stands before names.

<block><invoke name="f"><parameter name="a">1</parameter></invoke></block>
"""

import re

from server.engines.text.tool_formats.nested_tags import NestedTags
from server.engines.text.tool_formats.tagged_calls import TaggedCalls

_DSML = "\uff5cDSML\uff5c"
_M3 = "]<]minimax[>["


def _invoke(block: str, space: str = "", *, told: str = "", kind: str = "") -> TaggedCalls:
    """Return the form with a block of this name and `space` before all other names.

    `told` is what a parameter's tag says of its value, `kind` the pattern for it.
    """
    return TaggedCalls(
        openings=(f"<{block}>", f"<{space}invoke name="),
        header=rf'<{space}invoke name="?(?P<name>[^<>"\n]+)"?>\s*',
        key=rf'<{space}parameter name="?(?P<name>[^<>"\n]+)"?{kind}>',
        value_end=f"</{space}parameter>",
        end=f"</{space}invoke>",
        head=f'<{space}invoke name="{{name}}">\n',
        key_text=f'<{space}parameter name="{{name}}"{told}>',
        lead="",
        trail=f"</{space}parameter>\n",
        tail=f"</{space}invoke>\n",
        close=f"</{block}>",
        prefix=f"<{block}>\n",
        between="",
        suffix=f"</{block}>",
    )


def _dsml(block: str) -> TaggedCalls:
    return _invoke(f"{_DSML}{block}", _DSML, told=' string="{is_text}"', kind=r'(?:\s+string="(?P<kind>true|false)")?')


MINIMAX_M2 = _invoke("minimax:tool_call")
DSML_V32 = _dsml("function_calls")
DSML_V4 = _dsml("tool_calls")

# Each call is a message to the function, in which the block stands; answers are messages to the user.
MUSE = _invoke("atem:function_calls", "atem:")._replace(
    head=' to={name}<|message|><atem:function_calls>\n<atem:invoke name="{name}">\n',
    tail="</atem:invoke>\n</atem:function_calls>",
    prefix="",
    between="<|eom|><|start|>assistant",
    suffix="",
    begins=r"(?P<call> to=(?!self<|user<)[^\s<]+<\|message\|>)",
    noise=("<|start|>assistant", " to=user<|message|>", " to={name}<|message|>", "<|eom|>", "<|eot|>"),
    answer_head=" to=user<|message|>",
    wraps=True,
)

# Arguments are tags of their own names, with a mark before every tag.
MINIMAX_M3 = TaggedCalls(
    openings=(f"{_M3}<tool_call>", f"{_M3}<invoke name="),
    header=rf'{re.escape(_M3)}<invoke name="?(?P<name>[^<>"\n]+)"?>\s*',
    key=rf"{re.escape(_M3)}<(?P<name>[^<>/\n]+)>",
    value_end=f"{_M3}</{{name}}>",
    end=f"{_M3}</invoke>",
    head=f'{_M3}<invoke name="{{name}}">',
    key_text=f"{_M3}<{{name}}>",
    lead="",
    trail=f"{_M3}</{{name}}>",
    tail=f"{_M3}</invoke>\n",
    close=f"{_M3}</tool_call>",
    prefix=f"{_M3}<tool_call>\n",
    between="",
    suffix=f"{_M3}</tool_call>",
    text_end=_M3,
    nested=NestedTags(_M3),
)
