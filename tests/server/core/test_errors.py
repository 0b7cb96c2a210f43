"""The error tree: every class survives the process border, and says what the contract promises."""

import msgspec
import pytest

from server.core import errors
from server.core.errors import (
    Broken,
    ContextTooLong,
    ErrorData,
    InvalidValue,
    ServerError,
    UnknownModel,
    Unsupported,
    from_data,
)


def tree(root: type[ServerError] = ServerError) -> list[type[ServerError]]:
    """Return the core's own errors; a door may have classes of its own that never cross the process border."""
    own = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root, *(found for child in own for found in tree(child))]


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_there_and_back_again(kind: type[ServerError]) -> None:
    error = kind("what happened", model="m", count=3, share=0.5, yes=True, nothing=None, close=["a", "b"])
    data = msgspec.msgpack.decode(msgspec.msgpack.encode(error.to_data()), type=ErrorData)
    back = from_data(data)
    assert type(back) is kind
    assert (back.message, str(back), back.facts) == (error.message, "what happened", error.facts)


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in tree()]
    assert len(set(codes)) == len(codes)


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn = errors.__doc__ or ""
    assert [kind.__name__ for kind in tree() if kind.__name__ not in drawn] == []


def test_an_unknown_code_is_our_fault() -> None:
    back = from_data(ErrorData(code="from_the_future", message="m", facts={"a": 1}))
    assert type(back) is Broken
    assert back.fact("a") == 1


@pytest.mark.parametrize("name", ["message", "self", "code"])
def test_no_name_of_a_fact_breaks_the_way_back(name: str) -> None:
    assert from_data(ErrorData(code="broken", message="m", facts={name: "x"})).fact(name) == "x"


def test_facts_that_are_not_there() -> None:
    assert ServerError("m").fact("model") is None


def test_builders() -> None:
    assert str(UnknownModel.named("x", [])) == "no model named 'x' is known"
    near = UnknownModel.named("x", ["y", "z"])
    assert "did you mean y, z?" in str(near)
    assert near.fact("close") == ["y", "z"]
    assert InvalidValue.of("n", "n must be positive").fact("param") == "n"
    assert Unsupported.of("suffix", "no").fact("feature") == "suffix"


def test_the_words_that_clients_match() -> None:
    error = ContextTooLong.of(limit=2048, got=5000)
    assert "maximum context length is 2048 tokens" in str(error)
    assert "5000" in str(error)
    assert "context_length_exceeded" in str(error)
    assert (error.fact("limit"), error.fact("got")) == (2048, 5000)
