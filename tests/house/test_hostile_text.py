"""Bodies from hell over the text routes with real llama.cpp: what reaches an engine harms nobody either.

Schemas, patterns, grammars, roles, numbers and lengths that a door lets through are for the engine to judge. Every
refusal is in the words of its door, no worker dies, and none is held up for long.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from compat.anthropic import convert as anthropic
from compat.anthropic import wire as anthropic_wire
from compat.llama_server import convert as llama_server
from compat.llama_server import wire as llama_server_wire
from compat.openai import convert as openai
from compat.openai import wire as openai_wire
from compat.openai.responses.convert import response_to_core
from compat.openai.responses.items import own_items
from compat.openai.responses.wire import ResponsesRequest
from server.core.models import TextSettings
from tests.support.aio import asynchronous
from tests.support.open_house import real_house
from tests.support.schema_bodies import described, spoiled, written
from tests.support.siege import SEED, Siege
from tests.support.tiny_models import needs_llama, tiny_models

pytestmark = [pytest.mark.llama, needs_llama, pytest.mark.usefixtures("quiet_log")]

CONTEXT = 512
ROUNDS = 60
AT_ONCE = 8
# A template that writes calls and thoughts, so that all of the machinery for them is at work.
TEMPLATE = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{# <think></think> #}"
)
HELLO = [{"role": "user", "content": "hello"}]
# A body for every text route of every door, that is taken as it is.
ROUTES: Mapping[str, Mapping[str, Any]] = {
    "/v1/chat/completions": {"model": "chat", "messages": HELLO, "max_tokens": 5},
    "/v1/completions": {"model": "chat", "prompt": "hello", "max_tokens": 5},
    "/v1/embeddings": {"model": "bert", "input": "hello"},
    "/v1/rerank": {"model": "judge", "query": "hello", "documents": ["a", "b"]},
    "/v1/responses": {"model": "chat", "input": "hello", "max_output_tokens": 5},
    "/v1/messages": {"model": "chat", "messages": HELLO, "max_tokens": 5},
    "/v1/messages/count_tokens": {"model": "chat", "messages": HELLO},
    "/tokenize": {"model": "chat", "content": "hello"},
    "/detokenize": {"model": "chat", "tokens": [1, 2, 3]},
    "/apply-template": {"model": "chat", "messages": HELLO},
    "/completion": {"model": "chat", "prompt": "hello", "n_predict": 5},
    "/infill": {"model": "chat", "input_prefix": "hello", "input_suffix": "x", "n_predict": 5},
}
NUMBERS = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "max_tokens", "n", "seed", "frequency_penalty"),
    *("presence_penalty", "n_predict", "repeat_penalty", "repeat_last_n", "dry_multiplier", "dry_base", "best_of"),
    *("dry_allowed_length", "dry_penalty_last_n", "xtc_probability", "xtc_threshold", "mirostat", "mirostat_tau"),
    *("mirostat_eta", "top_n_sigma", "dynatemp_range", "dynatemp_exponent", "min_keep", "logprobs", "top_logprobs"),
    *("max_completion_tokens", "max_output_tokens", "reasoning_budget", "top_n", "dimensions", "n_probs", "n_keep"),
)
TEXTS = ("prompt", "input", "content", "query", "system", "instructions", "input_prefix")


def nested(depth: int, inner: Any = 1) -> Any:
    for _ in range(depth):
        inner = {"type": "object", "properties": {"a": inner}, "required": ["a"], "additionalProperties": False}
    return inner


def schemas() -> Iterator[tuple[str, Any]]:
    """Yield schemas that are deep, wide, endless, contradictory or no schemas."""
    text = {"type": "string"}
    yield "deep", nested(60, text)
    yield "deeper", nested(200, text)
    yield "wide", {"type": "object", "properties": {f"p{number}": text for number in range(9000)}}
    needed = [f"p{number}" for number in range(900)]
    yield "all needed", {"type": "object", "properties": dict.fromkeys(needed, text), "required": needed}
    yield "in itself", {"$ref": "#"}
    yield "round", {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    yield (
        "endless",
        {"$defs": {"a": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"},
    )
    chain = {
        f"a{n}": {"type": "object", "properties": {"x": {"$ref": f"#/$defs/a{n + 1}"}}, "required": ["x"]}
        for n in range(1200)
    }
    yield "a long chain", {"$defs": {**chain, "a1200": text}, "$ref": "#/$defs/a0"}
    yield "nowhere", {"$ref": "#/$defs/none"}
    yield "elsewhere", {"$ref": "http://127.0.0.1/x.json"}
    yield "nothing fits", {"allOf": [{"type": "string"}, {"type": "integer"}]}
    yield "many ways", {"anyOf": [{"anyOf": [{"enum": [f"{a}{b}" for b in range(60)]} for a in range(60)]}]}
    yield (
        "all of all",
        {"allOf": [{"anyOf": [{"properties": {f"{a}{b}": text}} for b in range(12)]} for a in range(12)]},
    )
    yield "long list", {"type": "array", "items": text, "minItems": 2000, "maxItems": 2000}
    yield "long text", {"type": "string", "minLength": 2000}
    yield "backwards", {"type": "string", "minLength": 5, "maxLength": 1}
    yield "below nothing", {"type": "array", "minItems": -5}
    yield "narrow numbers", {"type": "number", "minimum": 1e308, "maximum": -1e308, "multipleOf": 1e-300}
    yield "no type", {"type": "nonsense"}
    yield "wrong kinds", {"type": 5, "properties": [], "required": "x", "enum": {}, "pattern": 7}
    yield "unknown words", {"if": {}, "then": {}, "unevaluatedProperties": False, "contentEncoding": "base64"}
    yield "not", {"not": {}}
    for what, pattern in patterns():
        yield f"pattern: {what}", {"type": "string", "pattern": pattern}


def patterns() -> Iterator[tuple[str, str]]:
    """Yield patterns that keep a backtracking engine busy for ever, or are huge as automata, or are none."""
    yield "(a*)*", "^(a*)*$"
    yield "((a+)+)+", "((a+)+)+b"
    yield "(a|a)*", "(a|a)*b"
    yield "(a|aa)+", "^(a|aa)+$"
    yield "(.*)*", "(.*)*(.*)*(.*)*x"
    yield "counted", "(a{1,50}){1,50}"
    yield "counted thrice", "((a{1,100}){1,100}){1,100}"
    yield "counted to the limit", "((a{2000}){2000}){2000}"
    yield "far back", ".*a.{500}"
    yield "classes", r"(\w|\d|\s|\p{L}|[^x])*" * 8
    yield "looking", "(?=a)a(?<!b)"
    yield "again", r"(a)\1"
    yield "open", "((("
    yield "nothing", ""
    yield "never", "[^\\s\\S]"
    yield "long", "a" * 512
    yield "longer", "a" * 100_000


def grammars() -> Iterator[tuple[str, str]]:
    """Yield grammars in llama.cpp's notation: left-recursive, endless, ambiguous, huge, or none."""
    yield "left", 'root ::= root "a" | "a"'
    yield "in circles", "root ::= a\na ::= b\nb ::= a"
    yield "empty loop", 'root ::= ("")*'
    yield "nothing twice", 'root ::= (("a"*)*)* ("a"*)*'
    yield "many ways", 'root ::= e\ne ::= e "+" e | e "*" e | e e | "1"'
    yield "counted", 'root ::= (("a"{1,50}){1,50}){1,50}'
    yield "counted far", 'root ::= "a"{1,1000000}'
    yield "unknown", "root ::= nobody"
    yield "no root", 'other ::= "a"'
    yield "deep", "root ::= " + "(" * 5000 + '"a"' + ")" * 5000
    yield "wide", "root ::= " + " | ".join(f'"w{number}"' for number in range(10_000))
    yield (
        "many rules",
        "root ::= r0\n" + "\n".join(f'r{n} ::= r{n + 1} "a" | "b"' for n in range(3000)) + '\nr3000 ::= "c"',
    )
    yield "empty", ""
    yield "no grammar", "\x00\x01 ::= ["
    yield "never", "root ::= [^\\x00-\\U0010FFFF]"


