"""Requests from the wire to the core, and whole answers back. Pure; a stream's chunks are made in `stream`."""

from collections.abc import AsyncIterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from compat.llama_server import wire
from compat.llama_server.adapters import request_to_core
from compat.llama_server.fields import REFUSED
from compat.llama_server.prompts import Prompt, pictured_prompts
from compat.llama_server.sampling import constraint_to_core, sampling_to_core, settings_from_core
from compat.llama_server.stream import Asked, CompletionEncoder
from server.core.errors import InvalidValue, ProtocolError, Unsupported
from server.core.jobs import Event
from server.core.text import CompletionRequest, Tokenized

MAX_CHOICES = 2048


def completion_to_core(request: wire.CompletionRequest, model: str) -> CompletionRequest:
    """Return the prompts as core work for a model.

    Raises:
        InvalidValue: a value makes no sense; the fact `param` is its path.
        Unsupported: a field asks for what is not offered and would change the result.
    """
    prompts, pictures = pictured_prompts(request.prompt)
    return msgspec.structs.replace(_work(request, model, prompts), pictures=pictures)


def infill_to_core(request: wire.InfillRequest, model: str) -> CompletionRequest:
    """Return the gap between prefix and suffix as core work; raises as `completion_to_core`.

    Of the prefix's format the engine alone knows; so texts of other files and the gap's beginning join the prefix.
    """
    extra = "".join(
        f"{item.filename}\n{item.text}\n" if item.filename else item.text for item in request.input_extra or []
    )
    work = _work(request, model, (extra + request.input_prefix + (request.prompt or ""),))
    return msgspec.structs.replace(work, suffix=request.input_suffix)


def _work(request: wire.GenerationFields, model: str, prompts: tuple[Prompt, ...]) -> CompletionRequest:
    for name, note in REFUSED.items():
        if getattr(request, name):
            raise Unsupported.of(name, f"'{name}': {note}")
    choices = request.n_cmpl or request.n or 1
    if len(prompts) * choices > MAX_CHOICES:
        raise InvalidValue.of(
            "n_cmpl", f"{len(prompts)} prompts with {choices} completions each are over {MAX_CHOICES}"
        )
    return CompletionRequest(
        model=model,
        prompts=prompts,
        sampling=sampling_to_core(request),
        choices=choices,
        constraint=constraint_to_core(request),
        logprobs=request.n_probs or (0 if request.return_tokens else None),
        adapters=request_to_core(request),
        slot=slot_to_core(request.id_slot),
    )


def slot_to_core(given: int | None) -> int | None:
    """Return the slot that a request names; -1 is none, as its absence."""
    return None if given is None or given < 0 else given


def asked_by(request: wire.GenerationFields, work: CompletionRequest) -> Asked:
    """Return what the answer takes from its request."""
    return Asked(
        model=work.model,
        prompts=tuple(prompt if isinstance(prompt, str) else "" for prompt in work.prompts),
        choices=work.choices,
        settings=settings_from_core(work.sampling, request),
        limit=work.sampling.max_tokens,
        tells_tokens=bool(request.return_tokens),
        tells_probabilities=bool(request.n_probs),
        slot=-1 if work.slot is None else work.slot,
    )


async def collect(events: AsyncIterable[Event], encoder: CompletionEncoder) -> list[wire.Completion]:
    """Return the whole completions, in order: what a client would put together from the stream."""
    chunks: dict[int, list[wire.Chunk]] = {}
    lasts: dict[int, wire.Completion] = {}
    async for event in events:
        for told in encoder.feed(event):
            if isinstance(told, wire.Chunk):
                chunks.setdefault(told.index, []).append(told)
            else:
                lasts[told.index] = told
    encoder.close()
    return [_whole(chunks.get(index, []), lasts[index]) for index in sorted(lasts)]


def _whole(chunks: list[wire.Chunk], last: wire.Completion) -> wire.Completion:
    told = last.completion_probabilities
    if told is not UNSET:
        told = tuple(item for chunk in chunks for item in chunk.completion_probabilities or ())
    return msgspec.structs.replace(
        last,
        content="".join(chunk.content for chunk in chunks),
        tokens=tuple(token for chunk in chunks for token in chunk.tokens),
        completion_probabilities=told,
    )


def chosen_fields(completion: wire.Completion, wanted: Sequence[str] | None) -> Any:
    """Return the completion, or of it only the wanted fields; `a/b` is field b of field a, told as b."""
    if not wanted:
        return completion
    everything = msgspec.to_builtins(completion)
    chosen: dict[str, Any] = {}
    for path in wanted:
        value: Any = everything
        for name in path.split("/"):
            value = value.get(name, UNSET) if isinstance(value, dict) else UNSET
        if value is not UNSET:
            chosen[path.rsplit("/", 1)[-1]] = value
    return chosen


async def collect_tokens(events: AsyncIterable[Event]) -> Tokenized:
    """Return the answer to a question for tokens."""
    async for event in events:
        if isinstance(event, Tokenized):
            return event
    raise ProtocolError("a question for tokens was not answered")


def tokens_from_core(told: Tokenized, *, with_pieces: bool) -> wire.Tokens:
    """Return the tokens, with their texts if wanted."""
    if not with_pieces:
        return wire.Tokens(told.tokens)
    pairs = zip(told.tokens, told.pieces, strict=True)
    return wire.Tokens(tuple(wire.TokenPiece(token, _piece(piece)) for token, piece in pairs))


def _piece(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
