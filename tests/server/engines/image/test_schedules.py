"""Schedules against A1111's recordings, its check vectors and their own laws."""

from typing import Any

import pytest
import torch

from server.core.errors import InvalidValue
from server.core.image import Denoise
from server.engines.image.schedules import SCHEDULES, SigmaTable, alphas_cumprod, karras, sigmas, timesteps
from tests.support.shared import SHARED, golden, needs_shared

pytestmark = pytest.mark.torch

TABLE = SigmaTable.of(alphas_cumprod())
RECORDED: dict[str, Any] = golden("schedules.json") if SHARED.exists() else {"sigmas": [], "timesteps": []}

TEN = {
    "uniform": "14.6146 7.8399 4.6092 2.9183 1.9502 1.3449 0.9324 0.6250 0.3687 0.0292 0",
    "normal": "14.6146 7.8399 4.6092 2.9183 1.9502 1.3449 0.9324 0.6250 0.3687 0.0292 0",
    "karras": "14.6146 9.1029 5.4784 3.1686 1.7494 0.9141 0.4469 0.2014 0.0819 0.0292 0",
    "exponential": "14.6146 7.3249 3.6712 1.8400 0.9222 0.4622 0.2317 0.1161 0.0582 0.0292 0",
    "polyexponential": "14.6146 7.3249 3.6712 1.8400 0.9222 0.4622 0.2317 0.1161 0.0582 0.0292 0",
    "sgm_uniform": "14.6146 8.3072 5.0924 3.3251 2.2797 1.6156 1.1629 0.8319 0.5712 0.3437 0",
    "kl_optimal": "14.6146 4.5650 2.6329 1.7864 1.2948 0.9616 0.7116 0.5094 0.3356 0.1783 0.0292",
    "align_your_steps": "14.6150 6.1135 3.5651 2.3939 1.6500 1.1358 0.7425 0.4450 0.1692 0.0290 0",
    "simple": "14.6146 8.3028 5.0878 3.3211 2.2765 1.6129 1.1606 0.8299 0.5693 0.3417 0",
    "ddim": "8.3907 5.1344 3.3478 2.2929 1.6237 1.1682 0.8357 0.5741 0.3462 0.0413 0",
    "beta": "14.6146 13.9278 12.4910 10.5976 8.4424 6.2014 4.0462 2.1528 0.7160 0.0292 0",
}


def schedule(name: str, steps: int, **settings: Any) -> torch.Tensor:
    return sigmas(TABLE, Denoise(schedule=name, **settings), steps)


def recorded_id(scheduler: str) -> str:
    return "uniform" if scheduler == "Automatic" else scheduler.lower().replace(" ", "_")


@pytest.mark.golden
@needs_shared
@pytest.mark.parametrize("case", RECORDED["sigmas"], ids=lambda case: f"{case['scheduler']}-{case['steps']}")
def test_recorded_sigmas(case: dict[str, Any]) -> None:
    made = schedule(recorded_id(case["scheduler"]), case["steps"])
    assert made.dtype == torch.float32
    assert made.shape == (len(case["sigmas"]),)
    # Other builds of libm may round exp and tan otherwise; on the recording's own torch the numbers are equal.
    assert torch.allclose(made, torch.tensor(case["sigmas"]), rtol=5e-7, atol=0)


@pytest.mark.golden
@needs_shared
@pytest.mark.parametrize("case", RECORDED["timesteps"], ids=lambda case: str(case["steps"]))
def test_recorded_times(case: dict[str, Any]) -> None:
    assert list(timesteps(case["steps"])) == case["timesteps"]


@pytest.mark.golden
@needs_shared
def test_recorded_ends() -> None:
    assert (TABLE.lowest, TABLE.highest) == (RECORDED["sigma_min"], RECORDED["sigma_max"])


@pytest.mark.parametrize("name", TEN)
def test_ten_steps(name: str) -> None:
    assert schedule(name, 10).tolist() == pytest.approx([float(value) for value in TEN[name].split()], abs=6e-5)


def test_sdxl_has_its_own_aligned_steps() -> None:
    made = sigmas(TABLE, Denoise(schedule="align_your_steps"), 10, sdxl=True).tolist()
    expected = [14.6150, 5.9634, 3.3390, 1.8550, 1.1023, 0.6750, 0.4311, 0.2606, 0.1225, 0.0290, 0]
    assert made == pytest.approx(expected, abs=6e-5)


def test_eleven_aligned_steps_are_the_published_ones() -> None:
    made = schedule("align_your_steps", 11)
    assert made[1] == torch.tensor(6.475)
    assert len(made) == 12