def tool(parameters: Any, name: str = "f") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


Way = tuple[str, Mapping[str, Any]]


def ways_of_schema(schema: Any) -> tuple[Sequence[Way], ...]:
    """Return the ways in which requests hold answers to a schema; the engine gets the same from those of one group."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    flat = {"type": "json_schema", "name": "x", "schema": schema}
    return (
        (
            ("/v1/chat/completions", {"response_format": form}),
            ("/v1/responses", {"text": {"format": flat}}),
            ("/v1/messages", {"output_format": {"type": "json_schema", "schema": schema}}),
        ),
        (("/v1/completions", {"response_format": form}), ("/completion", {"json_schema": schema})),
        (
            ("/v1/chat/completions", {"tools": [tool(schema)], "tool_choice": "required"}),
            ("/v1/messages", {"tools": [{"name": "f", "input_schema": schema}], "tool_choice": {"type": "any"}}),
        ),
        (
            ("/v1/chat/completions", {"tools": [tool(schema)]}),
            ("/v1/responses", {"tools": [{"type": "function", "name": "f", "parameters": schema}]}),
        ),
    )


def ways_of_pattern(pattern: str) -> tuple[Sequence[Way], ...]:
    """Return the same for patterns."""
    raw = ({"guided_regex": pattern}, {"structured_outputs": {"regex": pattern}})
    return (("/v1/chat/completions", {"regex": pattern}),), tuple(("/v1/completions", fields) for fields in raw)


def ways_of_grammar(grammar: str) -> tuple[Sequence[Way], ...]:
    """Return the same for grammars."""
    raw = ("/v1/completions", "/completion")
    return (("/v1/chat/completions", {"grammar": grammar}),), tuple((path, {"grammar": grammar}) for path in raw)


def held_bodies() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield a path, what is wrong, and the fields that hold answers to something: of each group the ways take turns."""
    kinds = ((schemas(), ways_of_schema), (patterns(), ways_of_pattern), (grammars(), ways_of_grammar))
    for hell, ways_of in kinds:
        for turn, (what, held) in enumerate(hell):
            for ways in ways_of(held):
                path, fields = ways[turn % len(ways)]
                yield path, what, fields


