"""SamplingParams -> the choice of a token, in llama.cpp's order and with its defaults (`common_params_sampling`).

The order is: logit bias, penalties, top-k, typical-p, top-p, min-p, temperature, and a draw with the seed. Bias and
penalties touch few tokens and are applied to the row itself; the rest is a native chain over the tokens that can matter
(`candidates`). DRY, top-n-sigma and XTC are off by default in llama.cpp and have no field in the core yet.
"""

import ctypes
import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import llama_cpp
import numpy as np

from server.core.errors import Broken, InvalidValue
from server.core.text import SamplingParams
from server.engines.text.candidates import Filters, Row, shortlist

NOTHING_ALLOWED = -1
SEED_LIMIT = 2**32
_INT32_MAX = 2**31 - 1


class Chain(NamedTuple):
    """Sampling with every value given; see `SamplingParams` for their meaning. `biases` are (id, added logit)."""

    filters: Filters
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    repeat_last_n: int
    biases: tuple[tuple[int, float], ...]

    @property
    def penalises(self) -> bool:
        """Tell whether tokens used before are treated differently."""
        return self.repeat_last_n != 0 and (
            self.repeat_penalty != 1.0 or self.frequency_penalty != 0.0 or self.presence_penalty != 0.0
        )


def resolve(params: SamplingParams, *, vocabulary: int, context: int) -> Chain:
    """Fill in llama.cpp's defaults and check every value, since nothing unchecked may reach native code.

    Raises:
        InvalidValue: a value is not finite, out of its range, or a biased token does not exist.
    """
    last_n = _whole("repeat_last_n", params.repeat_last_n, 64, -1)
    if params.max_tokens is not None:
        _whole("max_tokens", params.max_tokens, 0, 0)
    if params.seed is not None and not 0 <= params.seed < SEED_LIMIT:
        raise InvalidValue.of("seed", f"seed must lie in 0 ... {SEED_LIMIT - 1}, not {params.seed}")
    return Chain(
        filters=Filters(
            temperature=_number("temperature", params.temperature, 0.8, 0.0, 1e6),
            top_k=_whole("top_k", params.top_k, 40, -1),
            top_p=_number("top_p", params.top_p, 0.95, 0.0, 1e6),
            typical_p=_number("typical_p", params.typical_p, 1.0, 0.0, 1e6),
            min_p=_number("min_p", params.min_p, 0.05, 0.0, 1e6),
        ),
        repeat_penalty=_number("repeat_penalty", params.repeat_penalty, 1.0, 1e-6, 1e6),
        frequency_penalty=_number("frequency_penalty", params.frequency_penalty, 0.0, -1e6, 1e6),
        presence_penalty=_number("presence_penalty", params.presence_penalty, 0.0, -1e6, 1e6),
        repeat_last_n=context if last_n == -1 else min(last_n, context),
        biases=_biases(params.logit_bias, vocabulary),
    )


