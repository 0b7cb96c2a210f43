import ctypes
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from server.core.errors import Broken, InvalidValue
from server.core.text import SamplingParams

llama_cpp = pytest.importorskip("llama_cpp")

from server.engines.text.candidates import Row  # noqa: E402
from server.engines.text.token_sampling import (  # noqa: E402
    NOTHING_ALLOWED,
    Candidates,
    PenaltyWindow,
    TokenSampler,
    resolve,
)

pytestmark = pytest.mark.llama

SIZE = 3000


def sampler(
    params: SamplingParams, *, seed: int = 1, size: int = SIZE, forbidden: tuple[int, ...] = ()
) -> TokenSampler:
    return TokenSampler(resolve(params, vocabulary=size, context=512), seed, Candidates(size), forbidden)


def row(seed: int = 1, size: int = SIZE) -> Row:
    return np.random.default_rng(seed).normal(0, 4, size).astype(np.float32)


def draws(params: SamplingParams, logits: Row, count: int, seed: int = 1) -> list[int]:
    made = sampler(params, seed=seed, size=len(logits))
    try:
        return [made.choose(logits.copy()) for _ in range(count)]
    finally:
        made.close()
        made.close()


def native_draws(parts: list[Any], logits: Row, count: int) -> list[int]:
    """Draw with llama.cpp's own chain over the whole vocabulary."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for part in parts:
        llama_cpp.llama_sampler_chain_add(chain, part)
    whole = (llama_cpp.llama_token_data * len(logits))(
        *[llama_cpp.llama_token_data(i, float(logit), 0.0) for i, logit in enumerate(logits)]
    )
    chosen = []
    for _ in range(count):
        data = type(whole).from_buffer_copy(whole)
        array = llama_cpp.llama_token_data_array(data=data, size=len(logits), selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(chain, ctypes.byref(array))
        chosen.append(int(array.data[array.selected].id))
        llama_cpp.llama_sampler_accept(chain, chosen[-1])
    llama_cpp.llama_sampler_free(chain)
    return chosen


@pytest.mark.parametrize("seed", [0, 1, 77])
def test_the_defaults_draw_what_llama_cpp_draws(seed: int) -> None:
    logits = row(seed)
    parts = [
        llama_cpp.llama_sampler_init_top_k(40),
        llama_cpp.llama_sampler_init_typical(1.0, 0),
        llama_cpp.llama_sampler_init_top_p(0.95, 0),
        llama_cpp.llama_sampler_init_min_p(0.05, 0),
        llama_cpp.llama_sampler_init_temp_ext(0.8, 0.0, 1.0),
        llama_cpp.llama_sampler_init_dist(seed),
    ]
    assert draws(SamplingParams(), logits, 50, seed) == native_draws(parts, logits, 50)


def test_penalties_and_bias_draw_what_llama_cpp_draws() -> None:
    logits = row(4)
    best = [int(i) for i in np.argsort(logits)[::-1][:30]]
    params = SamplingParams(
        repeat_penalty=1.3,
        frequency_penalty=0.4,
        presence_penalty=0.2,
        repeat_last_n=8,
        logit_bias=((best[5], 3.0), (best[0], -math.inf)),
    )
    bias = (llama_cpp.llama_logit_bias * 2)(
        llama_cpp.llama_logit_bias(best[5], 3.0), llama_cpp.llama_logit_bias(best[0], -math.inf)
    )
    parts = [
        llama_cpp.llama_sampler_init_logit_bias(SIZE, 2, bias),
        llama_cpp.llama_sampler_init_penalties(SIZE, 8, 1.3, 0.4, 0.2),
        llama_cpp.llama_sampler_init_top_k(40),
        llama_cpp.llama_sampler_init_top_p(0.95, 0),
        llama_cpp.llama_sampler_init_min_p(0.05, 0),
        llama_cpp.llama_sampler_init_temp_ext(0.8, 0.0, 1.0),
        llama_cpp.llama_sampler_init_dist(9),
    ]
    made = sampler(params, seed=9)
    ours = []
    for _ in range(60):
        ours.append(made.choose(logits.copy()))
        made.accept((ours[-1],))
    made.close()
    assert ours == native_draws(parts, logits, 60)
    assert best[0] not in ours


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(top_k=0, top_p=0.9, min_p=0.0, temperature=1.0),
        SamplingParams(top_k=0, top_p=1.0, min_p=0.1, temperature=1.5),
        SamplingParams(top_k=0, top_p=1.0, min_p=0.0, typical_p=0.7, temperature=0.6),
    ],
)
def test_other_filters_keep_the_distribution(params: SamplingParams) -> None:
    """Ours draws from the shortened array, the native chain from all of it: frequencies must agree."""
    logits = row(5)
    parts = []
    if params.typical_p is not None:
        parts.append(llama_cpp.llama_sampler_init_typical(params.typical_p, 0))
    if params.top_p is not None and params.top_p < 1:
        parts.append(llama_cpp.llama_sampler_init_top_p(params.top_p, 0))
    if params.min_p:
        parts.append(llama_cpp.llama_sampler_init_min_p(params.min_p, 0))
    parts += [
        llama_cpp.llama_sampler_init_temp_ext(params.temperature, 0.0, 1.0),
        llama_cpp.llama_sampler_init_dist(3),
    ]
    ours, native = Counter(draws(params, logits, 400, 3)), Counter(native_draws(parts, logits, 400))
    assert sum(abs(ours[token] - native[token]) for token in ours | native) <= 8


def test_greedy_takes_the_largest_after_bias_and_penalties() -> None:
    logits = row(6)
    first, second = (int(i) for i in np.argsort(logits)[::-1][:2])
    assert draws(SamplingParams(temperature=0), logits, 1) == [first]
    assert draws(SamplingParams(temperature=0, logit_bias=((first, -math.inf),)), logits, 1) == [second]
    made = sampler(SamplingParams(temperature=0, presence_penalty=100.0))
    made.accept((first,))
    assert made.choose(logits.copy()) == second


def test_equal_seeds_draw_equally_and_others_differ() -> None:
    logits = np.zeros(SIZE, np.float32)
    params = SamplingParams(top_k=0, top_p=1, min_p=0, temperature=1)
    assert draws(params, logits, 20, 5) == draws(params, logits, 20, 5)
    assert draws(params, logits, 20, 5) != draws(params, logits, 20, 6)


def test_forbidden_tokens_are_never_chosen() -> None:
    logits = np.zeros(4, np.float32)
    made = sampler(SamplingParams(temperature=5.0, top_k=0, min_p=0, top_p=1), size=4, forbidden=(0, 2))
    assert {made.choose(logits.copy()) for _ in range(100)} == {1, 3}
    made.close()


def test_when_everything_is_forbidden_nothing_is_chosen() -> None:
    for temperature in (0.0, 1.0):
        params = SamplingParams(temperature=temperature, logit_bias=tuple((i, -math.inf) for i in range(5)))
        made = sampler(params, size=5)
        assert made.choose(np.ones(5, np.float32)) == NOTHING_ALLOWED
        made.close()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_that_computes_no_numbers_is_an_error(value: float) -> None:
    logits = row()
    logits[7] = value
    for temperature in (0.0, 1.0):
        made = sampler(SamplingParams(temperature=temperature))
        with pytest.raises(Broken):
            made.choose(logits.copy())
        made.close()


def test_the_penalty_window_forgets() -> None:
    chain = resolve(SamplingParams(frequency_penalty=1.0, repeat_last_n=3), vocabulary=10, context=512)
    window = PenaltyWindow(chain)
    window.extend(np.array([9, 9, 9, 9, 1, 1, 2], np.int32))
    logits = np.zeros(10, np.float32)
    window.apply(logits)
    assert logits.tolist() == [0, -2, -1, 0, 0, 0, 0, 0, 0, 0]
    window.extend((3,))
    logits[:] = 0
    window.apply(logits)
    assert logits.tolist() == [0, -1, -1, -1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        (SamplingParams(temperature=-0.1), "temperature"),
        (SamplingParams(temperature=math.nan), "temperature"),
        (SamplingParams(temperature=math.inf), "temperature"),
        (SamplingParams(top_k=-2), "top_k"),
        (SamplingParams(top_p=-0.5), "top_p"),
        (SamplingParams(min_p=math.nan), "min_p"),
        (SamplingParams(typical_p=-1.0), "typical_p"),
        (SamplingParams(repeat_penalty=0.0), "repeat_penalty"),
        (SamplingParams(frequency_penalty=math.inf), "frequency_penalty"),
        (SamplingParams(presence_penalty=math.nan), "presence_penalty"),
        (SamplingParams(repeat_last_n=-2), "repeat_last_n"),
        (SamplingParams(max_tokens=-1), "max_tokens"),
        (SamplingParams(seed=-1), "seed"),
        (SamplingParams(seed=2**32), "seed"),
        (SamplingParams(logit_bias=((SIZE, 1.0),)), "logit_bias"),
        (SamplingParams(logit_bias=((-1, 1.0),)), "logit_bias"),
        (SamplingParams(logit_bias=((1, math.nan),)), "logit_bias"),
        (SamplingParams(logit_bias=((1, math.inf),)), "logit_bias"),
    ],
)
def test_values_out_of_range_are_refused(params: SamplingParams, param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        resolve(params, vocabulary=SIZE, context=512)
    assert caught.value.fact("param") == param


def test_huge_whole_numbers_do_not_overflow_in_native_code() -> None:
    chain = resolve(SamplingParams(top_k=2**64, repeat_last_n=2**40), vocabulary=SIZE, context=512)
    assert chain.filters.top_k < 2**31
    assert chain.repeat_last_n == 512
    assert len(draws(SamplingParams(top_k=2**64), row(), 3)) == 3
