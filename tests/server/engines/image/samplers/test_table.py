"""What holds for every sampler of the table."""

from itertools import pairwise

import pytest
import torch

from server.core.image import Denoise
from server.engines.image.guidance import Eps
from server.engines.image.samplers import SAMPLERS, SamplerRun
from server.engines.image.schedules import SCHEDULES, sigmas, timesteps
from tests.support.gaussian import ALPHAS, DEVIATION, MEAN, TABLE, noise, run_of, start
from tests.support.shared import golden, needs_shared

pytestmark = pytest.mark.torch

SIDE = 48
# The name in the recordings of each id; the door owns the names, so they stand here by themselves.
NAMES = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "lms": "LMS",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2_a": "DPM2 a",
    "dpmpp_2s_a": "DPM++ 2S a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "restart": "Restart",
    "lcm": "LCM",
    "ddim": "DDIM",
    "ddim_cfgpp": "DDIM CFG++",
    "plms": "PLMS",
    "unipc": "UniPC",
}


def a_run(sampler: str, steps: int, side: int = 8) -> SamplerRun:
    info = SAMPLERS[sampler]
    schedule = Denoise(schedule=info.default_schedule or "uniform")
    return SamplerRun(
        noise=noise(side=side),
        sigmas=sigmas(TABLE, schedule, steps, discard_next_to_last=info.discard_next_to_last),
        sigma_range=(TABLE.lowest, TABLE.highest),
        alphas_cumprod=ALPHAS,
        timesteps=timesteps(steps),
    )


def a_start(sampler: str, run: SamplerRun, side: int = 8) -> torch.Tensor:
    unit = torch.randn((1, 4, side, side), dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return unit if SAMPLERS[sampler].kind == "timestep" else unit * run.sigmas[0]


@pytest.mark.golden
@needs_shared
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_facts_equal_the_recorded_ones(sampler: str) -> None:
    recorded = golden("schedules.json")["samplers"]
    assert set(NAMES.values()) == set(recorded)
    options, info = recorded[NAMES[sampler]]["options"], SAMPLERS[sampler]
    assert info.default_schedule == options.get("scheduler")
    assert info.second_order == ("second_order" in options)
    assert info.uses_brownian == ("brownian_noise" in options)
    assert info.discard_next_to_last == ("discard_next_to_last_sigma" in options)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_default_schedules_exist(sampler: str) -> None:
    assert SAMPLERS[sampler].default_schedule in (None, *SCHEDULES)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "lcm"])
def test_samples_are_distributed_like_the_data(sampler: str) -> None:
    run = a_run(sampler, 80, SIDE)
    end, steps, _ = run_of(sampler, a_start(sampler, run, SIDE), run)
    assert abs(float(end.mean()) - MEAN) < 0.05
    assert abs(float(end.std()) / DEVIATION - 1) < 0.08
    assert [step.index for step in steps] == list(range(len(steps)))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_steps_report_what_the_model_saw(sampler: str) -> None:
    run = a_run(sampler, 12)
    end, steps, _ = run_of(sampler, a_start(sampler, run), run)
    assert torch.equal(steps[-1].x, end)
    levels = [step.sigma for step in steps]
    assert all(later <= earlier for earlier, later in pairwise(levels))
    assert all(step.denoised.shape == end.shape for step in steps)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_seed_same_latent(sampler: str) -> None:
    first, second = (run_of(sampler, start(5.0), a_run(sampler, 8))[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_other_noise_other_latent_exactly_where_noise_is_used(sampler: str) -> None:
    is_noisy = sampler == "lcm" or (SAMPLERS[sampler].takes_eta and SAMPLERS[sampler].default_eta > 0)
    run = a_run(sampler, 8)
    other = SamplerRun(
        noise=noise(seed=4),
        sigmas=run.sigmas,
        sigma_range=run.sigma_range,
        alphas_cumprod=run.alphas_cumprod,
        timesteps=run.timesteps,
    )
    ends = [run_of(sampler, start(5.0), each)[0] for each in (run, other)]
    assert torch.equal(*ends) != is_noisy


@pytest.mark.parametrize("sampler", [name for name, info in SAMPLERS.items() if info.takes_eta])
def test_eta_changes_the_result(sampler: str) -> None:
    run = a_run(sampler, 8)
    settings = {name: getattr(run, name) for name in ("sigmas", "sigma_range", "alphas_cumprod", "timesteps")}
    ends = {eta: run_of(sampler, start(5.0), SamplerRun(noise=noise(), eta=eta, **settings))[0] for eta in (0.0, 0.5)}
    plain, _, _ = run_of(sampler, start(5.0), SamplerRun(noise=noise(), **settings))
    default = run_of(sampler, start(5.0), SamplerRun(noise=noise(), eta=SAMPLERS[sampler].default_eta, **settings))[0]
    assert not torch.equal(ends[0.0], ends[0.5])
    assert torch.equal(plain, default)


@pytest.mark.parametrize(
    "sampler", [name for name, info in SAMPLERS.items() if info.second_order and name != "restart"]
)
def test_second_order_samplers_ask_twice_but_in_the_last_step(sampler: str) -> None:
    _, steps, calls = run_of(sampler, start(5.0), a_run(sampler, 8))
    assert len(steps) == 8
    assert len(calls) == 15


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "unipc"])
def test_nothing_to_do(sampler: str) -> None:
    x = start()
    end, steps, calls = run_of(sampler, x, SamplerRun(noise=noise(), alphas_cumprod=ALPHAS))
    assert torch.equal(end, x)
    assert steps == []
    assert calls == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_closing_ends_the_run(sampler: str) -> None:
    run = a_run(sampler, 8)
    calls: list[float] = []

    class Counted:
        def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            calls.append(float(sigma))
            return x * 0

        def eps(self, x: torch.Tensor, t: float) -> Eps:
            calls.append(t)
            return Eps(x, x)

    steps = SAMPLERS[sampler].run(Counted(), start(5.0), run)
    next(steps)
    made = len(calls)
    steps.close()
    assert 1 <= made <= 3
    assert len(calls) == made
    with pytest.raises(StopIteration):
        next(steps)
