"""Constraints, calls and thoughts on real llama.cpp: a model of random weights must keep every promise."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.core.errors import InvalidValue
from server.core.jobs import JobId
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    Constraint,
    GrammarConstraint,
    JsonConstraint,
    Message,
    RegexConstraint,
    SamplingParams,
    TextPart,
    Tool,
    ToolCall,
)
from tests.support.engine_driver import Collected, run
from tests.support.tiny_gguf import tiny_gguf

pytest.importorskip("llama_cpp")
pytest.importorskip("llguidance")

from server.engines.text.engine import LlamaEngine
from tests.support.llama_engine import ask, completion, load

pytestmark = pytest.mark.llama

TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
TEMPLATES = {
    "plain": TURNS,
    "hermes": TURNS + '{# tools <tool_call>{"arguments": x}</tool_call> #}',
    "coder": TURNS + "{# tools <tool_call> <function= #}",
    "llama3": TURNS + "{# tools <|python_tag|> #}",
    "mistral": TURNS + "{# tools [TOOL_CALLS][ARGS] #}",
    "harmony": TURNS + "{# tools <|channel|><|message|> #}",
    "thinking": TURNS + '<think>\n{# </think> tools <tool_call>{"arguments": x}</tool_call> #}',
}
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"enum": ["c", "f"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
    },
    "required": ["city", "unit", "days"],
    "additionalProperties": False,
}
TOOLS = (
    Tool(name="get_weather", description="Look outside", parameters=json.dumps(PARAMETERS)),
    Tool(name="nothing", parameters='{"type": "object", "properties": {}, "additionalProperties": false}'),
)


def sampling(seed: int, max_tokens: int = 600) -> SamplingParams:
    return SamplingParams(temperature=float(seed % 3) / 2, seed=seed, max_tokens=max_tokens, top_k=0, min_p=0.0)


def chat(seed: int = 0, *, max_tokens: int = 600, **fields: Any) -> ChatRequest:
    messages = fields.pop("messages", (Message(role="user", parts=(TextPart("hello"),)),))
    return ChatRequest(model="tiny", messages=messages, sampling=sampling(seed, max_tokens), **fields)


def is_valid(call: ToolCall) -> bool:
    """Check arguments against the schemas above, by hand."""
    arguments = json.loads(call.arguments)
    if call.name == "nothing":
        return arguments == {}
    tags = arguments.get("tags", [])
    return (
        {"city", "unit", "days"} <= set(arguments) <= set(PARAMETERS["properties"])
        and isinstance(arguments["city"], str)
        and arguments["unit"] in ("c", "f")
        and type(arguments["days"]) is int
        and 1 <= arguments["days"] <= 5
        and len(tags) <= 2
        and all(isinstance(tag, str) and len(tag) <= 3 for tag in tags)
    )


@pytest.fixture(scope="module", params=list(TEMPLATES))
def each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    yield from loaded(request.param, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    yield from loaded("plain", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    yield from loaded("thinking", tmp_path_factory.mktemp("models"))


def loaded(name: str, folder: Path) -> Iterator[LlamaEngine]:
    engine = load(tiny_gguf(folder / f"{name}.gguf", template=TEMPLATES[name], context=2048), slots=4)
    yield engine
    assert engine.is_idle()
    engine.close()


def finished(collected: Collected) -> Collected:
    assert not collected.errors
    assert collected.done
    return collected


@pytest.mark.parametrize("seed", range(3))
def test_a_named_call_is_made_with_valid_arguments(each: LlamaEngine, seed: int) -> None:
    work = chat(seed, tools=TOOLS, tool_choice="named", tool_name="get_weather", parallel_tools=False)
    collected = finished(ask(each, work))
    (call,) = collected.calls["job", 0]
    assert call.name == "get_weather"
    assert is_valid(call)
    assert re.fullmatch(r"call_[0-9A-Za-z]{9,}", call.id)
    assert collected.text("job") == ""
    assert collected.finished["job", 0].reason in ("tool_calls", "length")


def test_a_required_call_without_free_text_ends_by_itself(each: LlamaEngine) -> None:
    work = chat(tools=TOOLS[1:], tool_choice="required", parallel_tools=False)
    collected = finished(ask(each, work))
    assert [(call.name, json.loads(call.arguments)) for call in collected.calls["job", 0]] == [("nothing", {})]
    assert collected.finished["job", 0].reason == "tool_calls"


@pytest.mark.parametrize("seed", range(3))
def test_all_required_calls_are_valid_but_one_that_was_cut_off(each: LlamaEngine, seed: int) -> None:
    collected = finished(ask(each, chat(seed, tools=TOOLS, tool_choice="required")))
    calls = collected.calls["job", 0]
    assert calls
    complete = calls[:-1] if collected.finished["job", 0].reason == "length" and len(calls) > 1 else calls
    assert all(is_valid(call) for call in complete)


def test_several_choices_are_held_each_by_itself(plain: LlamaEngine) -> None:
    work = chat(1, tools=TOOLS, tool_choice="named", tool_name="get_weather", choices=3, parallel_tools=False)
    collected = finished(ask(plain, work))
    assert all(is_valid(call) for choice in range(3) for call in collected.calls["job", choice])
    assert len({collected.calls["job", choice][0].id for choice in range(3)}) == 3


SCHEMA = json.dumps(
    PARAMETERS | {"properties": PARAMETERS["properties"] | {"city": {"type": "string", "maxLength": 9}}}
)


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_by_a_schema_parses(each: LlamaEngine, seed: int) -> None:
    collected = finished(ask(each, chat(seed, constraint=JsonConstraint(schema=SCHEMA))))
    assert is_valid(ToolCall(id="", name="get_weather", arguments=collected.text("job")))
    assert collected.finished["job", 0].reason == "stop"


def test_json_is_closed_before_the_limit_and_the_reason_tells_so(plain: LlamaEngine) -> None:
    for limit in (40, 120, 400):
        work = chat(2, max_tokens=limit, constraint=JsonConstraint(schema='{"type": "object", "minProperties": 1}'))
        collected = finished(ask(plain, work))
        assert isinstance(json.loads(collected.text("job")), dict)
        assert collected.finished["job", 0].usage.completion_tokens <= limit


@pytest.mark.parametrize(
    ("constraint", "pattern"),
    [
        (RegexConstraint(pattern="[a-c]{3}-(x|y){1,9}z"), "[a-c]{3}-[xy]{1,9}z"),
        (GrammarConstraint(grammar='root ::= ("yes" | "no") [!?]{1,5} "."'), r"(yes|no)[!?]{1,5}\."),
        (GrammarConstraint(grammar='start: ("yes" | "no") /[!?]{1,5}/ "."', syntax="lark"), r"(yes|no)[!?]{1,5}\."),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_patterns_and_grammars_hold_in_chats_and_completions(
    plain: LlamaEngine, constraint: Constraint, pattern: str, seed: int
) -> None:
    raw = CompletionRequest(model="tiny", prompts=("Once",), sampling=sampling(seed), constraint=constraint)
    for work in (chat(seed, constraint=constraint), raw):
        collected = finished(ask(plain, work))
        assert re.fullmatch(pattern, collected.text("job"))
        assert collected.finished["job", 0].reason == "stop"


@pytest.mark.parametrize("budget", [0, 10])
def test_thoughts_are_told_apart_and_end_with_their_budget(thinking: LlamaEngine, budget: int) -> None:
    collected = finished(ask(thinking, chat(1, reasoning_budget=budget, max_tokens=100)))
    usage = collected.finished["job", 0].usage
    assert bool(collected.thoughts["job", 0]) is (budget > 0)
    assert collected.text("job")
    assert "</think>" not in collected.text("job") + collected.thoughts["job", 0]
    assert budget <= usage.reasoning_tokens <= budget + len("\n</think>\n\n")
    assert usage.reasoning_tokens < usage.completion_tokens
    shown = finished(ask(thinking, chat(1, reasoning_budget=budget, max_tokens=100, split_reasoning=False)))
    assert not shown.thoughts["job", 0]
    assert "</think>" in shown.text("job") or budget == 0


def test_every_token_of_a_parsed_reply_is_counted(thinking: LlamaEngine) -> None:
    collected = finished(ask(thinking, chat(1, reasoning_budget=10, max_tokens=60, tools=TOOLS)))
    usage = collected.finished["job", 0].usage
    assert usage.completion_tokens - 3 <= collected.tokens["job", 0] <= usage.completion_tokens


def test_calls_and_results_in_the_history_reach_the_prompt(plain: LlamaEngine) -> None:
    history = (
        Message(role="user", parts=(TextPart("hello"),)),
        Message(
            role="assistant",
            tool_calls=(
                ToolCall(id="call_1", name="get_weather", arguments='{"city": "Rome"}'),
                ToolCall(id="call_2", name="nothing", arguments="garbage"),
            ),
        ),
        Message(role="tool", parts=(TextPart("sunny"),), tool_call_id="call_1", name="get_weather"),
        Message(role="tool", parts=(TextPart("void"),), tool_call_id="call_2"),
        Message(role="user", parts=(TextPart("so?"),)),
    )
    tokens = plain._prompts.conversation(chat(messages=history, tools=TOOLS))
    prompt = plain._vocabulary.detokenise(tokens)
    for word in ("Look outside", "get_weather", "Rome", "garbage", "sunny", "void", "so?"):
        assert word in prompt
    assert "Look outside" not in plain._vocabulary.detokenise(
        plain._prompts.conversation(chat(messages=history, tools=TOOLS, tool_choice="none"))
    )


BOMBS: list[Constraint] = [
    GrammarConstraint(grammar="root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000),
    GrammarConstraint(grammar='root ::= "a"{1000000000}'),
    GrammarConstraint(grammar="root ::= %llguidance {}"),
    GrammarConstraint(grammar="start: " + "(" * 60_000, syntax="lark"),
    GrammarConstraint(grammar="root ::= missing"),
    JsonConstraint(schema='{"items":' * 100_000 + "1" + "}" * 100_000),
    JsonConstraint(schema=json.dumps({"enum": list(range(20_000))})),
    JsonConstraint(schema='{"type": "array", "minItems": 1000000000}'),
    JsonConstraint(schema='{"$ref": "http://example.org/x"}'),
    JsonConstraint(schema='{"type": "string", "pattern": "(((("}'),
    RegexConstraint(pattern="(" * 200 + ")" * 200),
    RegexConstraint(pattern="((((((((((a{2000}){2000}){2000}){2000}){2000}){2000}){2000}){2000}){2000}){2000}"),
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_and_the_engine_lives(plain: LlamaEngine, bomb: Constraint) -> None:
    with pytest.raises(InvalidValue) as refused:
        plain.submit(JobId("bomb"), chat(constraint=bomb))
    assert refused.value.fact("param") == bomb.param
    assert plain.is_idle()
    assert finished(ask(plain, completion("Once"))).text("job")


def test_a_grammar_that_no_text_obeys_ends_the_reply(plain: LlamaEngine) -> None:
    for grammar in ("root ::= root", "root ::= a\na ::= b\nb ::= a"):
        plain.submit(JobId("job"), chat(constraint=GrammarConstraint(grammar=grammar)))
        collected = run(plain)
        assert collected.done or isinstance(collected.errors["job"], InvalidValue)
        assert collected.text("job") == ""


def test_held_and_free_replies_run_side_by_side(plain: LlamaEngine) -> None:
    plain.submit(JobId("free"), completion("Once upon"))
    plain.submit(JobId("held"), chat(constraint=RegexConstraint(pattern="[ab]{20}")))
    collected = run(plain)
    alone = ask(plain, completion("Once upon"))
    assert re.fullmatch("[ab]{20}", collected.text("held"))
    assert collected.text("free") == alone.text("job")
