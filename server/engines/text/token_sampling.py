"""A resolved chain -> the choice of each token of one reply.

Bias, and penalties that stand first in the chain, touch few tokens and are written into the row itself. The row is cut
to the tokens that can matter (`candidates`); a native chain chooses among them. Where nothing but top-p, min-p and
temperatures act, `upper_draw` draws from a long row without either. All other rows that stay long, dynamic temperature,
Mirostat, and penalties that act after a filter go through `array_sampling`.
"""

import ctypes
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import llama_cpp
import numpy as np

from server.core.errors import Broken
from server.engines.text.array_sampling import ArrayChain
from server.engines.text.candidates import NEGLIGIBLE, Cut, Ids, Row, shortlist, survey
from server.engines.text.dry import BreakerTable, DryWindow
from server.engines.text.penalties import PenaltyWindow
from server.engines.text.sampling_values import Chain
from server.engines.text.upper_draw import UpperDraw, upper_of

NOTHING_ALLOWED = -1
_NATIVE_MOST = 2048
_PENALTIES = ("penalties", "dry")
_FILTERS = ("top_k", "top_p", "min_p", "typ_p")
_SURE_SHARE = 1 - 1e-4
_XTC_LEAST = 1e-3
_MIROSTAT_TOKENS = 128


class Candidates:
    """The array that native samplers work on; one for an engine, filled for each choice."""

    def __init__(self, vocabulary: int) -> None:
        data = np.zeros(vocabulary, np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
        self._ids, self._logits = data["id"], data["logit"]
        self._everything = np.arange(vocabulary, dtype=np.int32)
        self._data: Any = data.ctypes.data_as(llama_cpp.llama_token_data_p)
        self._array = llama_cpp.llama_token_data_array(data=self._data, size=0, selected=-1, sorted=False)
        self._reference = ctypes.byref(self._array)

    def pick(self, chain: Any, row: Row, ids: Ids | None) -> int:
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


class Restriction(Protocol):
    """What knows which tokens may come next; see `guide.Guide`."""

    def restrict(self, row: Row) -> Ids | None:
        """Return the ids [n] that may come next; None when the row says it itself, with -inf for all others."""
        ...

    def allows(self, token: int) -> bool:
        """Tell whether a token may come next."""
        ...


class _Window(Protocol):
    def extend(self, tokens: Iterable[int]) -> None: ...

    def apply(self, row: Row) -> None: ...


class TokenSampler:
    """Chooses the tokens of one reply; owns a native chain unless it does without. `is_greedy`: nothing is drawn.

    `is_tie` tells of the last greedy choice that another token came within `tie_bound` logits of it; 0 = nobody asks.
    """

    def __init__(
        self,
        chain: Chain,
        seed: int,
        candidates: Candidates,
        forbidden: Iterable[int] = (),
        breakers: BreakerTable | None = None,
    ) -> None:
        """Prepare the choice.

        Args:
            chain: what was asked for.
            seed: of all draws.
            candidates: shared by all samplers of an engine.
            forbidden: tokens that are never chosen, whatever the request says.
            breakers: finds the sequence breakers of DRY; without, nothing breaks a sequence.
        """
        self._candidates = candidates
        biases: dict[int, float] = {}
        for token, bias in (*chain.biases, *((token, -math.inf) for token in forbidden)):
            biases[token] = biases.get(token, 0.0) + bias
        self._biased = np.array(list(biases), np.intp)
        self._bias = np.array(list(biases.values()), np.float32)
        self.mask: Restriction | None = None
        self.tie_bound = 0.0
        self.is_tie = False
        self._windows = _windows(chain, breakers)
        head, body = _split(chain.order)
        self._first = [self._windows[name].apply for name in head]
        self.is_greedy = _is_greedy(chain, body)
        self._cut = cut_of(chain, body)
        touches = {name: window.apply for name, window in self._windows.items()}
        self._arrays = ArrayChain(chain, seed, touches)
        self._body = body
        self._left = _without(body, "top_n_sigma" if self._cut.sigmas else "top_p" if self._cut.share else "")
        upper = None if self.is_greedy else upper_of(chain, body)
        self._upper = None if upper is None else UpperDraw(upper, seed)
        self._native: Any = None
        if not self.is_greedy and _is_native(chain, body):
            self._native = _native_chain(chain, self._left, seed)

    def accept(self, tokens: Iterable[int]) -> None:
        """Tell which tokens, of the prompt or chosen, stand in the text now; penalties count them."""
        for window in self._windows.values():
            window.extend(tokens)

    def choose(self, row: Row) -> int:
        """Return the next token, or NOTHING_ALLOWED when every token is forbidden.

        Args:
            row: logits [vocabulary] of the model; it is overwritten.

        Raises:
            Broken: the model computed something that is no number.
        """
        self.is_tie = False
        if len(self._biased):
            row[self._biased] += self._bias
        for touch in self._first:
            touch(row)
        if self.is_greedy and self.mask is not None:
            best = int(row.argmax())
            if _is_possible(float(row[best])) and self.mask.allows(best):
                self._look_for_tie(row, best)
                return best  # what is largest of all is so of those that are allowed
        allowed = self.mask.restrict(row) if self.mask is not None else None
        if allowed is not None and len(allowed) < 2:
            return int(allowed[0]) if len(allowed) else NOTHING_ALLOWED
        values = row if allowed is None else row[allowed]
        if self.is_greedy:
            best = int(values.argmax())
            if not _is_possible(float(values[best])):
                return NOTHING_ALLOWED
            self._look_for_tie(values, best)
            return best if allowed is None else int(allowed[best])
        return self._drawn(row, values, allowed)

    def _drawn(self, row: Row, values: Row, allowed: Ids | None) -> int:
        """Draw a token of a row; the `values` [n] are those of the `allowed` ones, or the row itself."""
        seen = survey(values)
        if not _is_possible(seen.peak):
            return NOTHING_ALLOWED
        ids: Ids | None = None
        if self._upper is None or not len(seen.maxima):
            ids = shortlist(seen, self._cut)
        elif (place := self._upper.draw(seen)) is not None:
            return place if allowed is None else int(allowed[place])
        # Where the cut is a filter itself and was not made, that filter is still to act.
        order = self._body if ids is None and self._cut.share else self._left
        if allowed is not None:
            ids = allowed if ids is None else allowed[ids]
        count = len(row) if ids is None else len(ids)
        if self._native is not None and count <= _NATIVE_MOST and order is self._left:
            return self._candidates.pick(self._native, row, ids)
        if ids is None:
            return self._arrays.choose(row, order, len(row))
        return int(ids[self._arrays.choose(row[ids], order, len(row), ids)])

    def _look_for_tie(self, values: Row, best: int) -> None:
        if self.tie_bound:
            peak = values[best]
            values[best] = -np.inf
            self.is_tie = bool(values.max() >= peak - np.float32(self.tie_bound))
            values[best] = peak

    def close(self) -> None:
        """Free the native chain; may be called twice."""
        if self._native is not None:
            llama_cpp.llama_sampler_free(self._native)
            self._native = None


def cut_of(chain: Chain, body: Sequence[str]) -> Cut:
    """Return what can be cut from a row before the samplers of `body` see it, without a change of what they choose.

    A filter that keeps exactly the upper part of the row lets everything else be cut. Samplers that look at shares need
    all tokens with any weight, at the highest temperature at which weights are looked at.
    """
    keep = max(chain.min_keep, _MIROSTAT_TOKENS if chain.mirostat.version else 0)
    heat, light = 1.0, NEGLIGIBLE
    now, upper = 1.0, True
    for place, name in enumerate(body):
        match name:
            case "temperature":
                now *= max(chain.temperature + (chain.heat_range if not chain.mirostat.version else 0.0), 1e-3)
                heat = max(heat, now)
            case "top_k" if upper:
                return Cut(top=chain.top_k, keep=keep)
            case "top_n_sigma" if not any(earlier != "temperature" for earlier in body[:place]):
                return Cut(sigmas=chain.top_n_sigma)
            case "min_p" if upper:
                return Cut(below=-math.log(min(chain.min_p, 1.0)) * now, keep=keep)
            case "top_p" if chain.top_p <= _SURE_SHARE:
                return _share_cut(chain, body[:place], now) or Cut(heat=heat, light=light, keep=keep)
            case "top_k" | "min_p" | "top_p":
                pass
            case "typ_p" if chain.min_keep <= 1:
                light, upper = min(light, NEGLIGIBLE * max(chain.typical_p, 1e-3)), False
            case "xtc" if chain.xtc_threshold >= _XTC_LEAST:
                light, upper = min(light, NEGLIGIBLE * chain.xtc_threshold), False
            case _:
                return Cut(whole=True)
    return Cut(heat=heat, light=light, keep=keep)


def _share_cut(chain: Chain, before: Sequence[str], heat: float) -> Cut | None:
    """Return the top-p filter as a cut, None when it is not known beforehand what it will see."""
    if {"typ_p", "xtc"} & set(before) or chain.min_keep > 1:
        return None
    if chain.heat_range > 0 and "temperature" in before:
        return None
    return Cut(share=max(chain.top_p, NEGLIGIBLE), heat=heat)


def _without(body: Sequence[str], name: str) -> tuple[str, ...]:
    """Return the samplers without the first one of a name."""
    if name not in body:
        return tuple(body)
    first = body.index(name)
    return (*body[:first], *body[first + 1 :])


def _windows(chain: Chain, breakers: BreakerTable | None) -> dict[str, _Window]:
    made: dict[str, _Window] = {}
    if "penalties" in chain.order:
        made["penalties"] = PenaltyWindow(chain.penalties)
    if "dry" in chain.order:
        made["dry"] = DryWindow(chain.dry, breakers.of(chain.dry.breakers) if breakers is not None else None)
    return made


def _split(order: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the penalties that stand first, and what follows them."""
    count = 0
    while count < len(order) and order[count] in _PENALTIES:
        count += 1
    return tuple(order[:count]), tuple(order[count:])


def _is_greedy(chain: Chain, body: Sequence[str]) -> bool:
    """Tell whether the largest logit is always chosen: nothing but these can drop it or draw another."""
    if chain.temperature > 0 or "temperature" not in body:
        return False
    if chain.mirostat.version:
        return True
    return chain.heat_range <= 0 and not {"typ_p", "xtc", *_PENALTIES} & set(body)


def _is_native(chain: Chain, body: Sequence[str]) -> bool:
    """Tell whether native samplers can be given a row that was cut.

    Not when they have a memory, nor when dynamic temperature counts tokens that were cut off.
    """
    if chain.mirostat.version or any(name in _PENALTIES for name in body):
        return False
    if chain.heat_range <= 0 or "temperature" not in body:
        return True
    return any(name in _FILTERS for name in body[: body.index("temperature")])


def _is_possible(peak: float) -> bool:
    """Tell whether a row with this largest logit allows any token; raise Broken when it is no row of numbers."""
    if math.isnan(peak) or peak == math.inf:
        raise Broken("the model computed logits that are no numbers")
    return peak != -math.inf


def _native_chain(chain: Chain, body: Sequence[str], seed: int) -> Any:
    make: dict[str, Callable[[], Any]] = {
        "top_n_sigma": lambda: llama_cpp.llama_sampler_init_top_n_sigma(chain.top_n_sigma),
        "top_k": lambda: llama_cpp.llama_sampler_init_top_k(chain.top_k),
        "typ_p": lambda: llama_cpp.llama_sampler_init_typical(chain.typical_p, chain.min_keep),
        "top_p": lambda: llama_cpp.llama_sampler_init_top_p(chain.top_p, chain.min_keep),
        "min_p": lambda: llama_cpp.llama_sampler_init_min_p(chain.min_p, chain.min_keep),
        "xtc": lambda: llama_cpp.llama_sampler_init_xtc(
            chain.xtc_probability, chain.xtc_threshold, chain.min_keep, seed
        ),
        "temperature": lambda: llama_cpp.llama_sampler_init_temp_ext(
            chain.temperature, chain.heat_range, chain.heat_exponent
        ),
    }
    native = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for part in (*(make[name]() for name in body), llama_cpp.llama_sampler_init_dist(seed)):
        llama_cpp.llama_sampler_chain_add(native, part)
    return native
