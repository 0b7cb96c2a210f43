"""All formats by tables: whatever the size of the pieces, calls are found, and marks are never shown."""

import json
import re

import pytest

pytest.importorskip("llguidance")

from server.core.errors import InvalidValue
from server.core.text import Tool
from server.engines.text.constraints import Constraints
from server.engines.text.landing import Landing, single_characters
from server.engines.text.tool_formats import choice
from server.engines.text.tool_formats.base import Call, ToolFormat
from server.engines.text.tool_formats.choice import (
    APERTUS,
    APRIEL,
    COMMAND_R7B,
    COMMAND_R_PLUS,
    DEEPSEEK_V3,
    DEEPSEEK_V31,
    DSML_V4,
    DSML_V32,
    FIREFUNCTION,
    FUNCTION_GEMMA,
    FUNCTIONARY_V31,
    FUNCTIONARY_V32,
    GEMMA_4,
    GENERIC,
    GIGACHAT_3,
    GIGACHAT_31,
    GLM,
    GRANITE,
    HARMONY,
    HERMES,
    HY_3,
    KIMI_K2,
    KIMI_K3,
    LFM2,
    LLAMA3_JSON,
    MINICPM_5,
    MINIMAX_M1,
    MINIMAX_M2,
    MINIMAX_M3,
    MISTRAL_ARGS,
    MISTRAL_LIST,
    MUSE,
    NEMOTRON,
    NORTH_MINI,
    PHI4_MINI,
    QWEN3_CODER,
    SEED_OSS,
    SOLAR,
)
from server.engines.text.tool_formats.lark import LarkWriter
from server.engines.text.tool_formats.pieces import CallArguments, CallBegin, Piece
from tests.support.parsing import STEPS, Short, feed, short
from tests.support.spelled_words import SpelledWords

PROPERTIES = {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}}
TOOLS = (
    Tool(name="look", parameters=json.dumps({"type": "object", "properties": PROPERTIES, "required": ["city"]})),
    Tool(name="stop", parameters='{"type": "object", "properties": {}, "additionalProperties": false}'),
)
A = '{"city": "Par\\"is <x>", "days": 3}'
B, S = "\uff5c", "\u2581"


def deepseek(text: str) -> str:
    return re.sub(r"<\|([a-z ]+)\|>", lambda mark: f"<{B}{mark[1].replace(' ', S)}{B}>", text)


CALL, STOP = ("look", A), ("stop", "{}")