class Candidates:
    """The array that native samplers work on; one for an engine, filled for each choice."""

    def __init__(self, vocabulary: int) -> None:
        data = np.zeros(vocabulary, np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
        self._ids, self._logits = data["id"], data["logit"]
        self._everything = np.arange(vocabulary, dtype=np.int32)
        self._data: Any = data.ctypes.data_as(llama_cpp.llama_token_data_p)
        self._array = llama_cpp.llama_token_data_array(data=self._data, size=0, selected=-1, sorted=False)
        self._reference = ctypes.byref(self._array)

    def pick(self, chain: Any, row: Row, ids: "np.ndarray[Any, np.dtype[np.intp]] | None") -> int:
        """Let a native chain choose among `ids` [n] of a row of logits [vocabulary]; None means all."""
        count = len(row) if ids is None else len(ids)
        self._ids[:count] = self._everything if ids is None else ids
        self._logits[:count] = row if ids is None else row[ids]
        array = self._array
        array.data, array.size, array.selected, array.sorted = self._data, count, -1, False
        llama_cpp.llama_sampler_apply(chain, self._reference)
        if not 0 <= array.selected < array.size:
            raise Broken("the sampler chose nothing")
        return int(array.data[array.selected].id)


class TokenSampler:
    """Chooses the tokens of one reply; owns a native chain unless it is greedy."""

    def __init__(self, chain: Chain, seed: int, candidates: Candidates, forbidden: Iterable[int] = ()) -> None:
        """Prepare the choice; `forbidden` tokens are never chosen, whatever the request says."""
        self._filters = chain.filters
        self._candidates = candidates
        biases: dict[int, float] = {}
        for token, bias in (*chain.biases, *((token, -math.inf) for token in forbidden)):
            biases[token] = biases.get(token, 0.0) + bias
        self._biased = np.array(list(biases), np.intp)
        self._bias = np.array(list(biases.values()), np.float32)
        self._window = PenaltyWindow(chain) if chain.penalises else None
        self._native: Any = None if chain.filters.temperature <= 0 else _native_chain(chain.filters, seed)

    def accept(self, tokens: Iterable[int]) -> None:
        """Tell which tokens, of the prompt or chosen, stand in the text now; penalties count them."""
        if self._window is not None:
            self._window.extend(tokens)

    def choose(self, row: Row) -> int:
        """Return the next token, or NOTHING_ALLOWED when every token is forbidden.

        Args:
            row: logits [vocabulary] of the model; bias and penalties are written into it.

        Raises:
            Broken: the model computed something that is no number.
        """
        if len(self._biased):
            row[self._biased] += self._bias
        if self._window is not None:
            self._window.apply(row)
        if self._native is None:
            best = int(row.argmax())
            return best if _is_possible(float(row[best])) else NOTHING_ALLOWED
        peak, ids = shortlist(row, self._filters)
        return self._candidates.pick(self._native, row, ids) if _is_possible(peak) else NOTHING_ALLOWED

    def close(self) -> None:
        """Free the native chain; may be called twice."""
        if self._native is not None:
            llama_cpp.llama_sampler_free(self._native)
            self._native = None


class PenaltyWindow:
    """The last tokens of a text and how often each occurs, for repeat, frequency and presence penalties.

    As llama.cpp does: a logit is divided by the repeat penalty when positive and multiplied when not, once however
    often the token occurs; then count × frequency and presence are subtracted.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._recent: deque[int] = deque()
        self._counts: dict[int, int] = {}

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens; those that leave the window are forgotten."""
        if isinstance(tokens, Sequence | np.ndarray):
            tokens = tokens[-self._chain.repeat_last_n :]
        for token in tokens:
            self._add(int(token))

    def apply(self, row: Row) -> None:
        """Write the penalties into a row of logits [vocabulary]."""
        if not self._counts:
            return
        ids = np.fromiter(self._counts.keys(), np.intp, len(self._counts))
        counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
        values = row[ids]
        repeat = np.float32(self._chain.repeat_penalty)
        values = np.where(values <= 0, values * repeat, values / repeat)
        values -= counts * np.float32(self._chain.frequency_penalty) + np.float32(self._chain.presence_penalty)
        row[ids] = values

    def _add(self, token: int) -> None:
        if len(self._recent) == self._chain.repeat_last_n:
            oldest = self._recent.popleft()
            left = self._counts[oldest] - 1
            if left:
                self._counts[oldest] = left
            else:
                del self._counts[oldest]
        self._recent.append(token)
        self._counts[token] = self._counts.get(token, 0) + 1


def _is_possible(peak: float) -> bool:
    """Tell whether a row with this largest logit allows any token; raise Broken when it is no row of numbers."""
    if math.isnan(peak) or peak == math.inf:
        raise Broken("the model computed logits that are no numbers")
    return peak != -math.inf


def _native_chain(filters: Filters, seed: int) -> Any:
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    parts = []
    if filters.top_k > 0:
        parts.append(llama_cpp.llama_sampler_init_top_k(filters.top_k))
    if filters.typical_p < 1:
        parts.append(llama_cpp.llama_sampler_init_typical(filters.typical_p, 0))
    if filters.top_p < 1:
        parts.append(llama_cpp.llama_sampler_init_top_p(filters.top_p, 0))
    if filters.min_p > 0:
        parts.append(llama_cpp.llama_sampler_init_min_p(filters.min_p, 0))
    parts.append(llama_cpp.llama_sampler_init_temp_ext(filters.temperature, 0.0, 1.0))
    parts.append(llama_cpp.llama_sampler_init_dist(seed))
    for part in parts:
        llama_cpp.llama_sampler_chain_add(chain, part)
    return chain


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


def _biases(biases: Sequence[tuple[int, float]], vocabulary: int) -> tuple[tuple[int, float], ...]:
    for token, bias in biases:
        if not 0 <= token < vocabulary:
            raise InvalidValue.of("logit_bias", f"token {token} does not exist; the model has {vocabulary} tokens")
        if math.isnan(bias) or bias == math.inf:
            raise InvalidValue.of("logit_bias", f"the bias of token {token} must be a number or -inf, not {bias}")
    return tuple(biases)
