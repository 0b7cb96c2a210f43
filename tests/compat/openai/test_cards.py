"""How models are listed, and which one answers when none is named."""

import pytest

from compat.openai.cards import default_model, entry, states
from server.core.errors import UnknownModel
from tests.support.fake_service import image_card, resident, text_card

A, B, C = text_card("a"), text_card("b"), text_card("c")
BROKEN = text_card("0", broken="the header is cut")


@pytest.mark.parametrize(
    ("wanted", "cards", "residents", "expected"),
    [
        ("b", (A, B), (), "b"),
        ("gone", (A, B), (), "gone"),
        ("", (A,), (), "a"),
        ("", (BROKEN, A), (), "a"),
        ("", (C, B), (), "b"),
        ("", (A, B), (resident(B),), "b"),
        ("", (A, B, C), (resident(B, last_used=1.0), resident(C, last_used=2.0)), "c"),
        ("", (A, B), (resident(B, "leaving"),), "a"),
        ("", (A, B), (resident(B, "loading"),), "b"),
        ("", (A, B), (resident(image_card()),), "a"),
    ],
)
def test_the_default_model(wanted, cards, residents, expected) -> None:
    assert default_model(wanted, cards, residents) == expected


def test_without_a_text_model_there_is_no_default() -> None:
    with pytest.raises(UnknownModel, match="no text model"):
        default_model("", (BROKEN,), ())


@pytest.mark.parametrize(("state", "expected"), [("ready", "loaded"), ("loading", "loading"), ("leaving", "unloaded")])
def test_the_status_of_a_model(state: str, expected: str) -> None:
    assert entry(A, states([resident(A, state)])).status.value == expected
    assert entry(B, states([resident(A, state)])).status.value == "unloaded"