READ: list[tuple[ToolFormat, str, Short]] = [
    (HERMES, f'Hi <b>\n<tool_call>\n{{"name": "look", "arguments": {A}}}\n</tool_call>', ["Hi <b>", CALL]),
    (HERMES, '<tool_call>\n{"arguments": {}, "name": "stop"}\n</tool_call>\n', [STOP]),
    (
        HERMES,
        f'<tool_call>{{"name": "look", "arguments": {A}}}</tool_call>\n<tool_call>{{"name": "stop"}}</tool_call>',
        [CALL, STOP],
    ),
    (HERMES, '<tool_call>{"name": "stop", "arguments": "{}"}</tool_call>done', [STOP, "done"]),
    (HERMES, "a < b <tool", ["a < b <tool"]),
    (LLAMA3_JSON, f'{{"name": "look", "parameters": {A}}}; {{"name": "stop", "parameters": {{}}}}', [CALL, STOP]),
    (LLAMA3_JSON, f'<|python_tag|>{{"type": "function", "name": "look", "parameters": {A}}}', [CALL]),
    (LLAMA3_JSON, '{"answer": [1, 2]} is JSON', ['{"answer": [1, 2]} is JSON']),
    (LLAMA3_JSON, 'Say {"name": "look", "parameters": {}}', ['Say {"name": "look", "parameters": {}}']),
    (
        MISTRAL_LIST,
        f'ok [TOOL_CALLS] [{{"name": "look", "arguments": {A}, "id": "a"}}, {{"name": "stop", "arguments": {{}}}}]',
        ["ok", CALL, STOP],
    ),
    (MISTRAL_ARGS, f"ok[TOOL_CALLS]look[ARGS]{A}[TOOL_CALLS]stop[CALL_ID]a1[ARGS]{{}}", ["ok", CALL, STOP]),
    (MISTRAL_ARGS, f"[TOOL_CALLS]look{A}", [CALL]),
    (
        DEEPSEEK_V3,
        deepseek(
            f"x<|tool calls begin|><|tool call begin|>function<|tool sep|>look\n```json\n{A}\n```<|tool call end|>\n"
            "<|tool call begin|>function<|tool sep|>stop\n```json\n{}\n```<|tool call end|><|tool calls end|>"
        ),
        ["x", CALL, STOP],
    ),
    (
        DEEPSEEK_V31,
        deepseek(f"<|tool calls begin|><|tool call begin|>look<|tool sep|>{A}<|tool call end|><|tool calls end|>"),
        [CALL],
    ),
    (
        KIMI_K2,
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>"
        f"{A}<|tool_call_end|><|tool_calls_section_end|>",
        [CALL],
    ),
    (
        HARMONY,
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary<|message|>wait<|end|>"
        f"<|start|>assistant<|channel|>commentary to=functions.look <|constrain|>json<|message|>{A}<|call|>",
        [("", "hm"), "wait", CALL],
    ),
    (HARMONY, "<|channel|>final<|message|>a <| b", ["a <| b"]),
    (HARMONY, " to=functions.stop<|channel|>commentary json<|message|>{}", [STOP]),
    (HARMONY, "no header", ["no header"]),
    (
        QWEN3_CODER,
        'a\n<tool_call>\n<function=look>\n<parameter=city>\nPar"is <x>\n</parameter>\n<parameter=days>\n3\n'
        "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=stop>\n</function>\n</tool_call>\n",
        ["a", CALL, STOP],
    ),
    (
        QWEN3_CODER,
        "<function=look>\n<parameter=city>\n\nx\n\n</parameter>\n<parameter=unit>\nC\n</parameter>\n</function>",
        [("look", '{"city": "\\nx\\n", "unit": "C"}')],
    ),
    (
        SEED_OSS,
        "<seed:tool_call>\n<function=look>\n<parameter=city>x</parameter>\n<parameter=days>1</parameter>\n</function>\n"
        "</seed:tool_call>",
        [("look", '{"city": "x", "days": 1}')],
    ),
    (
        MINIMAX_M2,
        '<minimax:tool_call>\n<invoke name="look">\n<parameter name="city">x</parameter>\n</invoke>\n'
        "</minimax:tool_call>",
        [("look", '{"city": "x"}')],
    ),
    (
        GLM,
        "a\n<tool_call>look\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>3</arg_value>\n</tool_call>\n<tool_call>stop</tool_call>",
        ["a", ("look", '{"city": "Paris", "days": 3}'), STOP],
    ),
    (
        GEMMA_4,
        'hi <|tool_call>call:look{city:<|"|>a,b:{c<|"|>,l:[1,{k:true}]}<tool_call|>',
        ["hi", ("look", '{"city": "a,b:{c", "l": [1, {"k": true}]}')],
    ),
    (
        FUNCTION_GEMMA,
        "<start_function_call>call:look{city:<escape>x<escape>,days:3}<end_function_call>",
        [("look", '{"city": "x", "days": 3}')],
    ),
    (
        FUNCTION_GEMMA,
        '```tool_code\nprint(default_api.look(city="x", days=-1))\nstop()\n```',
        [("look", '{"city": "x", "days": -1}'), STOP],
    ),
    (FUNCTIONARY_V31, f"hm <function=look>{A}</function><function=stop>{{}}</function>", ["hm", CALL, STOP]),
    (FUNCTIONARY_V32, f"all\nhello >> there\n>>>look\n{A}\n>>>stop\n{{}}", ["hello >> there", CALL, STOP]),
    (FUNCTIONARY_V32, f"look\n{A}", [CALL]),
    (FUNCTIONARY_V32, "plain\ntext", ["plain\ntext"]),
    (GENERIC, f'{{"name": "look", "arguments": {A}}}\n{{"name": "stop", "arguments": {{}}}}', [CALL, STOP]),
    (GENERIC, '```json\n{"name": "stop", "arguments": {}}\n```', [STOP]),
    (GENERIC, 'Sure:\n```json\n{"a": 1}\n```\nbye', ['Sure:\n```json\n{"a": 1}\n```\nbye']),
    (GENERIC, '{"name": "nobody", "arguments": {}}', ['{"name": "nobody", "arguments": {}}']),
    (GRANITE, f'<|tool_call|>[{{"name": "look", "arguments": {A}}}]', [CALL]),
    (PHI4_MINI, f'<|tool_call|>[{{"name": "look", "arguments": {A}}}]<|/tool_call|>', [CALL]),
    (NEMOTRON, f'<TOOLCALL>[{{"name": "look", "arguments": {A}}}, {{"name": "stop"}}]</TOOLCALL>', [CALL, STOP]),
    (APRIEL, f'<tool_calls>[{{"name": "look", "arguments": {A}}}]</tool_calls>', [CALL]),
    (
        MINIMAX_M1,
        f'<tool_calls>\n{{"name": "look", "arguments": {A}}}\n{{"name": "stop"}}\n</tool_calls>',
        [CALL, STOP],
    ),
    (
        COMMAND_R7B,
        f'<|START_ACTION|>[\n {{"tool_call_id": "0", "tool_name": "look", "parameters": {A}}}\n]<|END_ACTION|>',
        [CALL],
    ),
    (COMMAND_R7B, "<|START_RESPONSE|>It is <b>.<|END_RESPONSE|>", ["It is <b>."]),
    (NORTH_MINI, "<|START_TEXT|>It is <|so|>.<|END_TEXT|>", ["It is <|so|>."]),
    (
        COMMAND_R_PLUS,
        f'I look.\nAction:\n```json\n[\n {{\n "tool_name": "look",\n "parameters": {A}\n }}\n]```',
        ["I look.", CALL],
    ),
    (APERTUS, f'ok<|tools_prefix|>[{{"look": {A}}}, {{"stop": {{}}}}]<|tools_suffix|>', ["ok", CALL, STOP]),
    (FIREFUNCTION, f' functools[{{"name": "look", "arguments": {A}}}]', [CALL]),
    (GIGACHAT_31, f'ok<|function_call|>{{"name": "look", "arguments": {A}}}', ["ok", CALL]),
    (
        GIGACHAT_3,
        f'ok<|message_sep|>\n\nfunction call<|role_sep|>\n{{"name": "look", "arguments": {A}}}',
        ["ok", CALL],
    ),
    (
        LFM2,
        """ok<|tool_call_start|>[look(city='Par"is <x>', days=3), stop()]<|tool_call_end|>""",
        ["ok", CALL, STOP],
    ),
    (
        LFM2,
        r"""<|tool_call_start|>[look(city="\d \ud83d\ude00", days=[true, null, -1, {"a": False}])]<|tool_call_end|>""",
        [("look", '{"city": "\\\\d \U0001f600", "days": [true, null, -1, {"a": false}]}')],
    ),
    (
        DSML_V32,
        'hm\n\n<{b}DSML{b}function_calls>\n<{b}DSML{b}invoke name="look">\n'
        '<{b}DSML{b}parameter name="city" string="true">Par"is <x></{b}DSML{b}parameter>\n'
        '<{b}DSML{b}parameter name="days" string="false">3</{b}DSML{b}parameter>\n</{b}DSML{b}invoke>\n'
        '<{b}DSML{b}invoke name="stop">\n</{b}DSML{b}invoke>\n</{b}DSML{b}function_calls>'.replace("{b}", B),
        ["hm", CALL, STOP],
    ),
    (
        DSML_V4,
        '<{b}DSML{b}tool_calls>\n<{b}DSML{b}invoke name="look">\n'
        '<{b}DSML{b}parameter name="other" string="true">3</{b}DSML{b}parameter>\n'
        '<{b}DSML{b}parameter name="more" string="false">[3]</{b}DSML{b}parameter>\n'
        "</{b}DSML{b}invoke>\n</{b}DSML{b}tool_calls>".replace("{b}", B),
        [("look", '{"other": "3", "more": [3]}')],
    ),
    (
        MUSE,
        " to=user<|message|>wait<|eom|><|start|>assistant to=look<|message|><atem:function_calls>\n"
        '<atem:invoke name="look">\n<atem:parameter name="city">Par"is <x></atem:parameter>\n'
        '<atem:parameter name="days">3</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eom|>'
        '<|start|>assistant to=stop<|message|><atem:function_calls>\n<atem:invoke name="stop">\n</atem:invoke>\n'
        "</atem:function_calls><|eot|>",
        ["wait", CALL, STOP],
    ),
    (
        MINIMAX_M3,
        'ok#<tool_call>\n#<invoke name="look">#<city>Par"is <x>#</city>#<days>3#</days>#</invoke>\n'
        '#<invoke name="stop">#</invoke>\n#</tool_call>'.replace("#", "]<]minimax[>["),
        ["ok", CALL, STOP],
    ),
    (
        MINIMAX_M3,
        '#<tool_call>\n#<invoke name="look">#<list>#<item>#<a>1#</a>#</item>#<item>x#</item>#</list>#</invoke>\n'
        "#</tool_call>".replace("#", "]<]minimax[>["),
        [("look", '{"list": [{"a": 1}, "x"]}')],
    ),
    (
        HY_3,
        'ok<tool_calls:o>\n<tool_call:o>look<tool_sep:o>\n<arg_key:o>city</arg_key:o>\n<arg_value:o>Par"is <x>'
        "</arg_value:o>\n<arg_key:o>days</arg_key:o>\n<arg_value:o>3</arg_value:o>\n</tool_call:o>\n"
        "<tool_call:o>stop<tool_sep:o>\n</tool_call:o>\n</tool_calls:o>".replace(":o", ":opensource"),
        ["ok", CALL, STOP],
    ),
    (
        KIMI_K3,
        "<|open|>response<|sep|>ok<|close|>response<|sep|><|open|>tools<|sep|>"
        '<|open|>call tool="look" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>Par"is <x>'
        '<|close|>argument<|sep|><|open|>argument key="days" type="number"<|sep|>3<|close|>argument<|sep|>'
        '<|close|>call<|sep|><|open|>call tool="stop" index="2"<|sep|><|close|>call<|sep|><|close|>tools<|sep|>'
        "<|close|>message<|sep|>",
        ["ok", CALL, STOP],
    ),
    (
        SOLAR,
        f"<|tool_calls|><|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>look<|tool_call:args|>{A}<|tool_call:end|>"
        "<|tool_call:begin|>f<|tool_call:name|>stop<|tool_call:args|>{}<|tool_call:end|><|calls|>",
        [CALL, STOP],
    ),
    (SOLAR, "<|content|>It is so.<|end|>", ["It is so."]),
    (
        MINICPM_5,
        'ok<function name="look"><param name="city"><![CDATA[Par"is <x>]]></param><param name="days">3</param>'
        '</function>\n<function name="stop"></function>',
        ["ok", CALL, STOP],
    ),
    (
        MINICPM_5,
        '<function name="look"><param name="city"><![CDATA[a</param>]]\n]]></param></function>',
        [("look", '{"city": "a</param>]]\\n"}')],
    ),
    (
        HERMES,
        r'<tool_call>{"name": "st\ud800op", "arguments": {"a": "\ud800"}}</tool_call>',
        [("st?op", r'{"a": "\ud800"}')],
    ),
]

