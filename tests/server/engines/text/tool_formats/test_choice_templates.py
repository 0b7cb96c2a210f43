"""The templates that come with llama.cpp: what each writes for a call, a thought and an answer is read back."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("llguidance")

from server.core.text import Tool
from server.engines.text.chat_template import ChatTemplate, Json
from server.engines.text.conversation_shape import ConversationShaper
from server.engines.text.output_parser import make_parser
from server.engines.text.reasoning import opens_thoughts, thought_form
from server.engines.text.tool_formats import choice
from server.engines.text.tool_formats.base import Call
from server.engines.text.tool_formats.choice import format_for, format_of
from server.engines.text.tool_formats.pieces import CallBegin, Said, Thought
from tests.support.llama_source import llama_files, needs_llama_source
from tests.support.parsing import STEPS, feed, short

pytestmark = [pytest.mark.golden, needs_llama_source]

FORMATS = {
    "Apertus-8B-Instruct": "APERTUS",
    "Apriel-1.6-15b-Thinker-fixed": "APRIEL",
    "Bielik-11B-v3.0-Instruct": "HERMES",
    "ByteDance-Seed-OSS": "SEED_OSS",
    "Cohere2MoE": "NORTH_MINI",
    "CohereForAI-c4ai-command-r-plus-tool_use": "COMMAND_R_PLUS",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": "COMMAND_R7B",
    "GLM-4.6": "GLM",
    "GLM-4.7-Flash": "GLM",
    "GigaChat3-10B-A1.8B": "GIGACHAT_3",
    "GigaChat3.1-10B-A1.8B": "GIGACHAT_31",
    "HuggingFaceTB-SmolLM3-3B": None,
    "Kimi-K2-Instruct": "KIMI_K2",
    "Kimi-K2-Thinking": "KIMI_K2",
    "Kimi-K3": "KIMI_K3",
    "LFM2-8B-A1B": "LFM2",
    "LFM2.5-8B-A1B": "LFM2",
    "LFM2.5-Instruct": "LFM2",
    "MiMo-VL": "HERMES",
    "MiniMax-M1": "MINIMAX_M1",
    "MiniMax-M2": "MINIMAX_M2",
    "MiniMax-M3": "MINIMAX_M3",
    "Mistral-Small-3.2-24B-Instruct-2506": "MISTRAL_ARGS",
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "QWEN3_CODER",
    "NVIDIA-Nemotron-Nano-v2": "NEMOTRON",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": "HERMES",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": "HERMES",
    "Qwen-QwQ-32B": "HERMES",
    "Qwen-Qwen2.5-7B-Instruct": "HERMES",
    "Qwen-Qwen3-0.6B": "HERMES",
    "Qwen3-Coder": "QWEN3_CODER",
    "Qwen3.5-4B": "QWEN3_CODER",
    "Reka-Edge": "HERMES",
    "Spark2.5": "GLM",
    "StepFun3.5-Flash": "QWEN3_CODER",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "DEEPSEEK_V3",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "DEEPSEEK_V3",
    "deepseek-ai-DeepSeek-V3.1": "DEEPSEEK_V31",
    "deepseek-ai-DeepSeek-V3.2": "DSML_V32",
    "deepseek-ai-DeepSeek-V4": "DSML_V4",
    "deepseek-ai-DeepSeek-V4-Flash-0731": "DSML_V4",
    "fireworks-ai-llama-3-firefunction-v2": "FIREFUNCTION",
    "google-gemma-2-2b-it": None,
    "google-gemma-4-31B-it": "GEMMA_4",
    "google-gemma-4-31B-it-interleaved": "GEMMA_4",
    "ibm-granite-granite-3.3-2B-Instruct": "GRANITE",
    "ibm-granite-granite-4.0": "HERMES",
    "ibm-granite-granite-4.1": "HERMES",
    "inclusionai-ling-3.0-flash": "GLM",
    "llama-cpp-deepseek-r1": "DEEPSEEK_V3",
    "llama-cpp-rwkv-world": None,
    "meetkai-functionary-medium-v3.1": "FUNCTIONARY_V31",
    "meetkai-functionary-medium-v3.2": "FUNCTIONARY_V32",
    "meta-llama-Llama-3.1-8B-Instruct": "LLAMA3_JSON",
    "meta-llama-Llama-3.2-3B-Instruct": "LLAMA3_JSON",
    "meta-llama-Llama-3.3-70B-Instruct": "LLAMA3_JSON",
    "microsoft-Phi-3.5-mini-instruct": None,
    "mistralai-Ministral-3-14B-Reasoning-2512": "MISTRAL_ARGS",
    "mistralai-Mistral-Nemo-Instruct-2407": "MISTRAL_LIST",
    "moonshotai-Kimi-K2": "KIMI_K2",
    "muse-glimmer": "MUSE",
    "openai-gpt-oss-120b": "HARMONY",
    "openbmb-MiniCPM5-1B": "MINICPM_5",
    "poolside-Laguna-S-2.1": "GLM",
    "poolside-Laguna-XS-2.1": "GLM",
    "poolside-Laguna-XS.2": "GLM",
    "tencent-Hy3": "HY_3",
    "unsloth-Apriel-1.5": "APRIEL",
    "unsloth-mistral-Devstral-Small-2507": "MISTRAL_ARGS",
    "upstage-Solar-Open-100B": "SOLAR",
}
TEMPLATES = [pytest.param(path, id=path.stem) for path in llama_files("models/templates/*.jinja")]
# Those whose models have a way of their own to call.
OWN = [param for param in TEMPLATES if format_of(param.values[0].read_text()) is not None]
# These end no row of calls that is one call long.
UNENDED = {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B"}
# These write an answer in the last turn as if it were thoughts that have not ended.
UNTOLD = {"NVIDIA-Nemotron-Nano-v2"}

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "x"}, "days": {"type": "integer", "description": "d"}},
    "required": ["city"],
}
TOOL: Json = {"type": "function", "function": {"name": "look", "description": "see", "parameters": PARAMETERS}}
OFFERED = (Tool(name="look", parameters=json.dumps(PARAMETERS)),)
ARGUMENTS = ({"city": 'Par"is <x>', "days": 3}, {"city": "~Rome~", "days": 4})
QUESTION, SAID, THOUGHT = "~Question?~", "~Said.~", "~Hmm.~"
# An id of the call, which no two templates write alike.
HARMONY_HEAD = "<|channel|>commentary to=functions.look <|constrain|>json<|message|>"
IDS = re.compile(r'\[CALL_ID\]\w+|,"id":"\w+"|(?<=>)call\w*(?=<)')


class Turn(NamedTuple):
    """A turn of the assistant as a template writes it, and whether the prompt before it opens thoughts."""

    text: str
    opened: bool


@cache
def template_of(source: str) -> ChatTemplate:
    return ChatTemplate(source, bos="<|bos|>", eos="<|eos|>")


@cache
def shaper_of(source: str) -> ConversationShaper:
    return ConversationShaper(template_of(source), format_for(source))


def counts(source: str) -> tuple[int, ...]:
    """Return how many calls a template may write in one turn, of one and two."""
    return (1,) if shaper_of(source).shape.spread.single else (1, 2)


def assistant(*, calls: int = 0, said: str = "", thought: str = "") -> Json:
    message: Json = {"role": "assistant", "content": said}
    if calls:
        message["tool_calls"] = [
            {"id": f"call_{number}", "type": "function", "function": {"name": "look", "arguments": ARGUMENTS[number]}}
            for number in range(calls)
        ]
    if thought:
        message["reasoning_content"] = thought
    return message


def rendered(source: str, messages: list[Json], *, open_turn: bool) -> str:
    shaped, tools = shaper_of(source).shaped(messages, [TOOL])
    return template_of(source).render(shaped, tools=tools, open_turn=open_turn)


def turn(source: str, message: Json) -> Turn:
    """Return what a template writes for a message, without what stands around all messages.

    Where a turn begins is told by the prompt, which ends there (maybe within thoughts that the history leaves out);
    where it ends by an answer of another text.
    """
    user = {"role": "user", "content": QUESTION}
    prompt = rendered(source, [user], open_turn=True).rpartition(QUESTION)[2]
    whole = rendered(source, [user, message], open_turn=False).rpartition(QUESTION)[2]
    other = rendered(source, [user, assistant(said="~other~")], open_turn=False).partition("~other~")[2]
    # Marks that begin alike are no common beginning, and neither are those that end alike.
    head = re.sub(r"(<[^<>]*|\[[^\[\]]*|\n?[A-Z])$", "", common(prompt, whole))
    end = common(other[::-1], whole[::-1])[::-1]
    text = whole[len(head) : len(whole) - len(end)]
    if re.search(r"(<[^<>]*|<\|close\|>\w*)$", text):
        text += end.partition(">")[0] + ">"
    form = thought_form(source)
    return Turn(text, opens_thoughts(head, form) or (THOUGHT in whole and opens_thoughts(prompt, form)))


def common(text: str, other: str) -> str:
    """Return what two texts begin with."""
    size = next((place for place, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), None)
    return text[: min(len(text), len(other)) if size is None else size]


def read(source: str, message: Json, step: int) -> tuple[str, str, list[tuple[str, Any]]]:
    """Return the thoughts, the answer and the calls that are read in what a template writes for a message."""
    written = turn(source, message)
    parser = make_parser(
        format_for(source), OFFERED, thought_form(source), opened=written.opened, split=True, streams=False
    )
    assert parser is not None
    pieces = feed(parser, written.text, step)
    thoughts = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    said = "".join(piece.text for piece in pieces if isinstance(piece, Said))
    calls = [piece for piece in short(pieces) if isinstance(piece, tuple) and piece[0]]
    assert len(calls) == sum(isinstance(piece, CallBegin) for piece in pieces)
    return thoughts, said, [(name, json.loads(arguments)) for name, arguments in calls]


def only_marks(text: str) -> bool:
    """Tell whether a text is nothing but tokens that begin or end a turn in one place and not in another."""
    return re.fullmatch(r"(\s|<[^<>]*>)*", text) is not None


@pytest.mark.parametrize("path", TEMPLATES)
def test_the_format_is_the_models_own(path: Path) -> None:
    name = FORMATS.get(path.stem)  # a template that is newer than this table is known or not
    assert path.stem not in FORMATS or format_of(path.read_text()) is (None if name is None else getattr(choice, name))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("path", OWN)
def test_calls_are_read_back(path: Path, step: int) -> None:
    source = path.read_text()
    for calls in counts(source):
        _, said, found = read(source, assistant(calls=calls), step)
        assert found == [("look", arguments) for arguments in ARGUMENTS[:calls]]
        assert only_marks(said)
        assert not any(mark in said for mark in format_for(source).marks)


@pytest.mark.parametrize("path", OWN)
def test_calls_are_written_as_the_template_writes_them(path: Path) -> None:
    """What a grammar holds a model to is what `written` writes, which other tests show."""
    source = path.read_text()
    form = format_for(source)
    for calls in counts(source):
        expected = form.written([Call("look", arguments) for arguments in ARGUMENTS[:calls]])
        if form is choice.HARMONY:  # the recipient may stand on either side of the channel
            expected = expected.replace(HARMONY_HEAD, " to=functions.look<|channel|>commentary json<|message|>")
        if path.stem in UNENDED and calls == 1:
            expected = expected.removesuffix(form.closings[0])
        text = turn(source, assistant(calls=calls)).text
        expected, text = (IDS.sub("", "".join(part.split())) for part in (expected, text))
        assert expected in text


@pytest.mark.parametrize("path", [param for param in OWN if param.id not in UNTOLD])
def test_thoughts_and_answers_are_told_apart(path: Path) -> None:
    source = path.read_text()
    message = assistant(said=SAID, thought=THOUGHT)
    thoughts, said, calls = read(source, message, 1)
    shown = THOUGHT in turn(source, message).text
    assert (thoughts, calls) == (THOUGHT if shown else "", [])
    assert only_marks(said.replace(SAID, "", 1)) and SAID in said


@pytest.mark.parametrize("path", OWN)
def test_thoughts_come_before_calls(path: Path) -> None:
    source = path.read_text()
    message = assistant(calls=1, thought=THOUGHT)
    thoughts, said, calls = read(source, message, 1)
    shown = THOUGHT in turn(source, message).text
    assert (thoughts, calls) == (THOUGHT if shown else "", [("look", ARGUMENTS[0])])
    assert only_marks(said)


@pytest.mark.parametrize("path", TEMPLATES)
def test_a_long_conversation_is_shown(path: Path) -> None:
    """Answer, thoughts, two calls and two results: none is refused, none of the calls and results is lost."""
    source = path.read_text()
    messages: list[Json] = [
        {"role": "system", "content": "~System~"},
        {"role": "user", "content": QUESTION},
        assistant(calls=2, said=SAID, thought=THOUGHT),
        {"role": "tool", "content": "~Result 0~", "tool_call_id": "call_0", "name": "look"},
        {"role": "tool", "content": "~Result 1~", "tool_call_id": "call_1", "name": "look"},
        assistant(said="~Done~"),
        {"role": "user", "content": "~More~"},
    ]
    text = rendered(source, messages, open_turn=True)
    needles = ("~System~", QUESTION, "Rome", "~Result 0~", "~Result 1~", "~Done~", "~More~")
    assert [needle for needle in needles if needle not in text] == []
