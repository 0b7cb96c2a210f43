"""Which format a chat template speaks, told by the marks in its text. Pure."""

from server.engines.text.tool_formats.base import ToolFormat
from server.engines.text.tool_formats.deepseek import CALLS_BEGIN, DEEPSEEK_V3, DEEPSEEK_V31
from server.engines.text.tool_formats.functionary import FUNCTIONARY_V31, FUNCTIONARY_V32
from server.engines.text.tool_formats.gemma import FUNCTION_GEMMA, GEMMA_4
from server.engines.text.tool_formats.generic import GENERIC
from server.engines.text.tool_formats.glm import GLM, HY_3
from server.engines.text.tool_formats.harmony import HARMONY
from server.engines.text.tool_formats.hermes import HERMES
from server.engines.text.tool_formats.invoke import DSML_V4, DSML_V32, MINIMAX_M2, MINIMAX_M3, MUSE
from server.engines.text.tool_formats.kimi import KIMI_K2, KIMI_K3
from server.engines.text.tool_formats.listed import (
    APERTUS,
    APRIEL,
    COMMAND_R7B,
    COMMAND_R_PLUS,
    FIREFUNCTION,
    GIGACHAT_3,
    GIGACHAT_31,
    GRANITE,
    MINIMAX_M1,
    NEMOTRON,
    NORTH_MINI,
    PHI4_MINI,
)
from server.engines.text.tool_formats.llama3_json import LLAMA3_JSON
from server.engines.text.tool_formats.mistral import MISTRAL_ARGS, MISTRAL_LIST
from server.engines.text.tool_formats.python_calls import LFM2
from server.engines.text.tool_formats.qwen3_coder import MINICPM_5, QWEN3_CODER, SEED_OSS
from server.engines.text.tool_formats.solar import SOLAR

# The first whose marks all stand in the template is taken, so what is more special comes first.
_BY_MARKS: tuple[tuple[tuple[str, ...], ToolFormat], ...] = (
    (("<atem:invoke",), MUSE),
    (("<|channel|>", "<|message|>"), HARMONY),
    (("<|tool_call>", "<tool_call|>"), GEMMA_4),
    (("<start_function_call>",), FUNCTION_GEMMA),
    (("```tool_code",), FUNCTION_GEMMA),
    ((CALLS_BEGIN, "```json"), DEEPSEEK_V3),
    ((CALLS_BEGIN,), DEEPSEEK_V31),
    (("\uff5cDSML\uff5c", "function_calls>"), DSML_V32),
    (("\uff5cDSML\uff5c", "tool_calls>"), DSML_V4),
    (("<|tool_calls_section_begin|>",), KIMI_K2),
    (("<|open|>", "<|close|>", "<|sep|>"), KIMI_K3),
    (("<|tool_call:args|>",), SOLAR),
    (("[TOOL_CALLS]", "[ARGS]"), MISTRAL_ARGS),
    (("[TOOL_CALLS]",), MISTRAL_LIST),
    (("<|tool_call_start|>",), LFM2),
    (("<|tool_list_start|>",), LFM2),
    (('"List of tools: ["',), LFM2),
    (("<seed:tool_call>",), SEED_OSS),
    (("<minimax:tool_call>", "<invoke name="), MINIMAX_M2),
    (("]<]minimax[>[", "<invoke name="), MINIMAX_M3),
    (("<tool_sep{}>", ":opensource"), HY_3),
    (("<tool_call>", "<function="), QWEN3_CODER),
    (("<tool_call>", "<arg_key>"), GLM),
    (("<tool_calls>[",), APRIEL),
    (("<tool_calls>", "</tool_calls>"), MINIMAX_M1),
    (("<tool_call>", '"arguments"'), HERMES),
    (("<tool_call>", "</tool_call>"), HERMES),
    (("<TOOLCALL>",), NEMOTRON),
    (("<|START_ACTION|>", '"tool_name"', "<|START_TEXT|>"), NORTH_MINI),
    (("<|START_ACTION|>", '"tool_name"'), COMMAND_R7B),
    (("Action:", '"tool_name"', "directly-answer"), COMMAND_R_PLUS),
    (("<|tool_call|>", "<|/tool_call|>"), PHI4_MINI),
    (("<|tool_call|>",), GRANITE),
    (("<|tools_prefix|>",), APERTUS),
    (("function call", "<|role_sep|>", "<|function_call|>"), GIGACHAT_31),
    (("function call", "<|role_sep|>", "<|message_sep|>"), GIGACHAT_3),
    (("<function name=", "<param name="), MINICPM_5),
    (("<function=", "</function>"), FUNCTIONARY_V31),
    ((">>>all",), FUNCTIONARY_V32),
    (("functools[",), FIREFUNCTION),
    (("<|python_tag|>",), LLAMA3_JSON),
    (('"name": <function name>', '"parameters"'), LLAMA3_JSON),
    (('{"name": function name, "parameters": dictionary',), LLAMA3_JSON),
)


def format_of(template: str) -> ToolFormat | None:
    """Return the format that a template's text shows, None when it shows none that is known."""
    for marks, form in _BY_MARKS:
        if all(mark in template for mark in marks):
            return form
    return None


def format_for(template: str) -> ToolFormat:
    """Return the format that a template's text shows, or the generic one."""
    return format_of(template) or GENERIC
