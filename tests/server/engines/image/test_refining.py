import pytest
import torch

from server.core.image import CheckpointRef, Refiner
from server.engines.image.denoisers import Condition
from server.engines.image.guidance import Guidance, GuidanceScale, Prompts
from server.engines.image.refining import Refining, Successor, share_by_sigma, share_by_time
from server.engines.image.sigma_table import SigmaTable, alphas_cumprod

pytestmark = pytest.mark.torch

TABLE = SigmaTable.of(alphas_cumprod())
X = torch.zeros(1, 4, 2, 2)


class Constant:
    """A denoiser whose every answer is one number."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.table = TABLE

    def denoised(self, x: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        return torch.full_like(x, self.value)

    def eps(self, x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        return torch.full_like(x, self.value)

    def x0(self, x: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x


def prompts(call: int) -> Prompts:
    condition = Condition(torch.zeros(1, 77, 8))
    return Prompts(positive=condition, negative=condition, weights=((1.0,),))


def refining(at: float, *, by_calls: bool = False, calls: int = 4) -> Refining:
    guidance = Guidance(Constant(1.0), prompts, GuidanceScale(scale=1.0))
    asked = Refiner(checkpoint=CheckpointRef(name="r", path="/r"), switch_at=at, by_calls=by_calls)
    return Refining(
        asked=asked,
        guidance=guidance,
        table=TABLE,
        calls=calls,
        take_over=lambda: Successor(denoiser=Constant(2.0), prompts=prompts, empty=None),
    )


@pytest.mark.parametrize("entry", [0, 1, 250, 998, 999])
def test_the_share_behind_is_told_by_the_nearest_time(entry: int) -> None:
    assert share_by_sigma(TABLE, float(TABLE.sigmas[entry]) * 1.0001) == (999 - entry) / 1000
    assert share_by_time(entry + 0.9) == (999 - entry) / 1000


def answers(watch: Refining, entries: list[int]) -> list[float]:
    model = watch.around(watch.guidance)
    return [float(model(X, TABLE.sigmas[entry]).mean()) for entry in entries]


@pytest.mark.parametrize(
    ("at", "expected"), [(0.0, [2, 2, 2]), (0.5, [1, 1, 2]), (0.499, [1, 2, 2]), (0.999, [1, 1, 2]), (1.0, [1, 1, 1])]
)
def test_it_takes_over_once_enough_is_behind(at: float, expected: list[float]) -> None:
    watch = refining(at)
    assert answers(watch, [999, 500, 0]) == expected
    assert watch.is_done == (2 in expected)


def test_it_keeps_the_pass_even_when_noise_comes_back() -> None:
    assert answers(refining(0.5), [999, 100, 999]) == [1, 2, 2]


@pytest.mark.parametrize(("at", "expected"), [(0.0, [2, 2, 2, 2]), (0.5, [1, 1, 2, 2]), (0.51, [1, 1, 1, 2])])
def test_calls_can_count_in_place_of_noise(at: float, expected: list[float]) -> None:
    assert answers(refining(at, by_calls=True), [999, 998, 997, 996]) == expected


def test_samplers_by_time_hand_over_too() -> None:
    watch = refining(0.5)
    model = watch.around(watch.guidance)
    assert [float(model.eps(X, time).guided.mean()) for time in (951, 499)] == [1, 2]
