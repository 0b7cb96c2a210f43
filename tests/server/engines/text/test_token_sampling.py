import ctypes
import math
from typing import Any

import numpy as np
import pytest

from server.core.errors import Broken
from server.core.text import SamplingParams

llama_cpp = pytest.importorskip("llama_cpp")

from server.engines.text.array_sampling import ArrayChain  # noqa: E402
from server.engines.text.candidates import NEGLIGIBLE, Cut, Ids, Row, shortlist, survey  # noqa: E402
from server.engines.text.sampling_values import Chain, resolve  # noqa: E402
from server.engines.text.token_sampling import (  # noqa: E402
    NOTHING_ALLOWED,
    Candidates,
    TokenSampler,
    cut_of,
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


PEAKED = np.concatenate([np.linspace(20, 9, 25), np.zeros(SIZE - 25)]).astype(np.float32)
PARTS = {
    "top_n_sigma": lambda chain: llama_cpp.llama_sampler_init_top_n_sigma(chain.top_n_sigma),
    "top_k": lambda chain: llama_cpp.llama_sampler_init_top_k(chain.top_k),
    "typ_p": lambda chain: llama_cpp.llama_sampler_init_typical(chain.typical_p, chain.min_keep),
    "top_p": lambda chain: llama_cpp.llama_sampler_init_top_p(chain.top_p, chain.min_keep),
    "min_p": lambda chain: llama_cpp.llama_sampler_init_min_p(chain.min_p, chain.min_keep),
    "xtc": lambda chain: llama_cpp.llama_sampler_init_xtc(
        chain.xtc_probability, chain.xtc_threshold, chain.min_keep, 3
    ),
    "temperature": lambda chain: llama_cpp.llama_sampler_init_temp_ext(
        chain.temperature, chain.heat_range, chain.heat_exponent
    ),
    "penalties": lambda chain: llama_cpp.llama_sampler_init_penalties(
        SIZE, chain.penalties.last_n, chain.penalties.repeat, chain.penalties.frequency, chain.penalties.presence
    ),
}
OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
CHAINS = {
    "nothing": SamplingParams(**OFF, temperature=1.0),
    "hot": SamplingParams(**OFF, temperature=2.0),
    "top_k": SamplingParams(**(OFF | {"top_k": 300})),
    "top_p": SamplingParams(**(OFF | {"top_p": 0.9}), temperature=1.0),
    "top_p, then hot": SamplingParams(**(OFF | {"top_p": 0.9}), temperature=3.0),
    "min_p": SamplingParams(**(OFF | {"min_p": 0.1}), temperature=1.5),
    "typical": SamplingParams(**OFF, typical_p=0.7, temperature=0.6),
    "typical, then hot": SamplingParams(**OFF, typical_p=0.7, temperature=2.0),
    "sigma": SamplingParams(**OFF, top_n_sigma=1.5, temperature=1.5),
    "xtc": SamplingParams(**OFF, xtc_probability=1.0, xtc_threshold=0.01),
    "dynamic": SamplingParams(**OFF, dynatemp_range=0.5, dynatemp_exponent=1.3),
    "dynamic after top_p": SamplingParams(**(OFF | {"top_p": 0.8}), dynatemp_range=0.5),
    "all": SamplingParams(
        top_k=200, top_p=0.9, min_p=0.02, typical_p=0.95, xtc_probability=1.0, xtc_threshold=0.02, top_n_sigma=3.0
    ),
    "kept": SamplingParams(**(OFF | {"top_p": 0.1, "min_p": 0.9}), min_keep=7, temperature=1.0),
    "typical kept": SamplingParams(**OFF, typical_p=0.05, min_keep=9),
    "temperature first": SamplingParams(top_p=0.8, temperature=1.7, samplers=("temperature", "top_p", "min_p")),
    "hot, then min_p": SamplingParams(temperature=1.7, samplers=("temperature", "min_p")),
    "cold, then min_p": SamplingParams(temperature=0.3, samplers=("temperature", "min_p")),
    "without temperature": SamplingParams(temperature=0.0, samplers=("top_k",)),
    "greedy after typical": SamplingParams(**OFF, typical_p=0.5, temperature=0.0),
    "late penalties": SamplingParams(repeat_penalty=1.5, presence_penalty=0.5, samplers=("top_k", "penalties")),
    "penalties after temperature": SamplingParams(
        repeat_penalty=1.5, samplers=("temperature", "penalties", "top_p"), temperature=1.2
    ),
}
ROWS = {"rough": row(5), "peaked": PEAKED, "flat": row(6) / 40}
USED = (7, 11, 11, 2000)


def chain_of(params: SamplingParams) -> Chain:
    return resolve(params, vocabulary=SIZE, context=512)


def native_probabilities(chain: Chain, logits: Row) -> np.ndarray:
    """Return what llama.cpp's own chain over the whole vocabulary gives each token."""
    native = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for name in chain.order:
        llama_cpp.llama_sampler_chain_add(native, PARTS[name](chain))
    llama_cpp.llama_sampler_chain_add(native, llama_cpp.llama_sampler_init_dist(1))
    for token in USED:
        llama_cpp.llama_sampler_accept(native, token)
    data = (llama_cpp.llama_token_data * SIZE)(
        *[llama_cpp.llama_token_data(i, float(logit), 0.0) for i, logit in enumerate(logits)]
    )
    array = llama_cpp.llama_token_data_array(data=data, size=SIZE, selected=-1, sorted=False)
    llama_cpp.llama_sampler_apply(native, ctypes.byref(array))
    found = np.zeros(SIZE)
    for i in range(array.size):
        found[array.data[i].id] = array.data[i].p
    llama_cpp.llama_sampler_free(native)
    return found


def drawn(made: TokenSampler, logits: Row, count: int) -> np.ndarray:
    found = np.zeros(len(logits))
    for _ in range(count):
        found[made.choose(logits.copy())] += 1 / count
    return found


@pytest.mark.parametrize("row_name", ROWS)
@pytest.mark.parametrize("name", CHAINS)
def test_arrays_give_every_token_the_probability_of_the_native_chain(name: str, row_name: str) -> None:
    chain = chain_of(CHAINS[name])
    made = sampler(CHAINS[name])
    made.accept(USED)
    touches = {key: window.apply for key, window in made._windows.items()}
    ours = ArrayChain(chain, 1, touches).probabilities(ROWS[row_name].copy(), chain.order, SIZE)
    made.close()
    native = native_probabilities(chain, ROWS[row_name])
    assert abs(ours.sum() - 1) < 1e-6
    # A token at the edge of a share may fall to either side by rounding.
    assert np.abs(ours - native).sum() < 3e-3


@pytest.mark.parametrize("row_name", ROWS)
@pytest.mark.parametrize("name", CHAINS)
def test_what_is_drawn_has_the_distribution_of_the_native_chain(name: str, row_name: str) -> None:
    made = sampler(CHAINS[name])
    made.accept(USED)
    native = native_probabilities(chain_of(CHAINS[name]), ROWS[row_name])
    found = drawn(made, ROWS[row_name], 400)
    made.close()
    impossible = (found > 0) & (native == 0)
    assert found[impossible].sum() <= 0.005
    # Kolmogorov-Smirnov over the ids: 1.95 / sqrt(n) is exceeded once in a thousand tables; seeds are fixed.
    assert np.abs(np.cumsum(found) - np.cumsum(native)).max() < 1.95 / math.sqrt(400)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("row_name", ["rough", "peaked"])
def test_mirostat_draws_with_the_surprise_of_the_native_one(version: int, row_name: str) -> None:
    logits = ROWS[row_name]
    make = {
        1: lambda: llama_cpp.llama_sampler_init_mirostat(SIZE, 7, 3.0, 0.2, 100),
        2: lambda: llama_cpp.llama_sampler_init_mirostat_v2(7, 3.0, 0.2),
    }[version]
    native = native_draws([llama_cpp.llama_sampler_init_temp(0.9), make()], logits, 600)
    ours = draws(
        SamplingParams(mirostat=version, mirostat_tau=3.0, mirostat_eta=0.2, temperature=0.9), logits, 600, seed=7
    )
    weights = np.exp((logits - logits.max()).astype(np.float64) / 0.9)
    surprise = -np.log2(weights / weights.sum())
    assert abs(surprise[ours].mean() - surprise[native].mean()) < 0.25
    assert max(surprise[ours]) <= max(surprise[native]) + 1.0


@pytest.mark.parametrize("name", [name for name in CHAINS if CHAINS[name].samplers == ()])
@pytest.mark.parametrize("row_name", ROWS)
def test_what_the_cut_leaves_out_is_never_missed(name: str, row_name: str) -> None:
    chain, logits = chain_of(CHAINS[name]), ROWS[row_name]
    cut = cut_of(chain, chain.order)
    ids = shortlist(survey(logits), cut)
    if ids is not None:
        missed = native_probabilities(chain, logits)
        missed[ids] = 0
        assert missed.sum() <= 10 * NEGLIGIBLE


@pytest.mark.parametrize(
    ("params", "cut"),
    [
        (SamplingParams(), Cut(top=40)),
        (SamplingParams(top_k=0), Cut(share=0.95)),
        (SamplingParams(top_k=0, top_p=1.0), Cut(below=-math.log(0.05))),
        (SamplingParams(**OFF, temperature=2.0), Cut(heat=2.0)),
        (SamplingParams(**(OFF | {"top_p": 0.9}), temperature=2.0), Cut(share=0.9)),
        (SamplingParams(top_p=0.9, temperature=2.0, samplers=("temperature", "top_p")), Cut(share=0.9, heat=2.0)),
        (SamplingParams(**(OFF | {"top_p": 0.9}), min_keep=2), Cut(keep=2)),
        (SamplingParams(top_p=0.9, dynatemp_range=0.5, samplers=("temperature", "top_p")), Cut(heat=1.3)),
        (SamplingParams(**(OFF | {"top_p": 0.9}), typical_p=0.5), Cut(light=NEGLIGIBLE * 0.5)),
        (SamplingParams(**(OFF | {"top_p": 0.9999999}), temperature=2.0), Cut(heat=2.0)),
        (SamplingParams(**OFF, temperature=1.0, dynatemp_range=0.5), Cut(heat=1.5)),
        (SamplingParams(**OFF, xtc_probability=0.5), Cut(light=NEGLIGIBLE * 0.1)),
        (SamplingParams(**OFF, xtc_probability=0.5, xtc_threshold=0.0), Cut(whole=True)),
        (SamplingParams(**OFF, typical_p=0.9, min_keep=5), Cut(whole=True)),
        (SamplingParams(**(OFF | {"min_p": 0.5}), min_keep=5), Cut(below=math.log(2), keep=5)),
        (SamplingParams(top_n_sigma=1.0), Cut(sigmas=1.0)),
        (SamplingParams(mirostat=1), Cut(keep=128)),
        (SamplingParams(repeat_penalty=1.1, samplers=("temperature", "penalties")), Cut(whole=True)),
        (SamplingParams(repeat_penalty=1.1, samplers=("top_k", "penalties")), Cut(top=40)),
    ],
)
def test_how_far_a_row_may_be_cut(params: SamplingParams, cut: Cut) -> None:
    chain = chain_of(params)
    assert cut_of(chain, chain.order) == cut


class Only:
    """A mask that allows some tokens, and tells them one way or the other."""

    def __init__(self, ids: list[int], *, listed: bool) -> None:
        self._ids, self._listed = ids, listed
        self.asked = 0

    def restrict(self, row: Row) -> Ids | None:
        self.asked += 1
        if self._listed:
            return np.array(self._ids)
        kept = row[self._ids].copy()
        row[:] = -np.inf
        row[self._ids] = kept
        return None

    def allows(self, token: int) -> bool:
        return token in self._ids


@pytest.mark.parametrize("listed", [True, False])
def test_a_mask_is_obeyed_by_greedy_and_drawn_choices(listed: bool) -> None:
    logits = row(9)
    order = np.argsort(-logits)
    few, many = sorted(int(i) for i in order[5:25]), sorted(int(i) for i in order[3:2900])
    for ids in (few, many):
        for params in (SamplingParams(temperature=0), SamplingParams(**OFF, temperature=3.0), SamplingParams()):
            made = sampler(params)
            made.mask = Only(ids, listed=listed)
            drawn = {made.choose(logits.copy()) for _ in range(40)}
            assert drawn <= set(ids)
            if params.temperature == 0:
                assert drawn == {ids[int(logits[ids].argmax())]}
            made.close()


def test_where_the_largest_is_allowed_a_greedy_choice_asks_for_nothing_else() -> None:
    logits = row(9)
    best = int(logits.argmax())
    made = sampler(SamplingParams(temperature=0))
    made.mask = mask = Only([1, best, 2500], listed=True)
    assert made.choose(logits.copy()) == best
    assert mask.asked == 0


def test_late_penalties_know_the_tokens_of_a_cut_row() -> None:
    logits = row(8)
    best = int(logits.argmax())
    made = sampler(
        SamplingParams(temperature=0, presence_penalty=1000.0, samplers=("top_k", "penalties", "temperature"))
    )
    made.accept((best,))
    assert made.choose(logits.copy()) == int(np.argsort(logits)[-2])


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


def test_huge_whole_numbers_do_not_overflow_in_native_code() -> None:
    assert len(draws(SamplingParams(top_k=2**64), row(), 3)) == 3


@pytest.mark.parametrize(
    ("second", "bound", "tie"),
    [(4.9, 0.2, True), (4.7, 0.2, False), (5.0, 0.2, True), (4.9, 0.0, False), (5.0, 0.0, False)],
)
def test_a_greedy_choice_tells_whether_another_token_came_close(second: float, bound: float, tie: bool) -> None:
    logits = np.zeros(SIZE, np.float32)
    logits[7], logits[9] = 5.0, second
    greedy = sampler(SamplingParams(temperature=0))
    greedy.tie_bound = bound
    kept = logits.copy()
    assert greedy.choose(logits) == 7
    assert greedy.is_tie == tie
    assert np.array_equal(logits, kept), "the row is as it was"
    clear = np.zeros(SIZE, np.float32)
    clear[3] = 9.0
    assert greedy.choose(clear) == 3
    assert not greedy.is_tie, "each choice tells of itself"


def test_penalties_and_bias_count_before_a_choice_is_called_close() -> None:
    logits = np.zeros(SIZE, np.float32)
    logits[7], logits[9] = 5.0, 4.95
    greedy = sampler(SamplingParams(temperature=0, logit_bias=((9, -1.0),)))
    greedy.tie_bound = 0.2
    assert greedy.choose(logits.copy()) == 7
    assert not greedy.is_tie