ALL = [
    *(HERMES, LLAMA3_JSON, MISTRAL_LIST, MISTRAL_ARGS, DEEPSEEK_V3, DEEPSEEK_V31, KIMI_K2, HARMONY, QWEN3_CODER),
    *(SEED_OSS, MINIMAX_M2, GLM, GEMMA_4, FUNCTION_GEMMA, FUNCTIONARY_V31, FUNCTIONARY_V32, GENERIC, GRANITE),
    *(PHI4_MINI, NEMOTRON, APRIEL, MINIMAX_M1, COMMAND_R7B, NORTH_MINI, COMMAND_R_PLUS, APERTUS, FIREFUNCTION),
    *(GIGACHAT_31, GIGACHAT_3, LFM2, DSML_V32, DSML_V4, MUSE, MINIMAX_M3, HY_3, KIMI_K3, SOLAR, MINICPM_5),
]
NAMES = {id(form): name for name, form in vars(choice).items() if name.isupper()}

MALFORMED: list[tuple[ToolFormat, str]] = [
    (HERMES, "<tool_call>\nnot json\n</tool_call> and more"),
    (HERMES, '<tool_call>{"name": "stop", "arguments": {]}}</tool_call>x'),
    (HERMES, '<tool_call>{"name": "stop", "arg'),
    (HERMES, '<tool_call>{"name": "stop", "arguments": "[1]"}</tool_call>'),
    (HERMES, "<tool_call></tool_call>"),
    (MISTRAL_ARGS, "[TOOL_CALLS]what now"),
    (MISTRAL_ARGS, "[TOOL_CALLS]stop[ARGS]nope"),
    (MISTRAL_LIST, "[TOOL_CALLS] [1, 2]"),
    (DEEPSEEK_V31, deepseek("<|tool call begin|>stop<|tool sep|>x<|tool call end|>")),
    (HARMONY, '<|channel|>commentary to=functions.stop<|message|>{"a"'),
    (QWEN3_CODER, "<tool_call>\nhello"),
    (QWEN3_CODER, "<function=stop>\n<par"),
    (GLM, "<tool_call>look\n<arg_key>city</arg_key>\n<arg_value>Par"),
    (GEMMA_4, "<|tool_call>call:look{city:<tool_call|>"),
    (FUNCTION_GEMMA, "```tool_code\nimport os\n```"),
    (FUNCTION_GEMMA, "```tool_code\nlook(os.environ)\n```"),
    (FUNCTIONARY_V31, '<function=stop>{"a": }</function>z'),
    (GENERIC, '{"name": "look", "arguments": {"a"'),
    (LLAMA3_JSON, '{"name": "look", "parameters": "x"}'),
]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("form", "text", "expected"), READ)
def test_calls_are_read_from_pieces_of_any_size(
    form: ToolFormat, text: str, expected: Short, step: int, streams: bool
) -> None:
    assert short(feed(form.parser(TOOLS, streams=streams), text, step)) == expected


