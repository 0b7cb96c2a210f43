"""Which format a chat template speaks, told by the marks in its text. Pure."""

from server.engines.text.tool_formats.base import ToolFormat
from server.engines.text.tool_formats.deepseek import CALLS_BEGIN, DEEPSEEK_V3, DEEPSEEK_V31, KIMI_K2
from server.engines.text.tool_formats.functionary import FUNCTIONARY_V31, FUNCTIONARY_V32
from server.engines.text.tool_formats.gemma import FUNCTION_GEMMA, GEMMA_4
from server.engines.text.tool_formats.generic import GENERIC
from server.engines.text.tool_formats.harmony import HARMONY
from server.engines.text.tool_formats.hermes import HERMES
from server.engines.text.tool_formats.listed import APRIEL, COMMAND_R7B, GRANITE, MINIMAX_M1, NEMOTRON, PHI4_MINI
from server.engines.text.tool_formats.llama3_json import LLAMA3_JSON
from server.engines.text.tool_formats.mistral import MISTRAL_ARGS, MISTRAL_LIST
from server.engines.text.tool_formats.qwen3_coder import GLM, MINIMAX_M2, QWEN3_CODER, SEED_OSS

# The first whose marks all stand in the template is taken, so what is more special comes first.
_BY_MARKS: tuple[tuple[tuple[str, ...], ToolFormat], ...] = (
    (("<|channel|>", "<|message|>"), HARMONY),
    (("<|tool_call>", "<tool_call|>"), GEMMA_4),
    (("<start_function_call>",), FUNCTION_GEMMA),
    (("```tool_code",), FUNCTION_GEMMA),
    ((CALLS_BEGIN, "```json"), DEEPSEEK_V3),
    ((CALLS_BEGIN,), DEEPSEEK_V31),
    (("<|tool_calls_section_begin|>",), KIMI_K2),
    (("[TOOL_CALLS]", "[ARGS]"), MISTRAL_ARGS),
    (("[TOOL_CALLS]",), MISTRAL_LIST),
    (("<seed:tool_call>",), SEED_OSS),
    (("<minimax:tool_call>", "<invoke name="), MINIMAX_M2),
    (("<]minimax[>",), GENERIC),
    (("<tool_call>", "<function="), QWEN3_CODER),
    (("<tool_call>", "<arg_key>"), GLM),
    (("<tool_calls>[",), APRIEL),
    (("<tool_calls>", "</tool_calls>"), MINIMAX_M1),
    (("<tool_call>", '"arguments"'), HERMES),
    (("<tool_call>", "</tool_call>"), HERMES),
    (("<TOOLCALL>",), NEMOTRON),
    (("<|START_ACTION|>", '"tool_name"'), COMMAND_R7B),
    (("<|tool_call|>", "<|/tool_call|>"), PHI4_MINI),
    (("<|tool_call|>",), GRANITE),
    (("<function=", "</function>"), FUNCTIONARY_V31),
    ((">>>all",), FUNCTIONARY_V32),
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
