import pytest

pytest.importorskip("llguidance")

from server.engines.text.tool_formats import choice
from server.engines.text.tool_formats.base import ToolFormat
from server.engines.text.tool_formats.deepseek import CALLS_BEGIN

TABLE: list[tuple[str, ToolFormat]] = [
    ('{{ "<tool_call>" }}{"name": n, "arguments": a}</tool_call>', choice.HERMES),
    ("<tool_call>\n<function=example>\n<parameter=x>", choice.QWEN3_CODER),
    ("<tool_call>{{ name }}<arg_key>", choice.GLM),
    ("<seed:tool_call><function=", choice.SEED_OSS),
    ('<minimax:tool_call><invoke name="x">', choice.MINIMAX_M2),
    ("<|python_tag|>{{ tools }}", choice.LLAMA3_JSON),
    ('{"name": function name, "parameters": dictionary of argument name and its value}', choice.LLAMA3_JSON),
    ("[TOOL_CALLS] {{ tools }}", choice.MISTRAL_LIST),
    ("[TOOL_CALLS]{{ name }}[ARGS]", choice.MISTRAL_ARGS),
    (CALLS_BEGIN + "\n```json", choice.DEEPSEEK_V3),
    (CALLS_BEGIN, choice.DEEPSEEK_V31),
    ("<|tool_calls_section_begin|>", choice.KIMI_K2),
    ("<|start|>assistant<|channel|>final<|message|>", choice.HARMONY),
    ("<start_function_call>call:", choice.FUNCTION_GEMMA),
    ("<|tool_call>call:x<tool_call|>", choice.GEMMA_4),
    ("<function={{ name }}>{{ args }}</function> <|python_tag|>", choice.FUNCTIONARY_V31),
    (">>>all\n", choice.FUNCTIONARY_V32),
    ("<|tool_call|>[", choice.GRANITE),
    ("<|tool_call|>[ ]<|/tool_call|>", choice.PHI4_MINI),
    ("<TOOLCALL>[ ]</TOOLCALL>", choice.NEMOTRON),
    ("<tool_calls>[ ]</tool_calls>", choice.APRIEL),
    ('<|START_ACTION|>[{"tool_name": x}]', choice.COMMAND_R7B),
    ('<|START_ACTION|>[{"tool_name": x}] <|START_TEXT|>', choice.NORTH_MINI),
    ('"tool_name" Action: `directly-answer`', choice.COMMAND_R_PLUS),
    ("<|tools_prefix|>[", choice.APERTUS),
    ("the function call role <|role_sep|> <|message_sep|> <|function_call|>", choice.GIGACHAT_31),
    ("the function call role <|role_sep|> <|message_sep|>", choice.GIGACHAT_3),
    ("formatted as functools[{", choice.FIREFUNCTION),
    ("<|tool_list_start|>", choice.LFM2),
    ("<|tool_call_start|>[", choice.LFM2),
    ("dsml_token = '\uff5cDSML\uff5c' function_calls>", choice.DSML_V32),
    ("dsml_token = '\uff5cDSML\uff5c' tool_calls>", choice.DSML_V4),
    ("<atem:invoke name= to=self<|message|>", choice.MUSE),
    ("]<]minimax[>[ <tool_call> <invoke name=", choice.MINIMAX_M3),
    ("{% set HYTK = ':opensource' %} <tool_sep{}> <arg_key{}>", choice.HY_3),
    ("<|open|> <|sep|> <|close|>", choice.KIMI_K3),
    ("<|tool_call:args|>", choice.SOLAR),
    ('<function name="x"><param name="y">', choice.MINICPM_5),
]


@pytest.mark.parametrize(("template", "form"), TABLE)
def test_the_marks_in_a_template_tell_the_format(template: str, form: ToolFormat) -> None:
    assert choice.format_of(template) is form
    assert choice.format_for(template) is form


@pytest.mark.parametrize("template", ["", "{% for m in messages %}<|im_start|>{{ m.role }}{% endfor %}"])
def test_a_template_without_marks_gets_the_generic_format(template: str) -> None:
    assert choice.format_of(template) is None
    assert choice.format_for(template) is choice.GENERIC