@pytest.mark.parametrize(("form", "text", "expected"), READ)
def test_no_piece_shows_a_mark_of_a_call(form: ToolFormat, text: str, expected: Short) -> None:
    parser = form.parser(TOOLS, streams=True)
    shown = [piece for char in text for piece in parser.feed(char) if not isinstance(piece, CallBegin)]
    for piece in shown + parser.finish():
        assert not isinstance(piece, CallBegin)
        if not any(mark in part for part in expected if isinstance(part, str) for mark in form.marks):
            assert not any(mark in piece.text for mark in form.marks if len(mark) > 4)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("form", "text"), MALFORMED)
def test_what_is_no_call_after_all_is_text(form: ToolFormat, text: str, step: int) -> None:
    pieces = feed(form.parser(TOOLS, streams=False), text, step)
    assert not any(isinstance(piece, CallBegin | CallArguments) for piece in pieces)
    assert "".join(str(part) for part in short(pieces)) == text


@pytest.mark.parametrize("form", [HERMES, LLAMA3_JSON, MISTRAL_ARGS, QWEN3_CODER, FUNCTIONARY_V31, HARMONY])
def test_arguments_come_bit_by_bit_when_they_may(form: ToolFormat) -> None:
    text = next(text for other, text, expected in READ if other is form and ("look", A) in expected)
    parser = form.parser(TOOLS, streams=True)
    pieces: list[Piece] = [piece for char in text for piece in parser.feed(char)]
    assert sum(isinstance(piece, CallArguments) for piece in pieces) > 10


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("form", ALL, ids=lambda form: NAMES.get(id(form)))
def test_what_the_grammar_admits_the_parser_reads(form: ToolFormat, many: bool) -> None:
    """Go through the grammar by the shortest way and let the parser read what comes out."""
    words = SpelledWords(
        words=[B, S], control=["[TOOL_CALLS]", "<|channel|>", "<|message|>", "<|python_tag|>", "<|close|>"]
    )
    write = LarkWriter(words.control_ids)
    constraints = Constraints(words)
    mask = constraints.lark_mask(write.grammar(form.calls(write, TOOLS[:1], many=many)), "tools")
    written = {token: text for text, token in words.control_ids.items()}
    closings = [(closing, constraints.tokens(closing)) for closing in form.closings]
    landing = Landing(words.piece, single_characters(words.size, words.piece), closings)
    ending = landing.shortest(mask, 500)
    assert ending is not None
    text = "".join(written.get(token) or words.piece(token).decode() for token in ending)
    name, arguments = short(feed(form.parser(TOOLS, streams=True), text, 1))[-1]
    assert name == "look"
    assert isinstance(json.loads(arguments)["city"], str)


