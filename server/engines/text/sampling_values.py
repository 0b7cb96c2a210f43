"""SamplingParams -> a chain of samplers with every value given and checked, in llama.cpp's terms, order and defaults.

The defaults are those of `common_params_sampling`. Nothing unchecked may reach native code. Samplers that are switched
off by their values are left out of the chain; what is left acts in the order of `SamplingParams.samplers`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from server.core.errors import InvalidValue
from server.core.text import SamplingParams

SEED_LIMIT = 2**32
ORDER = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")
MOST_SAMPLERS = 32
MOST_BREAKERS = 128
_BREAKERS = ("\n", ":", '"', "*")
_INT32_MAX = 2**31 - 1
_HUGE = 1e6

TokensOf = Callable[[str], Iterable[int]]


class Penalties(NamedTuple):
    """Repeat, frequency and presence penalties over the last `last_n` tokens."""

    repeat: float = 1.0
    frequency: float = 0.0
    presence: float = 0.0
    last_n: int = 64

    @property
    def active(self) -> bool:
        """Tell whether tokens used before are treated differently."""
        return self.last_n != 0 and (self.repeat != 1.0 or self.frequency != 0.0 or self.presence != 0.0)


class Dry(NamedTuple):
    """The DRY penalty: multiplier * base ** (length of the repetition - allowed)."""

    multiplier: float = 0.0
    base: float = 1.75
    allowed: int = 2
    last_n: int = 64
    breakers: tuple[str, ...] = _BREAKERS

    @property
    def active(self) -> bool:
        """Tell whether repetitions are penalised."""
        return self.multiplier != 0.0 and self.base >= 1.0 and self.last_n != 0


class Mirostat(NamedTuple):
    """Mirostat `version` 1 or 2, which replaces all filters; 0 is off. `tau` is the wished surprise in bits."""

    version: int = 0
    tau: float = 5.0
    eta: float = 0.1


class Chain(NamedTuple):
    """Sampling with every value given; see `SamplingParams` for their meaning.

    `order` names the samplers that do something, in the order in which they act. `biases` are (id, added logit).
    """

    order: tuple[str, ...]
    temperature: float
    heat_range: float
    heat_exponent: float
    top_k: int
    top_p: float
    typical_p: float
    min_p: float
    top_n_sigma: float
    xtc_probability: float
    xtc_threshold: float
    min_keep: int
    penalties: Penalties
    dry: Dry
    mirostat: Mirostat
    biases: tuple[tuple[int, float], ...]


def resolve(params: SamplingParams, *, vocabulary: int, context: int, tokens_of: TokensOf | None = None) -> Chain:
    """Fill in llama.cpp's defaults and check every value.

    Args:
        params: what a request asks for.
        vocabulary: how many tokens there are.
        context: how many tokens a sequence has; -1 for a number of last tokens means all of them.
        tokens_of: splits the texts of `text_bias`; needed only for those.

    Raises:
        InvalidValue: a value is not finite, out of its range, or a biased token does not exist.
    """
    if params.max_tokens is not None:
        _whole("max_tokens", params.max_tokens, 0, 0)
    if params.seed is not None and not 0 <= params.seed < SEED_LIMIT:
        raise InvalidValue.of("seed", f"seed must lie in 0 ... {SEED_LIMIT - 1}, not {params.seed}")
    chain = Chain(
        order=_order(params.samplers),
        temperature=_number("temperature", params.temperature, 0.8, 0.0, _HUGE),
        heat_range=_number("dynatemp_range", params.dynatemp_range, 0.0, 0.0, _HUGE),
        heat_exponent=_number("dynatemp_exponent", params.dynatemp_exponent, 1.0, 0.0, 1000.0),
        top_k=_whole("top_k", params.top_k, 40, -1),
        top_p=_number("top_p", params.top_p, 0.95, 0.0, _HUGE),
        typical_p=_number("typical_p", params.typical_p, 1.0, 0.0, _HUGE),
        min_p=_number("min_p", params.min_p, 0.05, 0.0, _HUGE),
        top_n_sigma=_number("top_n_sigma", params.top_n_sigma, -1.0, -_HUGE, _HUGE),
        xtc_probability=_number("xtc_probability", params.xtc_probability, 0.0, 0.0, _HUGE),
        xtc_threshold=_number("xtc_threshold", params.xtc_threshold, 0.1, 0.0, _HUGE),
        min_keep=_whole("min_keep", params.min_keep, 0, 0),
        penalties=Penalties(
            repeat=_number("repeat_penalty", params.repeat_penalty, 1.0, 1e-6, _HUGE),
            frequency=_number("frequency_penalty", params.frequency_penalty, 0.0, -_HUGE, _HUGE),
            presence=_number("presence_penalty", params.presence_penalty, 0.0, -_HUGE, _HUGE),
            last_n=_last("repeat_last_n", params.repeat_last_n, context),
        ),
        dry=_dry(params, context),
        mirostat=_mirostat(params),
        biases=_biases(params, vocabulary, tokens_of),
    )
    if chain.mirostat.version:  # it takes the place of all others, as in llama.cpp
        return chain._replace(order=("temperature",))
    return chain._replace(order=tuple(name for name in chain.order if _acts(name, chain)))


def _acts(name: str, chain: Chain) -> bool:
    """Tell whether a sampler does anything with these values."""
    return {
        "penalties": chain.penalties.active,
        "dry": chain.dry.active,
        "temperature": True,
        "top_n_sigma": chain.top_n_sigma > 0,
        "top_k": chain.top_k > 0,
        "typ_p": chain.typical_p < 1,
        "top_p": chain.top_p < 1,
        "min_p": chain.min_p > 0,
        "xtc": chain.xtc_probability > 0 and chain.xtc_threshold <= 0.5,
    }[name]


def _order(samplers: Sequence[str]) -> tuple[str, ...]:
    if len(samplers) > MOST_SAMPLERS:
        raise InvalidValue.of("samplers", f"at most {MOST_SAMPLERS} samplers can be chained, not {len(samplers)}")
    for name in samplers:
        if name not in ORDER:
            raise InvalidValue.of("samplers", f"there is no sampler {name[:80]!r}; there are {', '.join(ORDER)}")
    return tuple(samplers) or ORDER


def _dry(params: SamplingParams, context: int) -> Dry:
    breakers = _BREAKERS if params.dry_sequence_breakers is None else params.dry_sequence_breakers
    if len(breakers) > MOST_BREAKERS:
        text = f"at most {MOST_BREAKERS} sequence breakers can be given, not {len(breakers)}"
        raise InvalidValue.of("dry_sequence_breakers", text)
    return Dry(
        multiplier=_number("dry_multiplier", params.dry_multiplier, 0.0, 0.0, _HUGE),
        base=_number("dry_base", params.dry_base, 1.75, 0.0, _HUGE),
        allowed=_whole("dry_allowed_length", params.dry_allowed_length, 2, 0),
        last_n=_last("dry_penalty_last_n", params.dry_penalty_last_n, context),
        breakers=tuple(breaker for breaker in breakers if breaker),
    )


def _mirostat(params: SamplingParams) -> Mirostat:
    version = _whole("mirostat", params.mirostat, 0, 0)
    if version > 2:
        raise InvalidValue.of("mirostat", f"mirostat must be 0, 1 or 2, not {version}")
    return Mirostat(
        version=version,
        tau=_number("mirostat_tau", params.mirostat_tau, 5.0, 0.0, _HUGE),
        eta=_number("mirostat_eta", params.mirostat_eta, 0.1, 0.0, _HUGE),
    )


def _number(param: str, value: float | None, default: float, low: float, high: float) -> float:
    if value is None:
        return default
    if not low <= value <= high:  # False for NaN too
        raise InvalidValue.of(param, f"{param} must lie in {low:g} ... {high:g}, not {value}")
    return float(value)


def _whole(param: str, value: int | None, default: int, low: int) -> int:
    if value is None:
        return default
    if value < low:
        raise InvalidValue.of(param, f"{param} must be at least {low}, not {value}")
    return min(value, _INT32_MAX)


def _last(param: str, value: int | None, context: int) -> int:
    count = _whole(param, value, 64, -1)
    return context if count == -1 else min(count, context)


def _biases(params: SamplingParams, vocabulary: int, tokens_of: TokensOf | None) -> tuple[tuple[int, float], ...]:
    biases = list(params.logit_bias)
    for text, bias in params.text_bias:
        biases += [(int(token), bias) for token in (tokens_of(text) if tokens_of is not None else ())]
    for token, bias in biases:
        if not 0 <= token < vocabulary:
            raise InvalidValue.of("logit_bias", f"token {token} does not exist; the model has {vocabulary} tokens")
        if math.isnan(bias) or bias == math.inf:
            raise InvalidValue.of("logit_bias", f"the bias of token {token} must be a number or -inf, not {bias}")
    return tuple(biases)
