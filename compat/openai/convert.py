"""Requests from the wire to the core. Pure; `answer` makes whole answers of a job's events, `stream` chunks."""

from collections.abc import Mapping

from compat.openai import wire
from compat.openai.constraints import constraint_to_core
from compat.openai.fields import CHAT, COMPLETION, Field, Standing, is_off
from compat.openai.messages import continuation, messages_to_core
from compat.openai.prompts import prompts_to_core
from compat.openai.reasoning import ignored_options, reasoning_to_core
from compat.openai.sampling import adapters_to_core, max_tokens_of, sampling_to_core, slot_to_core, unknown_samplers
from compat.openai.tools import tools_to_core
from server.core.errors import InvalidValue, Unsupported
from server.core.text import ChatRequest, CompletionRequest, Message, TextPart

MAX_CHOICES = 2048


def chat_to_core(request: wire.ChatCompletionRequest, model: str) -> ChatRequest:
    """Return the conversation as core work for a model.

    Raises:
        InvalidValue: a value makes no sense; the fact `param` is its path.
        Unsupported: a field asks for what is not offered and would change the result.
    """
    refuse(request, CHAT)
    if request.modalities and "audio" in request.modalities:
        raise Unsupported.of("modalities", "audio output is not supported by this server, only text")
    messages = messages_to_core(request.messages)
    continued = continuation(request, messages)
    if continued and not _text_of(messages[-1]):
        messages, continued = messages[:-1] or messages, False
    offer = tools_to_core(request)
    thought = reasoning_to_core(request)
    return ChatRequest(
        model=model,
        messages=messages,
        sampling=sampling_to_core(request, max_tokens_of(request, None)),
        choices=request.n or 1,
        tools=offer.tools,
        tool_choice=offer.choice,
        tool_name=offer.name,
        parallel_tools=offer.parallel,
        template_options=thought.options,
        reasoning_budget=thought.budget,
        split_reasoning=thought.split,
        continue_final=continued,
        constraint=constraint_to_core(request, request.response_format),
        logprobs=chat_logprobs_of(request),
        scope=request.cache_salt or "",
        adapters=adapters_to_core(request),
        slot=slot_to_core(request),
    )


def chat_logprobs_of(request: wire.ChatCompletionRequest) -> int | None:
    """Return how many likely tokens are told beside each one, None when probabilities are not asked for."""
    if request.top_logprobs and not request.logprobs:
        raise InvalidValue.of("top_logprobs", "'top_logprobs' needs 'logprobs': true")
    if request.logprobs:
        return request.top_logprobs or 0
    return request.n_probs or None


def completion_to_core(request: wire.CompletionRequest, model: str, default_tokens: int) -> CompletionRequest:
    """Return the prompts as core work for a model; raises as `chat_to_core`."""
    refuse(request, COMPLETION)
    choices = request.n or 1
    prompts = prompts_to_core(request.prompt, "prompt")
    if len(prompts) * choices > MAX_CHOICES:
        raise InvalidValue.of("n", f"{len(prompts)} prompts with 'n' = {choices} are over {MAX_CHOICES} choices")
    return CompletionRequest(
        model=model,
        prompts=prompts,
        sampling=sampling_to_core(request, max_tokens_of(request, default_tokens)),
        choices=choices,
        echo=bool(request.echo),
        constraint=constraint_to_core(request, request.response_format),
        logprobs=completion_logprobs_of(request),
        suffix=request.suffix or None,
        best_of=_best_of(request, choices),
        scope=request.cache_salt or "",
        adapters=adapters_to_core(request),
        slot=slot_to_core(request),
    )


def completion_logprobs_of(request: wire.CompletionRequest) -> int | None:
    """Return how many likely tokens are told beside each one, None when probabilities are not asked for."""
    wanted = request.logprobs
    if isinstance(wanted, bool):
        return 0 if wanted else request.n_probs or None
    return wanted if wanted is not None else request.n_probs or None


def _best_of(request: wire.CompletionRequest, choices: int) -> int:
    drawn = request.best_of
    if drawn is None or drawn == choices:
        return 0
    if drawn < choices:
        raise InvalidValue.of("best_of", f"'best_of' must not be less than 'n' ({choices})")
    if request.stream:
        raise InvalidValue.of("best_of", "'best_of' greater than 'n' cannot be streamed")
    return drawn


def refuse(request: wire.SamplerFields, table: Mapping[str, Field]) -> None:
    """Raise Unsupported for the first refused field that is set."""
    for name, field in table.items():
        if field.standing is Standing.REFUSED and not is_off(getattr(request, name), field.off):
            raise Unsupported.of(name, f"'{name}': {field.note}")


def without_effect(request: wire.SamplerFields) -> tuple[str, ...]:
    """Return the paths of values inside honoured fields that have no effect."""
    options = ignored_options(getattr(request, "chat_template_kwargs", None))
    return options + unknown_samplers(request)


def _text_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))