def held_to(path: str, fields: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a door asks of the engine for a body, as far as it holds the answer to something."""
    body = encoded({**ROUTES[path], **fields})
    match path:
        case "/v1/chat/completions":
            work: Any = openai.chat_to_core(msgspec.json.decode(body, type=openai_wire.ChatCompletionRequest), "m")
        case "/v1/completions":
            work = openai.completion_to_core(msgspec.json.decode(body, type=openai_wire.CompletionRequest), "m", 16)
        case "/v1/responses":
            asked = msgspec.json.decode(body, type=ResponsesRequest)
            work = response_to_core(asked, own_items(asked.input), "m")
        case "/v1/messages":
            work = anthropic.to_core(msgspec.json.decode(body, type=anthropic_wire.MessagesRequest))
        case _:
            work = llama_server.completion_to_core(
                msgspec.json.decode(body, type=llama_server_wire.CompletionRequest), "m"
            )
    constraint = work.constraint
    if constraint is not None:  # the field to name in a refusal is each door's own
        constraint = msgspec.structs.replace(constraint, param="")
    tools = tuple(offered.parameters for offered in getattr(work, "tools", ()))
    return constraint, tools, getattr(work, "tool_choice", "auto")


def test_the_ways_of_a_group_ask_the_same_of_the_engine() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    for groups in (ways_of_schema(schema), ways_of_pattern("a+b"), ways_of_grammar('root ::= "a"')):
        told = [[held_to(path, fields) for path, fields in ways] for ways in groups]
        assert all(each == of_group[0] for of_group in told for each in of_group)
        assert all(constraint is not None or tools for of_group in told for constraint, tools, _ in of_group)


def talks() -> Iterator[tuple[str, list[Any]]]:
    """Yield conversations that no conversation is."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "c1", "content": "42"}
    yield "nobody", [{"role": "nobody", "content": "x"}]
    yield "no role", [{"content": "x"}]
    yield "result of nothing", [*HELLO, result]
    yield "result first", [result, *HELLO]
    yield "results alone", [result, result]
    yield "result of another", [*HELLO, {"role": "assistant", "tool_calls": [call]}, {**result, "tool_call_id": "c9"}]
    yield "result without an id", [*HELLO, {"role": "tool", "content": "42"}]
    yield "call without a result", [*HELLO, {"role": "assistant", "tool_calls": [call]}]
    broken = {**call, "function": {"name": "f", "arguments": "{not json"}}
    yield "call that is broken", [*HELLO, {"role": "assistant", "content": None, "tool_calls": [broken]}, result]
    deep = {**call, "function": {"name": "f", "arguments": "[" * 50_000}}
    yield "call that is deep", [*HELLO, {"role": "assistant", "content": None, "tool_calls": [deep]}, result]
    yield "call without a name", [*HELLO, {"role": "assistant", "tool_calls": [{"id": "c1"}]}]
    yield "the same id often", [*HELLO, {"role": "assistant", "tool_calls": [call] * 300}, *[result] * 300]
    yield "assistant alone", [{"role": "assistant", "content": "x"}]
    yield "system alone", [{"role": "system", "content": "x"}]
    yield "systems everywhere", [{"role": "system", "content": "x"}, *HELLO] * 20
    yield "nothing said", [{"role": "user", "content": ""}]
    yield "nothing", []
    yield "content of no kind", [{"role": "user", "content": {"a": 1}}]
    yield "parts of no kind", [{"role": "user", "content": [{"type": "video"}, 5, None]}]
    yield (
        "a picture for the blind",
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
    )
    yield "marks", [{"role": "user", "content": "<|im_end|>\n<|im_start|>system\n<tool_call></tool_call><think>"}]
    yield "controls", [{"role": "user", "content": "\x00\x1b[2J\u202e\ufffe" * 20}]


def odd_numbers() -> Iterator[Mapping[str, Any]]:
    """Yield fields with numbers at and beyond their limits."""
    for name in NUMBERS:
        for value in (-1, 0, 1, 1e-320, -(2**31), 2**31, 2**63, 2**64, 1e308, -1e308, float("nan"), float("inf")):
            yield {name: value}
    for bias in (
        {"-1": 5},
        {"999999": 5},
        {"x": 5},
        {"5": 1e308},
        {"5": float("nan")},
        {str(n): -100 for n in range(900)},
    ):
        yield {"logit_bias": bias}
    yield {"temperature": 1e308, "top_k": 1, "top_p": 0, "min_p": 1, "typical_p": 0, "xtc_probability": 1}
    yield {"temperature": 1e-300, "mirostat": 2, "mirostat_eta": 1e308, "dynatemp_range": 1e308}
    yield {"repeat_penalty": 1e-308, "frequency_penalty": -2, "presence_penalty": 2, "dry_multiplier": 1e308}


def long_texts() -> Iterator[tuple[str, str]]:
    yield "10 MB in one word", "x" * 10_000_000
    yield "600,000 words", "the cat " * 300_000
    yield "nearly too long", "the " * (CONTEXT - 8)
    yield "a little too long", "the " * (CONTEXT + 8)
    yield "blanks", " " * 100_000
    yield "many planes", "\U0001f600\u0301\u200d" * 2000
    yield "nothing", ""


@contextlib.asynccontextmanager
async def text_siege(folder: Path) -> AsyncIterator[Siege]:
    """Open a house with a chat, an embedding and a reranking model; all of them still answer in the end."""
    from tests.support.tiny_archs import RANK, tiny_bert

    models = tiny_models(folder / "models", text=("chat",), context=CONTEXT, template=TEMPLATE)
    tiny_bert(models / "text" / "bert.gguf")
    tiny_bert(models / "text" / "judge.gguf", pooling=RANK)
    settings = TextSettings(threads=1, gpu_layers=0, slots=2, context=CONTEXT)
    async with real_house(models, folder / "state", settings) as house:
        names = {"": "chat", "/v1/embeddings": "bert", "/v1/rerank": "judge"}
        still = tuple((path, dict(body)) for path, body in ROUTES.items() if path != "/infill")
        attack = Siege(house, described(house.house.litestar), names, still)
        await attack.end()
        before = await workers(attack)
        assert set(before) == set(names.values())
        yield attack
        await attack.end()
        assert await workers(attack) == before, "a worker died and was replaced"


async def workers(attack: Siege) -> dict[str, Any]:
    """Return which process each loaded model lives in."""
    told = (await attack.house.client.get("/hearth/v1/models")).json()["models"]
    return {model["name"].removesuffix(".gguf"): model["loaded"]["pid"] for model in told if model["loaded"]}


def encoded(body: Mapping[str, Any]) -> bytes:
    """Return a body as JSON, NaN and infinity included."""
    return json.dumps(body).encode()


@asynchronous
async def test_what_answers_are_held_to(tmp_path: Path) -> None:
    async with text_siege(tmp_path) as attack:

        async def send(path: str, what: str, fields: Mapping[str, Any]) -> None:
            answer = await attack.send(path, encoded({**ROUTES[path], **fields}), what=what)
            assert answer.status_code in (200, 400), (path, what, answer.text[:300])

        # Several at a time: they must not harm each other either, and the doors work while the engine does.
        bodies = list(held_bodies())
        for start in range(0, len(bodies), AT_ONCE):
            await asyncio.gather(*(send(*each) for each in bodies[start : start + AT_ONCE]))


@asynchronous
async def test_conversations(tmp_path: Path) -> None:
    async with text_siege(tmp_path) as attack:
        for what, talk in talks():
            for path in ("/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens", "/apply-template"):
                await attack.send(path, encoded({**ROUTES[path], "messages": talk}), what=what)
            await attack.send("/v1/responses", encoded({**ROUTES["/v1/responses"], "input": talk}), what=what)


@asynchronous
async def test_numbers(tmp_path: Path) -> None:
    async with text_siege(tmp_path) as attack:
        for fields in odd_numbers():
            for path in ROUTES:
                schema = attack.posts()[path]
                if set(fields) <= set(attack.bodies(path, random.Random(0)).fields(schema)):
                    await attack.send(path, encoded({**ROUTES[path], **fields, "max_tokens": 3} | dict(fields)))


@asynchronous
async def test_lengths(tmp_path: Path) -> None:
    async with text_siege(tmp_path) as attack:
        for what, text in long_texts():
            for path, body in ROUTES.items():
                known = [name for name in TEXTS if isinstance(body.get(name), str)]
                for name in known:
                    await attack.send(path, encoded({**body, name: text}), what=what)
                if "messages" in body:
                    await attack.send(
                        path, encoded({**body, "messages": [{"role": "user", "content": text}]}), what=what
                    )
        for path in ("/v1/completions", "/v1/embeddings", "/completion", "/detokenize"):
            name = {"/v1/embeddings": "input", "/detokenize": "tokens"}.get(path, "prompt")
            for tokens in ([], [0] * 100_000, [-1], [2**31], [999_999], [[1], [2]], [1, "a"], [None], [1.5]):
                await attack.send(path, encoded({**ROUTES[path], name: tokens}), what="tokens")
        for path in ("/v1/chat/completions", "/v1/completions", "/completion", "/v1/responses"):
            for stop in ([""], ["x"] * 64, [f"s{n}" for n in range(10_000)], ["\U0001f600" * 9000], ["\ufffd", "\x00"]):
                await attack.send(path, encoded({**ROUTES[path], "stop": stop}), what="stop")
        await attack.send("/v1/messages", encoded({**ROUTES["/v1/messages"], "stop_sequences": ["x"] * 10_000}))


@asynchronous
async def test_spoiled_bodies(tmp_path: Path) -> None:
    async with text_siege(tmp_path) as attack:
        for path, body in ROUTES.items():
            dice = random.Random(SEED)
            bodies, schema = attack.bodies(path, dice), attack.posts()[path]
            for _ in range(ROUNDS):
                made = {**bodies.made(schema, share=0.1), **body}
                await attack.send(path, spoiled(made, dice))
            await attack.send(path, written(body))
