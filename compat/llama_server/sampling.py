"""How text is written: from the wire to the core, and back as `generation_settings`. Pure."""

from math import inf, isfinite

import msgspec

from compat.llama_server import wire
from compat.llama_server.fields import LETTERS, SAMPLERS
from server.core.errors import InvalidValue
from server.core.text import Constraint, GrammarConstraint, JsonConstraint, SamplingParams

_SEEDS = 2**32
_RANDOM_SEED = _SEEDS - 1
_SAME = (
    "top_p", "min_p", "typical_p", "top_n_sigma", "min_keep", "xtc_probability", "xtc_threshold", "repeat_last_n",
    "presence_penalty", "frequency_penalty", "dynatemp_range", "dynatemp_exponent", "dry_multiplier", "dry_base",
    "dry_allowed_length", "dry_penalty_last_n", "mirostat", "mirostat_tau", "mirostat_eta",
)  # fmt: skip


def sampling_to_core(request: wire.GenerationFields) -> SamplingParams:
    """Return the sampling in core terms; raise InvalidValue for a bias that makes no sense."""
    limit = request.n_predict if request.n_predict is not None else request.max_tokens
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    by_id, by_text = _biases(request.logit_bias)
    breakers = request.dry_sequence_breakers
    return SamplingParams(
        temperature=None if request.temperature is None else max(request.temperature, 0.0),
        top_k=None if request.top_k is None else max(request.top_k, 0),
        repeat_penalty=1.0 if request.repeat_penalty == 0 else request.repeat_penalty,
        seed=_seed(request.seed),
        max_tokens=None if limit is None or limit < 0 else limit,
        stop=tuple(text for text in stops if text),
        logit_bias=by_id,
        text_bias=by_text,
        ignore_eos=bool(request.ignore_eos),
        dry_sequence_breakers=None if breakers is None else tuple(breakers),
        samplers=tuple(SAMPLERS[name] for name in _names(request.samplers) if name in SAMPLERS),
        **{name: getattr(request, name) for name in _SAME},
    )


def unknown_samplers(request: wire.GenerationFields) -> tuple[str, ...]:
    """Return the samplers that are asked for and not there, as paths."""
    return tuple(f"samplers.{name}" for name in _names(request.samplers) if name not in SAMPLERS)


def constraint_to_core(request: wire.GenerationFields) -> Constraint | None:
    """Return what the text must follow; raise InvalidValue when both kinds are given."""
    if request.grammar and request.json_schema is not None:
        raise InvalidValue.of("grammar", "Either 'json_schema' or 'grammar' can be specified, but not both")
    if request.grammar:
        return GrammarConstraint(grammar=request.grammar, syntax="gbnf", param="grammar")
    if request.json_schema is None:
        return None
    return JsonConstraint(schema=msgspec.json.encode(request.json_schema).decode(), param="json_schema")


def settings_from_core(
    params: SamplingParams,
    request: wire.GenerationFields = wire.GenerationFields(),  # noqa: B008 (a frozen value)
) -> wire.GenerationSettings:
    """Return the values that hold for a request, llama.cpp's own where it names none."""
    given = {name: getattr(params, name) for name in (*_SAME, "temperature", "top_k", "repeat_penalty", "seed")}
    given["dry_sequence_breakers"] = params.dry_sequence_breakers
    known = {name: value for name, value in given.items() if value is not None}
    limit = -1 if params.max_tokens is None else params.max_tokens
    if params.samplers:
        known["samplers"] = params.samplers
    return wire.GenerationSettings(
        n_predict=limit,
        max_tokens=limit,
        stop=params.stop,
        ignore_eos=params.ignore_eos,
        logit_bias=tuple((token, bias if isfinite(bias) else False) for token, bias in params.logit_bias),
        stream=bool(request.stream),
        n_probs=request.n_probs or 0,
        grammar=request.grammar or "",
        lora=tuple(request.lora or ()),
        **known,
    )


def _names(samplers: str | list[str] | None) -> list[str]:
    if isinstance(samplers, str):
        return [LETTERS.get(letter, letter) for letter in samplers[:64]]
    return [name.replace("-", "_").lower() for name in samplers or []]


def _seed(seed: int | None) -> int | None:
    """Return the seed of the core; llama.cpp reads 2^32-1 as "random", so it counts as no seed."""
    folded = None if seed is None else seed % _SEEDS
    return None if folded == _RANDOM_SEED else folded


Biases = tuple[tuple[tuple[int, float], ...], tuple[tuple[str, float], ...]]


def _biases(biases: dict[str, float | bool] | list[tuple[int | str, float | bool]] | None) -> Biases:
    """Return the biases by token id and by text. In an object, a key of digits is a token id."""
    pairs = [(_key(key), bias) for key, bias in biases.items()] if isinstance(biases, dict) else biases or []
    by_id: list[tuple[int, float]] = []
    by_text: list[tuple[str, float]] = []
    for key, bias in pairs:
        if bias is True:
            raise InvalidValue.of("logit_bias", "a bias in 'logit_bias' must be a number, or false to forbid the token")
        amount = -inf if bias is False else float(bias)
        if isinstance(key, int):
            by_id.append((key, amount))
        elif key:
            by_text.append((key, amount))
    return tuple(by_id), tuple(by_text)


def _key(key: str) -> int | str:
    is_id = key.isascii() and key.isdigit() and len(key) <= 10 and int(key) <= wire.INT32
    return int(key) if is_id else key
