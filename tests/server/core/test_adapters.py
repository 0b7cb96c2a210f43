"""Which adapters act: by number and name, and what is refused."""

from math import inf, nan

import pytest

from server.core.adapters import chosen_set
from server.core.errors import InvalidValue
from server.core.models import AdapterFacts
from server.core.text import AdapterScale

LISTED = (
    AdapterFacts(name="Loud"),
    AdapterFacts(name="soft", scale=0.5),
    AdapterFacts(name="lost", scale=1.0, problem="its file is not there"),
    AdapterFacts(name="SOFT", scale=-1.0),
)


def scales(*named: tuple[int | str, float]) -> tuple[AdapterScale, ...]:
    return tuple(AdapterScale(adapter=name, scale=scale, param="p") for name, scale in named)


def test_without_a_wish_those_with_a_scale_act_that_can() -> None:
    assert chosen_set(None, LISTED) == ((1, 0.5), (3, -1.0))
    assert chosen_set(None, ()) == ()


def test_a_wish_replaces_all_scales_and_is_put_in_order() -> None:
    assert chosen_set(scales((3, 1.0), (0, 2.0)), LISTED) == ((0, 2.0), (3, 1.0))
    assert chosen_set(scales((0, 2.0)), LISTED) == ((0, 2.0),)
    assert chosen_set((), LISTED) == ()


def test_a_scale_of_0_is_the_same_as_not_to_be_named() -> None:
    assert chosen_set(scales((0, 0.0), (1, 0.0)), LISTED) == chosen_set((), LISTED)
    assert chosen_set(scales(("lost", 0.0)), LISTED) == ()


def test_the_last_of_two_scales_for_one_adapter_holds() -> None:
    assert chosen_set(scales((0, 1.0), ("Loud", 3.0)), LISTED) == ((0, 3.0),)


def test_names_are_found_exactly_then_in_any_case() -> None:
    assert chosen_set(scales(("soft", 1.0)), LISTED) == ((1, 1.0),)
    assert chosen_set(scales(("SOFT", 1.0)), LISTED) == ((3, 1.0),)
    assert chosen_set(scales(("LOUD", 1.0)), LISTED) == ((0, 1.0),)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("Soft", 1.0), "more than one"),
        (("x" * 1000, 1.0), "no adapter named"),
        ((4, 1.0), "no adapter 4"),
        ((-1, 1.0), "no adapter -1"),
        (("lost", 1.0), "its file is not there"),
        ((0, nan), "finite"),
        ((0, inf), "finite"),
    ],
)
def test_what_is_refused(asked: tuple[int | str, float], words: str) -> None:
    with pytest.raises(InvalidValue, match=words) as caught:
        chosen_set(scales(asked), LISTED)
    assert caught.value.fact("param") == "p"
    assert len(caught.value.message) < 400


def test_a_model_without_adapters_says_so() -> None:
    with pytest.raises(InvalidValue, match="no adapters"):
        chosen_set(scales((0, 1.0)), ())
