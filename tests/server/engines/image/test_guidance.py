"""Guidance over a model that answers with the mean of its condition, so every result is a small sum."""

from collections.abc import Callable

import pytest
import torch

from server.core.errors import Unsupported
from server.engines.image.denoisers import Condition
from server.engines.image.guidance import Guidance, GuidanceScale, Prompts, padded

pytestmark = pytest.mark.torch

X = torch.zeros(2, 4, 2, 2)
HIGH, LOW = torch.tensor(9.0), torch.tensor(1.0)


class Model:
    """D and eps are x plus the first value of each row's condition, and that of the picture it sees.

    Remembers the conditions of its calls.
    """

    def __init__(self) -> None:
        self.calls: list[list[float]] = []
        self.levels: list[list[float]] = []
        self.tokens: list[int] = []

    def denoised(self, x: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        assert len(x) == len(sigma) == len(condition.text)
        self.calls.append(condition.text[:, 0, 0].tolist())
        self.levels.append(sigma.tolist())
        self.tokens.append(condition.text.shape[1])
        seen = 0 if condition.image is None else condition.image
        return x + condition.text[:, 0, 0].reshape(-1, 1, 1, 1) + seen

    eps = denoised

    def x0(self, x: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert len(t) == len(x)
        return eps * 100


def texts(*values: float, tokens: int = 77) -> Condition:
    return Condition(torch.tensor(values).reshape(-1, 1, 1).expand(-1, tokens, 3))


def always(prompts: Prompts) -> Callable[[int], Prompts]:
    return lambda call: prompts


PLAIN = Prompts(texts(3.0, 4.0), texts(1.0, 2.0), ((1.0,), (1.0,)))
COMPOSED = Prompts(texts(3.0, 5.0, 4.0), texts(1.0, 2.0), ((1.0, 0.5), (0.8,)))


def values(latent: torch.Tensor) -> list[float]:
    return latent[:, 0, 0, 0].tolist()


def test_plain_prompt() -> None:
    model = Model()
    guidance = Guidance(model, always(PLAIN), GuidanceScale(scale=7.0))
    assert values(guidance(X, HIGH)) == [1 + 7 * 2, 2 + 7 * 2]
    assert model.calls == [[3.0, 4.0, 1.0, 2.0]]
    assert model.levels == [[9.0] * 4]
    assert guidance.prompt_x0 is not None
    assert values(guidance.prompt_x0) == [3.0, 4.0]


def test_scale_one_still_asks_for_the_negative() -> None:
    model = Model()
    assert values(Guidance(model, always(PLAIN), GuidanceScale(scale=1.0))(X, HIGH)) == [3.0, 4.0]
    assert len(model.calls[0]) == 4


def test_composed_prompts_of_different_length() -> None:
    model = Model()
    guidance = Guidance(model, always(COMPOSED), GuidanceScale(scale=2.0))
    expected = [1 + 2 * (1.0 * 2 + 0.5 * 4), 2 + 2 * (0.8 * 2)]
    assert values(guidance(X, HIGH)) == pytest.approx(expected)
    assert model.calls == [[3.0, 5.0, 4.0, 1.0, 2.0]]
    assert guidance.prompt_x0 is not None
    assert values(guidance.prompt_x0) == [3.0, 4.0]


def test_rows_see_the_latent_of_their_picture() -> None:
    x = torch.tensor([10.0, 20.0]).reshape(2, 1, 1, 1).expand(2, 4, 2, 2)
    guidance = Guidance(Model(), always(COMPOSED), GuidanceScale(scale=2.0))
    expected = [11 + 2 * (1.0 * 2 + 0.5 * 4), 22 + 2 * (0.8 * 2)]
    assert values(guidance(x, HIGH)) == pytest.approx(expected)


def test_prompts_follow_the_number_of_the_call() -> None:
    asked: list[int] = []

    def prompts(call: int) -> Prompts:
        asked.append(call)
        return PLAIN

    guidance = Guidance(Model(), prompts, GuidanceScale(scale=7.0))
    guidance(X, HIGH)
    guidance.eps(X, 500.0)
    guidance(X, LOW)
    assert asked == [0, 1, 2]
    assert guidance.calls == 3


def test_eps_by_time() -> None:
    model = Model()
    guidance = Guidance(model, always(PLAIN), GuidanceScale(scale=7.0))
    eps = guidance.eps(X, 951.0)
    assert values(eps.guided) == [15.0, 16.0]
    assert values(eps.unconditional) == [1.0, 2.0]
    assert model.levels == [[951.0] * 4]
    assert guidance.prompt_x0 is not None
    assert values(guidance.prompt_x0) == [300.0, 400.0]


def test_low_noise_leaves_out_every_second_negative() -> None:
    model = Model()
    guidance = Guidance(model, always(COMPOSED), GuidanceScale(scale=2.0, min_uncond=2.0))
    for level in (LOW, LOW, HIGH, HIGH, LOW, LOW):
        guidance(X, level)
    assert [len(call) for call in model.calls] == [5, 3, 5, 5, 5, 3]
    # Without negative: the first member in its place, and scale 1.
    assert values(guidance(X, LOW)) == pytest.approx([9.0, 5.2])
    assert values(guidance(X, LOW)) == pytest.approx([3 + 0.5 * 2, 4.0])
    eps = guidance.eps(X, 1.0), guidance.eps(X, 1.0)
    assert values(eps[0].unconditional) == [1.0, 2.0]
    assert values(eps[1].unconditional) == [3.0, 4.0]


def test_low_noise_may_leave_out_all() -> None:
    model = Model()
    guidance = Guidance(model, always(PLAIN), GuidanceScale(scale=2.0, min_uncond=2.0, min_uncond_all=True))
    for level in (HIGH, LOW, LOW):
        guidance(X, level)
    assert [len(call) for call in model.calls] == [4, 2, 2]


@pytest.mark.parametrize(("positive", "negative"), [(154, 77), (77, 231)])
def test_different_lengths_are_two_calls(positive: int, negative: int) -> None:
    model = Model()
    prompts = Prompts(texts(3.0, 4.0, tokens=positive), texts(1.0, 2.0, tokens=negative), ((1.0,), (1.0,)))
    assert values(Guidance(model, always(prompts), GuidanceScale(scale=7.0))(X, HIGH)) == [15.0, 16.0]
    assert model.calls == [[3.0, 4.0], [1.0, 2.0]]
    assert model.tokens == [positive, negative]


def test_many_members_are_called_in_slices() -> None:
    model = Model()
    prompts = Prompts(texts(*range(5), tokens=154), texts(0.0), ((1.0,) * 5,))
    assert values(Guidance(model, always(prompts), GuidanceScale(scale=1.0))(X[:1], HIGH)) == [10.0]
    assert [len(call) for call in model.calls] == [2, 2, 1, 1]


@pytest.mark.parametrize(("positive", "negative"), [(154, 77), (77, 231)])
def test_the_shorter_is_padded_with_the_empty_prompt(positive: int, negative: int) -> None:
    model = Model()
    prompts = Prompts(texts(3.0, 4.0, tokens=positive), texts(1.0, 2.0, tokens=negative), ((1.0,), (1.0,)))
    empty = texts(9.0).text
    guidance = Guidance(model, always(prompts), GuidanceScale(scale=7.0), empty=empty)
    assert values(guidance(X, HIGH)) == [15.0, 16.0]
    assert model.tokens == [max(positive, negative)]


def test_padding_stands_behind() -> None:
    filled = padded(texts(3.0, 4.0), texts(1.0, 2.0, tokens=231), texts(9.0).text)
    assert filled.text[:, :, 0].tolist() == [[3.0] * 77 + [9.0] * 154, [4.0] * 77 + [9.0] * 154]


SEEN = torch.full((2, 1, 1, 1), 10.0)
SEEING = Prompts(
    Condition(PLAIN.positive.text, image=SEEN), Condition(PLAIN.negative.text, image=SEEN), ((1.0,), (1.0,))
)


def test_pictures_are_followed_by_a_scale_of_their_own() -> None:
    guidance = Guidance(Model(), always(SEEING), GuidanceScale(scale=7.0, picture=1.5))
    # Without picture 1 and 2, with it 11 and 12, with the prompt too 13 and 14.
    assert values(guidance(X, HIGH)) == [1 + 7 * 2 + 1.5 * 10, 2 + 7 * 2 + 1.5 * 10]
    assert values(guidance.eps(X, 9.0).unconditional) == [1.0, 2.0]
    assert guidance.prompt_x0 is not None


def test_no_negative_is_left_out_then() -> None:
    model = Model()
    guidance = Guidance(
        model, always(SEEING), GuidanceScale(scale=7.0, picture=1.5, min_uncond=5.0, min_uncond_all=True)
    )
    guidance(X, LOW)
    assert [len(call) for call in model.calls] == [4, 2]


def test_without_a_scale_pictures_are_seen_by_all() -> None:
    assert values(Guidance(Model(), always(SEEING), GuidanceScale(scale=7.0))(X, HIGH)) == [25.0, 26.0]


def test_composed_prompts_cannot_follow_a_picture() -> None:
    image = torch.zeros(3, 1, 1, 1)
    composed = Prompts(Condition(COMPOSED.positive.text, image=image), SEEING.negative, COMPOSED.weights)
    with pytest.raises(Unsupported):
        Guidance(Model(), always(composed), GuidanceScale(scale=7.0, picture=1.5))(X, HIGH)
