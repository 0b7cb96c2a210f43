"""Requests from the wire to the core, and whole answers back. Pure; a stream's chunks are made in `stream`."""

from collections.abc import AsyncIterable, Mapping
from math import inf
from typing import Any

import msgspec

from compat.openai import wire
from compat.openai.fields import CHAT, COMPLETION, TEMPLATE_OPTIONS, Field, Standing, is_off
from compat.openai.messages import continuation, messages_to_core, tools_to_core
from compat.openai.stream import FINISH_REASONS, Head, Tally
from server.core.errors import Cancelled, InvalidValue, Unsupported
from server.core.jobs import Event
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    Message,
    SamplingParams,
    TextDelta,
    TextFinished,
    TextPart,
    TextStarted,
)

MAX_CHOICES = 2048
_SEEDS = 2**32
_RANDOM_SEED = _SEEDS - 1
_MAX_OPTION_TEXT = 256


def chat_to_core(request: wire.ChatCompletionRequest, model: str) -> ChatRequest:
    """Return the conversation as core work for a model.

    Raises:
        InvalidValue: a value makes no sense; the fact `param` is its path.
        Unsupported: a field asks for what is not offered and would change the result.
    """
    _check_logprobs(request)
    _refuse(request, CHAT)
    _check_format(request)
    if request.modalities and "audio" in request.modalities:
        raise Unsupported.of("modalities", "audio output is not supported by this server, only text")
    messages = messages_to_core(request.messages)
    continued = continuation(request, messages)
    if continued and not _text_of(messages[-1]):
        messages, continued = messages[:-1] or messages, False
    return ChatRequest(
        model=model,
        messages=messages,
        sampling=_sampling(request, None),
        choices=request.n or 1,
        tools=tools_to_core(request),
        template_options=_template_options(request),
        continue_final=continued,
    )


def completion_to_core(request: wire.CompletionRequest, model: str, default_tokens: int) -> CompletionRequest:
    """Return the prompts as core work for a model; raises as `chat_to_core`."""
    _refuse(request, COMPLETION)
    _check_format(request)
    choices = request.n or 1
    if request.best_of is not None and request.best_of < choices:
        raise InvalidValue.of("best_of", f"'best_of' must not be less than 'n' ({choices})")
    if request.best_of is not None and request.best_of > choices:
        raise Unsupported.of("best_of", "'best_of' greater than 'n' is not supported by this server")
    if isinstance(request.logprobs, int) and request.logprobs is not False:
        raise Unsupported.of("logprobs", COMPLETION["logprobs"].note)
    prompts = _prompts(request.prompt)
    if len(prompts) * choices > MAX_CHOICES:
        raise InvalidValue.of("n", f"{len(prompts)} prompts with 'n' = {choices} are over {MAX_CHOICES} choices")
    return CompletionRequest(
        model=model,
        prompts=prompts,
        sampling=_sampling(request, default_tokens),
        choices=choices,
        echo=bool(request.echo),
    )


def _refuse(request: wire.SamplingFields, table: Mapping[str, Field]) -> None:
    for name, field in table.items():
        if field.standing is Standing.REFUSED and not is_off(getattr(request, name), field.off):
            raise Unsupported.of(name, f"'{name}': {field.note}")


def _check_logprobs(request: wire.ChatCompletionRequest) -> None:
    if request.top_logprobs and not request.logprobs:
        raise InvalidValue.of("top_logprobs", "'top_logprobs' needs 'logprobs': true")


def _check_format(request: wire.SamplingFields) -> None:
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return
    if wanted.type in ("json_schema", "json_object"):
        # LangChain looks for these words to give its users advice.
        text = f"Invalid parameter: 'response_format' of type '{wanted.type}' is not supported with this model."
        raise Unsupported.of("response_format", text)
    raise InvalidValue.of("response_format.type", "'response_format.type' must be text, json_object or json_schema")


def _text_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


def _sampling(request: wire.SamplingFields, default_tokens: int | None) -> SamplingParams:
    penalty = request.repeat_penalty if request.repeat_penalty is not None else request.repetition_penalty
    return SamplingParams(
        temperature=request.temperature,
        top_k=None if request.top_k is None else max(request.top_k, 0),
        top_p=request.top_p,
        min_p=request.min_p,
        typical_p=request.typical_p,
        repeat_penalty=1.0 if penalty == 0 else penalty,
        repeat_last_n=request.repeat_last_n,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        seed=_seed(request.seed),
        max_tokens=_max_tokens(request, default_tokens),
        stop=_stops(request.stop),
        logit_bias=_biases(request.logit_bias),
        ignore_eos=bool(request.ignore_eos),
    )


def _seed(seed: int | None) -> int | None:
    """Return the seed of the core; llama.cpp reads 2^32-1 as "random", so it counts as no seed."""
    folded = None if seed is None else seed % _SEEDS
    return None if folded == _RANDOM_SEED else folded


def _max_tokens(request: wire.SamplingFields, default: int | None) -> int | None:
    for limit in (request.max_completion_tokens, request.max_tokens, request.n_predict):
        if limit is not None:
            return None if limit < 0 else limit
    return default


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    texts = [stop] if isinstance(stop, str) else stop or []
    return tuple(text for text in texts if text)


