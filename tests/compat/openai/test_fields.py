"""The table of fields against the structs, the OpenAI package's own list, and what really happens."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect
from openai.types import EmbeddingCreateParams
from openai.types import completion_create_params as plain_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as response_params

from compat.openai import vectors_wire, wire
from compat.openai.convert import chat_to_core, completion_to_core
from compat.openai.embeddings import embeddings_to_core
from compat.openai.fields import CHAT, COMPLETION, EMBEDDING, RERANK, RESPONSES, Field, Standing, is_off
from compat.openai.rerank import rerank_to_core
from compat.openai.responses.convert import response_to_core
from compat.openai.responses.items import own_items
from compat.openai.responses.wire import ResponsesRequest
from compat.openai.routes import wants_usage
from server.core.errors import Unsupported

DOORS = [
    pytest.param(CHAT, wire.ChatCompletionRequest, id="chat"),
    pytest.param(COMPLETION, wire.CompletionRequest, id="completion"),
    pytest.param(EMBEDDING, vectors_wire.EmbeddingRequest, id="embedding"),
    pytest.param(RERANK, vectors_wire.RerankRequest, id="rerank"),
    pytest.param(RESPONSES, ResponsesRequest, id="responses"),
]
HELLO = [{"role": "user", "content": "hi"}]
NEEDED = {"messages": HELLO, "prompt": "p", "input": "i", "query": "q", "documents": ["d"]}
TOOL = {"type": "function", "function": {"name": "f"}}
JSON = {"type": "object", "title": "x"}
PREFILLED = [*HELLO, {"role": "assistant", "content": "x"}]

# A request of the neutral fields (second), changed by the honoured one (first), must become other work.
SAMPLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "model": ("other", {}),
    "frequency_penalty": (1, {}),
    "logit_bias": ({"1": 2}, {}),
    "cache_salt": ("mine", {}),
    "max_tokens": (5, {}),
    "max_completion_tokens": (5, {}),
    "n_predict": (5, {}),
    "n": (2, {}),
    "presence_penalty": (1, {}),
    "seed": (3, {}),
    "stop": ("x", {}),
    "temperature": (0.1, {}),
    "top_p": (0.1, {}),
    "top_k": (3, {}),
    "min_p": (0.1, {}),
    "typical_p": (0.1, {}),
    "repeat_penalty": (1.5, {}),
    "repetition_penalty": (1.5, {}),
    "repeat_last_n": (5, {}),
    "ignore_eos": (True, {}),
    "min_keep": (3, {}),
    "top_n_sigma": (1.5, {}),
    "dynatemp_range": (0.5, {}),
    "dynatemp_exponent": (2, {}),
    "xtc_probability": (0.5, {}),
    "xtc_threshold": (0.2, {}),
    "dry_multiplier": (0.8, {}),
    "dry_base": (1.5, {}),
    "dry_allowed_length": (3, {}),
    "dry_penalty_last_n": (64, {}),
    "dry_sequence_breakers": (["x"], {}),
    "mirostat": (1, {"mirostat_mode": 2}),
    "mirostat_mode": (2, {}),
    "mirostat_tau": (4, {}),
    "mirostat_eta": (0.2, {}),
    "samplers": (["top_k"], {}),
    "grammar": ('root ::= "a"', {}),
    "json_schema": (JSON, {}),
    "regex": ("a", {}),
    "guided_json": (JSON, {}),
    "guided_regex": ("a", {}),
    "guided_choice": (["a"], {}),
    "guided_grammar": ('root ::= "a"', {}),
    "structured_outputs": ({"regex": "a"}, {}),
    "response_format": ({"type": "json_object"}, {}),
    "lora": ([{"id": 0, "scale": 1}], {}),
    "id_slot": (3, {}),
    "n_probs": (3, {}),
    "messages": ([{"role": "user", "content": "other"}], {}),
    "tools": ([TOOL], {}),
    "tool_choice": ("none", {"tools": [TOOL]}),
    "functions": ([TOOL["function"]], {}),
    "function_call": ("none", {"functions": [TOOL["function"]]}),
    "parallel_tool_calls": (False, {"tools": [TOOL]}),
    "reasoning_effort": ("low", {}),
    "reasoning": ({"effort": "low"}, {}),
    "thinking": ({"type": "disabled"}, {}),
    "enable_thinking": (False, {}),
    "thinking_budget": (5, {}),
    "reasoning_budget": (5, {}),
    "reasoning_format": ("none", {}),
    "top_logprobs": (3, {"logprobs": True}),
    "chat_template_kwargs": ({"enable_thinking": False}, {}),
    "add_generation_prompt": (True, {"messages": PREFILLED}),
    "continue_final_message": (False, {"messages": PREFILLED}),
    "prompt": ("other", {}),
    "echo": (True, {}),
    "logprobs": (True, {}),
    "best_of": (2, {}),
    "suffix": ("end", {}),
    "input": ("other", {}),
    "dimensions": (5, {}),
    "query": ("other", {}),
    "documents": (["other"], {}),
    "instructions": ("be kind", {}),
    "max_output_tokens": (5, {}),
    "text": ({"format": {"type": "json_object"}}, {}),
    "include": (["message.output_text.logprobs"], {}),
}
# Honoured outside of the core work (the tests of routes and of answers see them), or only by refusing other values.
ELSEWHERE = {
    "stream", "stream_options", "modalities", "include_reasoning", "encoding_format", "texts", "top_n",
    "return_documents", "return_text", "raw_scores", "metadata", "user", "store", "previous_response_id",
    "max_tool_calls",
}  # fmt: skip


def _request(struct: Any, **fields: Any) -> Any:
    refused = {"prompt"} if struct is ResponsesRequest else set()
    needed = {name: value for name, value in NEEDED.items() if name in struct.__struct_fields__ and name not in refused}
    return msgspec.convert({**needed, **fields}, struct)


def _work(struct: Any, **fields: Any) -> Any:
    request = _request(struct, **fields)
    model = request.model or "tiny"
    match request:
        case wire.ChatCompletionRequest():
            return chat_to_core(request, model)
        case wire.CompletionRequest():
            return completion_to_core(request, model, 16)
        case vectors_wire.EmbeddingRequest():
            return embeddings_to_core(request, model)
        case vectors_wire.RerankRequest():
            return rerank_to_core(request, model)
        case ResponsesRequest():
            return response_to_core(request, own_items(request.input), model)


@pytest.mark.parametrize(("table", "struct"), DOORS)
def test_the_table_and_the_struct_name_the_same_fields(table: dict[str, Field], struct: Any) -> None:
    read = {name for name, field in table.items() if field.standing is not Standing.IGNORED}
    assert read == set(struct.__struct_fields__)


@pytest.mark.parametrize(
    ("table", "params"),
    [
        (CHAT, chat_params.CompletionCreateParamsBase),
        (COMPLETION, plain_params.CompletionCreateParamsBase),
        (EMBEDDING, EmbeddingCreateParams),
        (RESPONSES, response_params.ResponseCreateParamsBase),
    ],
)
def test_every_parameter_of_the_openai_package_has_its_row(table: dict[str, Field], params: Any) -> None:
    assert set(params.__annotations__) - set(table) == set()


@pytest.mark.parametrize(("table", "struct"), DOORS)
def test_honoured_fields_change_the_work(table: dict[str, Field], struct: Any) -> None:
    honoured = {name for name, field in table.items() if field.standing is Standing.HONOURED} - ELSEWHERE
    for name in honoured:
        value, neutral = SAMPLES[name]
        assert _work(struct, **{**neutral, name: value}) != _work(struct, **neutral), name


@pytest.mark.parametrize(("table", "struct"), DOORS)
def test_refused_fields_are_refused_unless_they_are_off(table: dict[str, Field], struct: Any) -> None:
    for name, field in table.items():
        if field.standing is not Standing.REFUSED:
            continue
        with pytest.raises(Unsupported) as caught:
            _work(struct, **{name: "x"})
        assert caught.value.fact("param") == name
        assert field.note in str(caught.value)
        for off in (None, *field.off):
            assert _work(struct, **{name: off}) == _work(struct)


def test_stream_options_ask_for_usage() -> None:
    struct = wire.ChatCompletionRequest
    assert wants_usage(_request(struct, stream_options={"include_usage": True}))
    assert not wants_usage(_request(struct, stream_options={"include_usage": None}))
    assert not wants_usage(_request(struct, stream_options=None))


@pytest.mark.parametrize(
    ("value", "off", "expected"),
    [
        (None, (), True),
        (False, (), True),
        ("", (), True),
        ([], (), True),
        ({}, (), True),
        (0, (), False),
        (0, (0,), True),
        (0.5, (0,), False),
        (True, (1,), False),
        ("x", (), False),
    ],
)
def test_what_counts_as_off(value: Any, off: tuple[Any, ...], expected: bool) -> None:
    assert is_off(value, off) is expected


Numeric = inspect.IntType | inspect.FloatType


def _numbers(kind: inspect.Type, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Numeric]]:
    """Yield every number that a request may hold, with the names that lead to it."""
    match kind:
        case inspect.IntType() | inspect.FloatType():
            yield path, kind
        case inspect.UnionType(types=types) | inspect.TupleType(item_types=types):
            for item in types:
                yield from _numbers(item, path)
        case inspect.ListType(item_type=item) | inspect.DictType(value_type=item):
            yield from _numbers(item, path)
        case inspect.Metadata(type=item):
            yield from _numbers(item, path)
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from _numbers(field.type, (*path, field.encode_name))
        case _:
            pass


STRUCTS = [
    pytest.param(wire.ChatCompletionRequest, 30, id="chat"),
    pytest.param(wire.CompletionRequest, 30, id="completion"),
    pytest.param(vectors_wire.EmbeddingRequest, 3, id="embedding"),
    pytest.param(vectors_wire.RerankRequest, 1, id="rerank"),
    pytest.param(ResponsesRequest, 25, id="responses"),
]


@pytest.mark.parametrize(("struct", "least"), STRUCTS)
def test_every_number_of_a_request_has_bounds(struct: type, least: int) -> None:
    found = list(_numbers(inspect.type_info(struct), ()))
    assert len(found) >= least
    assert [path for path, kind in found if kind.ge is None or kind.le is None] == []


@pytest.mark.parametrize("struct", [wire.ChatCompletionRequest, wire.CompletionRequest, ResponsesRequest])
def test_the_bounds_hold(struct: type) -> None:
    for path, kind in _numbers(inspect.type_info(struct), ()):
        if len(path) != 1 or path[0] in ("logit_bias", "prompt", "logprobs"):
            continue
        (name,) = path
        for bound, outside in ((kind.ge, kind.ge - 1), (kind.le, kind.le + 1)):  # type: ignore[operator]
            _request(struct, **{name: bound})
            with pytest.raises(msgspec.ValidationError, match=rf"\$\.{name}"):
                _request(struct, **{name: outside})