def test_ddim_count_may_differ() -> None:
    made = schedule("ddim", 30)
    assert len(made) - 1 == 31
    assert float(made[0]) < TABLE.highest


def test_turbo_takes_whole_times() -> None:
    expected = TABLE.sigmas[[999, 749, 499, 249]]
    assert torch.allclose(schedule("turbo", 4)[:-1], expected, rtol=1e-6)
    assert torch.allclose(schedule("turbo", 1), torch.tensor([TABLE.highest, 0.0]))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 20, 150])
def test_every_schedule_falls(name: str, steps: int) -> None:
    made = schedule(name, steps)
    assert bool((made[1:] < made[:-1]).all())
    assert bool(made.isfinite().all())
    assert float(made[-1]) == pytest.approx(TABLE.lowest if name == "kl_optimal" else 0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_steps(name: str) -> None:
    assert schedule(name, 0).tolist() == [0.0]
    assert schedule(name, 0, discard_next_to_last=True).tolist() == [0.0]


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name not in ("ddim", "kl_optimal")])
def test_discard_drops_the_last_but_one_of_a_longer_schedule(name: str) -> None:
    longer = schedule(name, 11)
    for made in (
        schedule(name, 10, discard_next_to_last=True),
        sigmas(TABLE, Denoise(schedule=name), 10, discard_next_to_last=True),
    ):
        assert made.tolist() == [*longer[:-2].tolist(), 0.0]


def test_uniform_without_its_last_but_one_is_sgm_uniform() -> None:
    assert torch.allclose(schedule("uniform", 10, discard_next_to_last=True), schedule("sgm_uniform", 10))


@pytest.mark.parametrize("name", ["karras", "exponential", "polyexponential", "sgm_uniform", "normal", "beta"])
def test_ends_of_the_request(name: str) -> None:
    made = schedule(name, 10, sigma_min=0.1, sigma_max=10.0)
    assert float(made[0]) == pytest.approx(10.0, rel=1e-3)
    if name != "sgm_uniform":
        assert float(made[-2]) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("name", ["uniform", "align_your_steps", "simple", "ddim"])
def test_schedules_without_ends(name: str) -> None:
    assert torch.equal(schedule(name, 10, sigma_min=0.1, sigma_max=10.0), schedule(name, 10))


def test_rho() -> None:
    assert torch.equal(schedule("karras", 10, rho=5.0), karras(10, TABLE.lowest, TABLE.highest, 5.0))
    assert not torch.equal(schedule("karras", 10, rho=5.0), schedule("karras", 10))
    assert float(schedule("polyexponential", 10, rho=2.0)[1]) < float(schedule("polyexponential", 10)[1])
    assert torch.equal(schedule("exponential", 10, rho=2.0), schedule("exponential", 10))


def test_the_shape_of_a_beta_schedule() -> None:
    assert torch.equal(schedule("beta", 10, beta_alpha=0.6, beta_beta=0.6), schedule("beta", 10))
    even = schedule("beta", 10, beta_alpha=1.0, beta_beta=1.0)
    steps = even[:-2] - even[1:-1]
    assert torch.allclose(steps, steps.mean().expand_as(steps), rtol=1e-4), "Beta(1, 1) is even"
    low, high = schedule("beta", 10, beta_alpha=0.4), schedule("beta", 10, beta_alpha=1.6)
    assert (low[1:-2] < high[1:-2]).all(), "a larger alpha moves it up"
    for wrong in (0.0, 99.0, float("nan")):
        with pytest.raises(InvalidValue, match="shape of a Beta schedule"):
            schedule("beta", 10, beta_beta=wrong)


def test_consistency_table_makes_whole_schedules() -> None:
    table = SigmaTable.consistency(alphas_cumprod())
    made = sigmas(table, Denoise(schedule="uniform"), 4)
    assert table.t(made[:-1]).tolist() == [999, 679, 339, 19]


def test_unknown_schedule() -> None:
    with pytest.raises(InvalidValue, match="known are uniform"):
        schedule("Karras", 10)


@pytest.mark.parametrize("ends", [{"sigma_min": 20.0}, {"sigma_max": 0.01}, {"sigma_min": -1.0}])
def test_ends_without_a_range(ends: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match="cannot run"):
        schedule("karras", 10, **ends)


def test_more_times_than_there_are() -> None:
    assert len(timesteps(1000)) == 1000
    assert timesteps(0) == ()
    with pytest.raises(InvalidValue, match="1000"):
        timesteps(1001)
