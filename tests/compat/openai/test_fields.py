"""The table of fields against the structs, the OpenAI package's own list, and what really happens."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect
from openai.types import completion_create_params as plain_params
from openai.types.chat import completion_create_params as chat_params

from compat.openai import wire
from compat.openai.convert import chat_to_core, completion_to_core
from compat.openai.fields import CHAT, COMPLETION, Field, Standing, is_off
from compat.openai.routes import wants_usage
from server.core.errors import Unsupported

DOORS = [
    pytest.param(CHAT, wire.ChatCompletionRequest, id="chat"),
    pytest.param(COMPLETION, wire.CompletionRequest, id="completion"),
]
HELLO = [{"role": "user", "content": "hi"}]
NEEDED = {"messages": HELLO, "prompt": "p"}
TOOL = {"type": "function", "function": {"name": "f"}}
PREFILLED = [*HELLO, {"role": "assistant", "content": "x"}]

# A request of the neutral fields (second), changed by the honoured one (first), must become other work.
SAMPLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "model": ("other", {}),
    "frequency_penalty": (1, {}),
    "logit_bias": ({"1": 2}, {}),
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
    "messages": ([{"role": "user", "content": "other"}], {}),
    "tools": ([TOOL], {}),
    "tool_choice": ("none", {"tools": [TOOL]}),
    "functions": ([TOOL["function"]], {}),
    "function_call": ("none", {"functions": [TOOL["function"]]}),
    "reasoning_effort": ("low", {}),
    "chat_template_kwargs": ({"enable_thinking": False}, {}),
    "add_generation_prompt": (True, {"messages": PREFILLED}),
    "continue_final_message": (False, {"messages": PREFILLED}),
    "prompt": ("other", {}),
    "echo": (True, {}),
}
# How refused fields are set that do not take any value.
SET = {"logprobs": {"logprobs": True}, "top_logprobs": {"logprobs": True, "top_logprobs": 3}}
# Honoured outside of the core work, or only in that their other values are refused.
ELSEWHERE = {"stream", "stream_options", "response_format", "modalities", "best_of"}


def _request(struct: Any, **fields: Any) -> Any:
    needed = {name: value for name, value in NEEDED.items() if name in struct.__struct_fields__}
    return msgspec.convert({**needed, **fields}, struct)


def _work(struct: Any, **fields: Any) -> Any:
    request = _request(struct, **fields)
    model = request.model or "tiny"
    if isinstance(request, wire.ChatCompletionRequest):
        return chat_to_core(request, model)
    return completion_to_core(request, model, 16)


@pytest.mark.parametrize(("table", "struct"), DOORS)
def test_the_table_and_the_struct_name_the_same_fields(table: dict[str, Field], struct: Any) -> None:
    read = {name for name, field in table.items() if field.standing is not Standing.IGNORED}
    assert read == set(struct.__struct_fields__)


@pytest.mark.parametrize(
    ("table", "params"),
    [(CHAT, chat_params.CompletionCreateParamsBase), (COMPLETION, plain_params.CompletionCreateParamsBase)],
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
        fields: dict[str, Any] = SET.get(name, {name: "x"})
        with pytest.raises(Unsupported) as caught:
            _work(struct, **fields)
        assert caught.value.fact("param") in fields
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


@pytest.mark.parametrize("struct", [wire.ChatCompletionRequest, wire.CompletionRequest])
def test_every_number_of_a_request_has_bounds(struct: type) -> None:
    found = list(_numbers(inspect.type_info(struct), ()))
    assert len(found) > 15
    unbounded = [path for path, kind in found if kind.ge is None or kind.le is None]
    assert unbounded == ([] if struct is wire.ChatCompletionRequest else [("logprobs",)])


@pytest.mark.parametrize("struct", [wire.ChatCompletionRequest, wire.CompletionRequest])
def test_the_bounds_hold(struct: type) -> None:
    for path, kind in _numbers(inspect.type_info(struct), ()):
        if len(path) != 1 or path[0] in ("logit_bias", "prompt", "logprobs"):
            continue
        (name,) = path
        for bound, outside in ((kind.ge, kind.ge - 1), (kind.le, kind.le + 1)):  # type: ignore[operator]
            _request(struct, **{name: bound})
            with pytest.raises(msgspec.ValidationError, match=rf"\$\.{name}"):
                _request(struct, **{name: outside})