def _biases(biases: dict[str, float | bool] | list[tuple[int, float | bool]] | None) -> tuple[tuple[int, float], ...]:
    pairs = [(_token(key), bias) for key, bias in biases.items()] if isinstance(biases, dict) else biases or []
    return tuple((token, _bias(token, bias)) for token, bias in pairs)


def _bias(token: int, bias: float | bool) -> float:
    if bias is True:
        raise InvalidValue.of("logit_bias", f"'logit_bias' of token {token} must be a number, or false to forbid it")
    return -inf if bias is False else float(bias)


def _token(key: str) -> int:
    token = int(key) if key.isascii() and key.isdigit() and len(key) <= 10 else -1
    if not 0 <= token <= wire.INT32:
        raise InvalidValue.of("logit_bias", f"'logit_bias' has the key {key[:32]!r}, which is not a token id")
    return token


def _template_options(request: wire.ChatCompletionRequest) -> dict[str, bool | int | float | str]:
    options: dict[str, bool | int | float | str] = {}
    if request.reasoning_effort is not None:
        options["reasoning_effort"] = request.reasoning_effort
    for name, value in (request.chat_template_kwargs or {}).items():
        kinds = TEMPLATE_OPTIONS.get(name)
        if kinds is None or value is None:
            continue
        param = f"chat_template_kwargs.{name}"
        if type(value) not in kinds:
            raise InvalidValue.of(param, f"'{param}' must be of the type {kinds[0].__name__}")
        if isinstance(value, str) and len(value) > _MAX_OPTION_TEXT:
            raise InvalidValue.of(param, f"'{param}' is longer than {_MAX_OPTION_TEXT} characters")
        if isinstance(value, int) and abs(value) > wire.INT32:
            raise InvalidValue.of(param, f"'{param}' is out of range")
        options[name] = value
    return options


def ignored_options(request: wire.ChatCompletionRequest) -> tuple[str, ...]:
    """Return the paths of template variables that are not allowed and so have no effect."""
    return tuple(
        f"chat_template_kwargs.{name}" for name in request.chat_template_kwargs or {} if name not in TEMPLATE_OPTIONS
    )


def _prompts(prompt: str | list[Any]) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(prompt, str):
        return (prompt,)
    if all(isinstance(item, int) for item in prompt):
        return (tuple(prompt),)
    if len(prompt) > wire.MAX_PROMPTS:
        raise InvalidValue.of("prompt", f"'prompt' has {len(prompt)} entries, at most {wire.MAX_PROMPTS} are taken")
    return tuple(_prompt(item, index) for index, item in enumerate(prompt))


def _prompt(item: str | int | list[int], index: int) -> str | tuple[int, ...]:
    if isinstance(item, str):
        return item
    if isinstance(item, int):
        text = f"'prompt[{index}]' is a token id among texts or lists; give the ids of one prompt, or a list of prompts"
        raise InvalidValue.of(f"prompt[{index}]", text)
    if not item:
        raise InvalidValue.of(f"prompt[{index}]", f"'prompt[{index}]' has no token")
    if len(item) > wire.MAX_TOKEN_IDS:
        raise InvalidValue.of(f"prompt[{index}]", f"'prompt[{index}]' has more than {wire.MAX_TOKEN_IDS} token ids")
    return tuple(item)


class Collected(msgspec.Struct, frozen=True):
    """A whole answer: text and finish reason of each choice, and what they used together."""

    texts: tuple[str, ...]
    reasons: tuple[str, ...]
    tally: Tally


async def collect(events: AsyncIterable[Event], tally: Tally) -> Collected:
    """Read a job's events to the end.

    Raises:
        ServerError: the job ended with it; Cancelled when it ended before all its choices did.
    """
    texts: list[list[str]] = [[] for _ in range(tally.choices)]
    reasons = [""] * tally.choices
    async for event in events:
        match event:
            case TextStarted():
                tally.start(event)
            case TextDelta():
                texts[event.choice].append(event.text)
            case TextFinished():
                tally.finish(event)
                reasons[event.choice] = FINISH_REASONS[event.reason]
            case _:
                pass
    if not tally.is_complete:
        raise Cancelled("the request was cancelled before its answer was complete", mode="stop")
    return Collected(tuple("".join(pieces) for pieces in texts), tuple(reasons), tally)


def chat_from_core(head: Head, answer: Collected) -> wire.ChatCompletion:
    """Return the body of a whole chat answer."""
    choices = [
        wire.ChatChoice(index=index, message=wire.AssistantMessage(content=text), finish_reason=reason)
        for index, (text, reason) in enumerate(zip(answer.texts, answer.reasons, strict=True))
    ]
    return wire.ChatCompletion(
        id=head.id,
        created=head.created,
        model=head.model,
        system_fingerprint=head.fingerprint,
        choices=tuple(choices),
        usage=answer.tally.usage(),
        timings=answer.tally.timings(),
    )


def completion_from_core(head: Head, answer: Collected) -> wire.Completion:
    """Return the body of a whole plain completion."""
    choices = [
        wire.CompletionChoice(text=text, index=index, finish_reason=reason)
        for index, (text, reason) in enumerate(zip(answer.texts, answer.reasons, strict=True))
    ]
    return wire.Completion(
        id=head.id,
        created=head.created,
        model=head.model,
        system_fingerprint=head.fingerprint,
        choices=tuple(choices),
        usage=answer.tally.usage(),
        timings=answer.tally.timings(),
    )
