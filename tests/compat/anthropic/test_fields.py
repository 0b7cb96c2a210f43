"""The tables of fields against the structs and the API's own list."""

from typing import Any

import msgspec
import pytest

from compat.anthropic import wire
from compat.anthropic.convert import to_core
from compat.anthropic.fields import HONOURED, IGNORED, REFUSED
from tests.compat.anthropic.door import HELLO, TOOL, ask, request
from tests.support.fake_service import FakeService

# What each honoured field is set to, and what stands beside it: it must become other work than without it.
SAMPLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "model": ("other", {}),
    "messages": ([*HELLO, *HELLO], {}),
    "system": ("s", {}),
    "max_tokens": (7, {}),
    "stop_sequences": (["x"], {}),
    "temperature": (0.5, {}),
    "top_k": (3, {}),
    "top_p": (0.5, {}),
    "tools": ([TOOL], {}),
    "tool_choice": ({"type": "any"}, {"tools": [TOOL]}),
    "thinking": ({"type": "enabled", "budget_tokens": 5}, {}),
    "output_config": ({"effort": "low"}, {}),
    "output_format": ({"type": "json_schema", "schema": {}}, {}),
    "cache_salt": ("mine", {}),
}


def test_the_tables_name_every_field_of_the_struct_once() -> None:
    assert set(wire.MessagesRequest.__struct_fields__) == set(HONOURED) | set(REFUSED)
    assert not set(IGNORED) & (set(HONOURED) | set(REFUSED))


@pytest.mark.parametrize("name", [name for name in HONOURED if name != "stream"])
def test_honoured_fields_change_the_work(name: str) -> None:
    value, beside = SAMPLES[name]
    assert to_core(request(**beside, **{name: value})) != to_core(request(**beside))


def test_ignored_fields_are_named_in_the_answer() -> None:
    fields: dict[str, Any] = {name: {"a": 1} for name in IGNORED}
    answered = ask(FakeService(), **fields, surprise=1, unset=None)
    assert answered.status_code == 200
    assert set(answered.headers["x-hearth-ignored"].split(", ")) == {*IGNORED, "surprise"}


def test_the_package_knows_no_field_that_we_do_not() -> None:
    pytest.importorskip("anthropic")
    from anthropic.types.message_create_params import MessageCreateParamsStreaming

    theirs = set(MessageCreateParamsStreaming.__annotations__)
    for base in MessageCreateParamsStreaming.__orig_bases__:  # type: ignore[attr-defined]
        theirs |= set(getattr(base, "__annotations__", {}))
    assert "max_tokens" in theirs
    assert theirs - {*HONOURED, *IGNORED, *REFUSED} <= {"betas"}


def test_bounds_are_checked_where_they_are_declared() -> None:
    for name, value in {"temperature": 3, "top_p": 2, "top_k": -2, "max_tokens": -1}.items():
        with pytest.raises(msgspec.ValidationError, match=name):
            request(**{name: value})
