r"""How tokens are chosen: from the wire to the core. Pure.

| on the wire | in the core |
|---|---|
| `top_k` -1 | 0, off |
| `repeat_penalty` 0 | 1, off |
| `seed` -1 or 2^32-1 | no seed |
| `logit_bias` `{"15": -1}`, `[[15, -1]]`, `[[15, false]]` | a token's bias; false forbids it |
| `logit_bias` `{"word": -1}`, `[["word", -1]]` | the bias of each token of a text |
| `samplers` `["top_k", "temp"]` or `"top_k;temp"` | the core's names; unknown ones are left out |
| `dry_sequence_breakers` `["\n"]` or `"[\"\\n\"]"` | texts |
"""

import re
from math import inf

import msgspec

from compat.openai import wire
from server.core.errors import InvalidValue
from server.core.text import AdapterScale, SamplingParams

_SEEDS = 2**32
_RANDOM_SEED = _SEEDS - 1
_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_SAMPLERS = {
    "penalties": "penalties",
    "dry": "dry",
    "top_n_sigma": "top_n_sigma",
    "top-n-sigma": "top_n_sigma",
    "top_k": "top_k",
    "top-k": "top_k",
    "typ_p": "typ_p",
    "typ-p": "typ_p",
    "typical_p": "typ_p",
    "typical-p": "typ_p",
    "typical": "typ_p",
    "top_p": "top_p",
    "top-p": "top_p",
    "nucleus": "top_p",
    "min_p": "min_p",
    "min-p": "min_p",
    "xtc": "xtc",
    "temperature": "temperature",
    "temp": "temperature",
}
"""llama.cpp's names of its samplers, with its other spellings of them."""


def adapters_to_core(request: wire.SamplerFields) -> tuple[AdapterScale, ...] | None:
    """Return the adapters that act on the request; None, as for an empty list, leaves it to what is set."""
    if not request.lora:
        return None
    return tuple(
        AdapterScale(adapter=item.id, scale=item.scale, param=f"lora[{index}].id")
        for index, item in enumerate(request.lora)
    )


def slot_to_core(request: wire.SamplerFields) -> int | None:
    """Return the slot that a request names; -1 is none, as its absence."""
    return None if request.id_slot is None or request.id_slot < 0 else request.id_slot


def sampling_to_core(request: wire.SamplerFields, max_tokens: int | None) -> SamplingParams:
    """Return the sampling of a request whose limit is known; raise InvalidValue with the field's path."""
    penalty = _first(request.repeat_penalty, request.repetition_penalty)
    token_bias, text_bias = _biases(request.logit_bias)
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
        max_tokens=max_tokens,
        stop=_stops(request.stop),
        logit_bias=token_bias,
        text_bias=text_bias,
        ignore_eos=bool(request.ignore_eos),
        min_keep=request.min_keep,
        top_n_sigma=request.top_n_sigma,
        dynatemp_range=request.dynatemp_range,
        dynatemp_exponent=request.dynatemp_exponent,
        xtc_probability=request.xtc_probability,
        xtc_threshold=request.xtc_threshold,
        dry_multiplier=request.dry_multiplier,
        dry_base=request.dry_base,
        dry_allowed_length=request.dry_allowed_length,
        dry_penalty_last_n=request.dry_penalty_last_n,
        dry_sequence_breakers=_breakers(request.dry_sequence_breakers),
        mirostat=request.mirostat if request.mirostat is not None else request.mirostat_mode,
        mirostat_tau=request.mirostat_tau,
        mirostat_eta=request.mirostat_eta,
        samplers=tuple(_SAMPLERS[name] for name in _named_samplers(request) if name in _SAMPLERS),
    )


def unknown_samplers(request: wire.SamplerFields) -> tuple[str, ...]:
    """Return the paths of samplers that llama.cpp doesn't have (any more); they have no effect."""
    return tuple(f"samplers.{name}" for name in _named_samplers(request) if name not in _SAMPLERS)


def max_tokens_of(request: wire.SamplingFields, default: int | None) -> int | None:
    """Return the limit of a request's answer: negative means none, as does absent for a chat."""
    for limit in (request.max_completion_tokens, request.max_tokens, request.n_predict):
        if limit is not None:
            return None if limit < 0 else limit
    return default


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _seed(seed: int | None) -> int | None:
    """Return the seed of the core; llama.cpp reads 2^32-1 as "random", so it counts as no seed."""
    folded = None if seed is None else seed % _SEEDS
    return None if folded == _RANDOM_SEED else folded


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    texts = [stop] if isinstance(stop, str) else stop or []
    return tuple(text for text in texts if text)


def _named_samplers(request: wire.SamplerFields) -> list[str]:
    names = request.samplers or []
    return [name for name in names.split(";") if name] if isinstance(names, str) else names


def _breakers(breakers: list[str] | str | None) -> tuple[str, ...] | None:
    if isinstance(breakers, str):
        if not breakers:
            return None
        try:
            breakers = msgspec.json.decode(breakers, type=wire.Breakers)
        except (msgspec.DecodeError, RecursionError):
            text = "'dry_sequence_breakers' must be a list of texts, or such a list as JSON text"
            raise InvalidValue.of("dry_sequence_breakers", text) from None
    return None if breakers is None else tuple(text for text in breakers if text)


TokenBias = tuple[tuple[int, float], ...]
TextBias = tuple[tuple[str, float], ...]


def _biases(
    biases: dict[str, float | bool] | list[tuple[int | str, float | bool]] | None,
) -> tuple[TokenBias, TextBias]:
    pairs = [(_token(key), bias) for key, bias in biases.items()] if isinstance(biases, dict) else biases or []
    given = [(key, _bias(key, bias)) for key, bias in pairs]
    tokens = tuple((key, bias) for key, bias in given if isinstance(key, int))
    texts = tuple((key, bias) for key, bias in given if isinstance(key, str))
    return tokens, texts


def _bias(key: int | str, bias: float | bool) -> float:
    if bias is True:
        text = f"'logit_bias' of {str(key)[:32]!r} must be a number, or false to forbid it"
        raise InvalidValue.of("logit_bias", text)
    return -inf if bias is False else float(bias)


def _token(key: str) -> int | str:
    """Return the token id or the text that a key of the object form stands for."""
    if not _NUMBER.fullmatch(key):
        if not key or len(key) > 1024:
            raise InvalidValue.of("logit_bias", "'logit_bias' has a key that is empty or over 1024 characters")
        return key
    token = int(key) if len(key) <= 11 else -1
    if not 0 <= token <= wire.INT32:
        raise InvalidValue.of("logit_bias", f"'logit_bias' has the key {key[:32]!r}, which is not a token id")
    return token