LFM2_IN_JSON = (
    """<|tool_call_start|>[look(city="Par\\"is, the 'old' one", days=-3, unit="F"), look(city="x")]<|tool_call_end|>"""
)
WRITTEN = [Call("look", {"city": "Par\"is, the 'old' one", "days": -3, "unit": "F"}), Call("look", {"city": "x"})]


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("form", ALL, ids=lambda form: NAMES.get(id(form)))
def test_what_is_written_for_a_model_is_what_the_grammar_admits_and_the_parser_reads(
    form: ToolFormat, control: bool
) -> None:
    calls = WRITTEN[:1] if form is HARMONY else WRITTEN  # gpt-oss is held to one call a turn
    marks = {mark for text in form.marks for mark in re.findall(r"<\|[^<>]*\|>|\[[A-Z_]+\]", text)}
    words = SpelledWords(words=[B, S], control=sorted(marks) if control else ())
    write = LarkWriter(words.control_ids)
    mask = Constraints(words).lark_mask(write.grammar(form.calls(write, TOOLS, many=len(calls) > 1)), "tools")
    text = form.written(calls)
    assert mask.follow(LFM2_IN_JSON if form is LFM2 else text)
    assert mask.may_end
    for step in STEPS:
        read = short(feed(form.parser(TOOLS, streams=False), text, step))
        assert [(name, json.loads(arguments)) for name, arguments in read] == [tuple(call) for call in calls]


@pytest.mark.parametrize("form", ALL, ids=lambda form: NAMES.get(id(form)))
def test_the_trigger_stands_where_the_grammar_begins(form: ToolFormat) -> None:
    written = form.written([Call("name", {"argument": 1})])
    found = form.trigger.search(written)
    assert found is not None
    begun = found.string[found.start("call") if "call" in found.re.groupindex else found.start() :]
    write = LarkWriter({})
    tools = (Tool(name="name"),)
    words = SpelledWords(words=[B, S])
    mask = Constraints(words).lark_mask(write.grammar(form.calls(write, tools, many=False)), "tools")
    assert mask.follow(begun[: found.end() - found.start()])


def test_a_tagged_format_needs_a_plain_object() -> None:
    tool = Tool(name="look", parameters='{"anyOf": [{"type": "object"}]}')
    with pytest.raises(InvalidValue):
        QWEN3_CODER.calls(LarkWriter({}), (tool,), many=False)
