import pytest

from compat.openai.images.checkpoints import checkpoint_of
from server.core.errors import InvalidValue, UnknownModel
from tests.compat.openai.images.sent import card
from tests.support.fake_service import FakeService, resident, text_card

HOSTED = ["gpt-image-1", "gpt-image-1-mini", "gpt-image-2.5-sunburst", "dall-e-3", "dall-e-2", "chatgpt-image-latest"]


def test_a_checkpoint_by_its_names() -> None:
    service = FakeService(card("a"), card("b", aliases=("bee",)))
    assert [checkpoint_of(service, name).id for name in ("a", "b.safetensors", "bee")] == ["a", "b", "b"]


@pytest.mark.parametrize("name", [None, "", *HOSTED])
def test_no_name_and_hosted_names_mean_the_default(name: str | None) -> None:
    a, b = card("a"), card("b")
    assert checkpoint_of(FakeService(b, a, text_card("0")), name).id == "a"
    assert checkpoint_of(FakeService(a, b), name, "b").id == "b"
    loaded = (resident(a, last_used=1), resident(b, last_used=2))
    assert checkpoint_of(FakeService(a, b, residents=loaded), name).id == "b"
    assert checkpoint_of(FakeService(card("a", broken="cut off"), b), name).id == "b"


def test_an_alias_of_a_hosted_name_wins() -> None:
    assert checkpoint_of(FakeService(card("a"), card("b", aliases=("dall-e-3",))), "dall-e-3").id == "b"


def test_what_is_no_checkpoint() -> None:
    service = FakeService(card("paint"), text_card("tiny"))
    with pytest.raises(UnknownModel, match="paint") as unknown:
        checkpoint_of(service, "pain")
    assert unknown.value.fact("close") == ["paint"]
    with pytest.raises(InvalidValue, match="text model") as wrong:
        checkpoint_of(service, "tiny")
    assert wrong.value.fact("param") == "model"
    for name in (None, "gpt-image-1"):
        with pytest.raises(UnknownModel, match="no checkpoint"):
            checkpoint_of(FakeService(text_card(), card(broken="cut off")), name)
    with pytest.raises(UnknownModel):
        checkpoint_of(service, None, "gone")
