"""The encoder: events of a job in, chunks out."""

import pytest
from msgspec import UNSET

from compat.llama_server import wire
from compat.llama_server.stream import Asked, CompletionEncoder
from server.core.errors import Cancelled, ProtocolError
from server.core.jobs import Loading, Waiting
from server.core.text import TextDelta, TextFinished, TextStarted, ToolCallDelta, Usage


def encoder(prompts: tuple[str, ...] = ("p",), choices: int = 1) -> CompletionEncoder:
    return CompletionEncoder(
        Asked(model="m", prompts=prompts, choices=choices, settings=wire.GenerationSettings(), limit=None)
    )


def end(choice: int = 0) -> TextFinished:
    return TextFinished(choice=choice, reason="stop", usage=Usage(prompt_tokens=5, completion_tokens=3))


def test_chunks_count_and_the_last_one_has_no_text() -> None:
    made = encoder()
    assert made.feed(Waiting(position=0)) == made.feed(Loading(model="m")) == []
    assert made.feed(TextStarted(prompt_tokens=5)) == []
    (first,) = made.feed(TextDelta(choice=0, text="a\n", tokens=2))
    (second,) = made.feed(TextDelta(choice=0, text="b"))
    (last,) = made.feed(end())
    made.close()
    assert isinstance(first, wire.Chunk) and isinstance(second, wire.Chunk) and isinstance(last, wire.Completion)
    assert (first.content, first.stop, first.tokens_predicted, first.tokens_evaluated) == ("a\n", False, 2, 5)
    assert second.tokens_predicted == 3
    assert first.completion_probabilities is UNSET
    assert (last.content, last.stop, last.has_new_line) == ("", True, True)


def test_of_several_prompts_no_single_length_is_claimed() -> None:
    made = encoder(("a", "b"))
    made.feed(TextStarted(prompt_tokens=10))
    (chunk,) = made.feed(TextDelta(choice=1, text="x"))
    assert isinstance(chunk, wire.Chunk) and chunk.tokens_evaluated == 0


def test_what_an_engine_must_not_do() -> None:
    with pytest.raises(ProtocolError):
        encoder().feed(ToolCallDelta(choice=0, index=0, name="f"))


def test_all_ends_must_come() -> None:
    made = encoder(choices=2)
    made.feed(end(1))
    with pytest.raises(Cancelled):
        made.close()
    made.feed(end(0))
    made.close()
