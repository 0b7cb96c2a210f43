import pytest
import torch

from server.engines.image import encodings
from server.engines.image.encodings import Encodings, Posterior

pytestmark = pytest.mark.torch


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, picture: torch.Tensor) -> Posterior:
        self.calls += 1
        return picture * 2, picture + 1


def picture(value: float, *shape: int) -> torch.Tensor:
    return torch.full(shape or (3, 8, 8), value)


def test_the_same_content_is_encoded_once() -> None:
    kept, encode = Encodings(), Counting()
    first = kept.of(picture(0.5), "", encode)
    again = kept.of(picture(0.5), "", encode)
    assert encode.calls == 1
    assert torch.equal(first[0], again[0])
    assert torch.equal(again[0], picture(1.0))


@pytest.mark.parametrize("other", [(picture(0.5, 3, 4, 16), ""), (picture(0.25), ""), (picture(0.5), "wrapped")])
def test_another_content_shape_or_state_is_encoded_anew(other: tuple[torch.Tensor, str]) -> None:
    kept, encode = Encodings(), Counting()
    kept.of(picture(0.5), "", encode)
    kept.of(*other, encode)
    assert encode.calls == 2


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "MOST_KEPT", 2)
    kept, encode = Encodings(), Counting()
    for value in (1.0, 2.0, 1.0, 3.0, 1.0):
        kept.of(picture(value), "", encode)
    assert encode.calls == 3
    kept.of(picture(2.0), "", encode)
    assert encode.calls == 4


def test_one_large_picture_is_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "MOST_VALUES", 100)
    kept, encode = Encodings(), Counting()
    for value in (1.0, 1.0, 2.0, 1.0):
        kept.of(picture(value), "", encode)
    assert encode.calls == 3
