import math

import pytest

from server.core.errors import InvalidValue
from server.core.text import SamplingParams
from server.engines.text.sampling_values import Chain, resolve

SIZE = 3000


def resolved(params: SamplingParams) -> Chain:
    return resolve(params, vocabulary=SIZE, context=512, tokens_of=lambda text: range(len(text)))


def test_samplers_that_do_nothing_are_left_out() -> None:
    assert resolved(SamplingParams()).order == ("top_k", "top_p", "min_p", "temperature")
    off = SamplingParams(top_k=0, top_p=1.0, min_p=0.0, xtc_probability=1.0, xtc_threshold=0.6, dry_multiplier=1.0)
    assert resolved(off).order == ("dry", "temperature")
    every = SamplingParams(
        repeat_penalty=1.1, dry_multiplier=0.8, top_n_sigma=1.0, typical_p=0.9, xtc_probability=0.5, dry_base=0.5
    )
    assert resolved(every).order == (
        "penalties",
        "top_n_sigma",
        "top_k",
        "typ_p",
        "top_p",
        "min_p",
        "xtc",
        "temperature",
    )


def test_the_order_can_be_chosen() -> None:
    assert resolved(SamplingParams(samplers=("temperature", "min_p"))).order == ("temperature", "min_p")
    assert resolved(SamplingParams(samplers=("min_p",))).order == ("min_p",)


def test_mirostat_takes_the_place_of_the_filters() -> None:
    assert resolved(SamplingParams(mirostat=2, repeat_penalty=1.3)).order == ("temperature",)


def test_a_text_is_biased_token_by_token() -> None:
    assert resolved(SamplingParams(text_bias=(("abc", -1.0),), logit_bias=((9, 2.0),))).biases == (
        (9, 2.0),
        (0, -1.0),
        (1, -1.0),
        (2, -1.0),
    )


def test_minus_one_is_the_whole_context() -> None:
    chain = resolved(SamplingParams(repeat_last_n=-1, dry_penalty_last_n=-1))
    assert (chain.penalties.last_n, chain.dry.last_n) == (512, 512)


def test_huge_whole_numbers_are_brought_down() -> None:
    chain = resolved(SamplingParams(top_k=2**64, repeat_last_n=2**40))
    assert chain.top_k < 2**31
    assert chain.penalties.last_n == 512


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
        (SamplingParams(dry_multiplier=-1.0), "dry_multiplier"),
        (SamplingParams(dry_base=math.nan), "dry_base"),
        (SamplingParams(dry_allowed_length=-1), "dry_allowed_length"),
        (SamplingParams(dry_penalty_last_n=-2), "dry_penalty_last_n"),
        (SamplingParams(dry_sequence_breakers=("x",) * 1000), "dry_sequence_breakers"),
        (SamplingParams(xtc_probability=-0.1), "xtc_probability"),
        (SamplingParams(xtc_threshold=math.nan), "xtc_threshold"),
        (SamplingParams(top_n_sigma=math.inf), "top_n_sigma"),
        (SamplingParams(dynatemp_range=-1.0), "dynatemp_range"),
        (SamplingParams(dynatemp_exponent=math.inf), "dynatemp_exponent"),
        (SamplingParams(mirostat=3), "mirostat"),
        (SamplingParams(mirostat=-1), "mirostat"),
        (SamplingParams(mirostat_tau=math.nan), "mirostat_tau"),
        (SamplingParams(mirostat_eta=-1.0), "mirostat_eta"),
        (SamplingParams(min_keep=-1), "min_keep"),
        (SamplingParams(samplers=("magic",)), "samplers"),
        (SamplingParams(samplers=("top_k",) * 1000), "samplers"),
        (SamplingParams(text_bias=(("x", math.nan),)), "logit_bias"),
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
        resolve(params, vocabulary=SIZE, context=512, tokens_of=lambda _: (7,))
    assert caught.value.fact("param") == param
