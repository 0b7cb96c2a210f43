"""Scales that were set while the server runs."""

import pytest

from server.core.errors import InvalidValue
from server.core.models import AdapterFacts, ModelId
from server.core.text import AdapterScale, EmbeddingRequest
from server.service.adapters import AdapterScales
from tests.support.builders import chat, completion

MODEL, OTHER = ModelId("m"), ModelId("n")
LISTED = (AdapterFacts(name="a"), AdapterFacts(name="b", scale=0.5), AdapterFacts(name="c", problem="cut"))


def scale(name: str | int, value: float) -> AdapterScale:
    return AdapterScale(adapter=name, scale=value)


def test_what_is_set_replaces_what_was_configured() -> None:
    scales = AdapterScales()
    assert scales.told(MODEL, LISTED) == LISTED
    scales.set(MODEL, [scale(0, 2.0)], LISTED)
    assert [adapter.scale for adapter in scales.told(MODEL, LISTED)] == [2.0, 0.0, 0.0]
    assert scales.told(OTHER, LISTED) == LISTED
    scales.set(MODEL, [], LISTED)
    assert [adapter.scale for adapter in scales.told(MODEL, LISTED)] == [0.0, 0.0, 0.0]


def test_work_that_names_no_adapters_is_told_those_that_were_set() -> None:
    scales = AdapterScales()
    for work in (chat("x"), completion("x")):
        assert scales.into(work, MODEL, lambda: LISTED) is work
    scales.set(MODEL, [scale("b", 2.0)], LISTED)
    for work in (chat("x"), completion("x")):
        told = scales.into(work, MODEL, lambda: LISTED)
        assert told.adapters == (scale("b", 2.0),)  # type: ignore[union-attr]
        assert scales.into(told, MODEL, lambda: LISTED) is told
        assert scales.into(work, OTHER, lambda: LISTED) is work


def test_other_work_is_left_alone() -> None:
    scales = AdapterScales()
    scales.set(MODEL, [scale("b", 2.0)], LISTED)
    work = EmbeddingRequest(model="m", inputs=("x",))
    assert scales.into(work, MODEL, lambda: LISTED) is work


def test_an_adapter_that_has_gone_since_is_not_named() -> None:
    scales = AdapterScales()
    scales.set(MODEL, [scale("a", 1.0), scale("b", 2.0)], LISTED)
    told = scales.into(chat("x"), MODEL, lambda: LISTED[1:])
    assert told.adapters == (scale("b", 2.0),)  # type: ignore[union-attr]


@pytest.mark.parametrize("wrong", [scale(3, 1.0), scale("x", 1.0), scale("c", 1.0)])
def test_what_cannot_be_set_changes_nothing(wrong: AdapterScale) -> None:
    scales = AdapterScales()
    with pytest.raises(InvalidValue):
        scales.set(MODEL, [scale("a", 1.0), wrong], LISTED)
    assert scales.told(MODEL, LISTED) == LISTED
