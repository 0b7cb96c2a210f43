import pytest

from compat.a1111.names import SAMPLERS, SCHEDULES, find_sampler, find_schedule, resolve


@pytest.mark.parametrize(
    ("sampler", "schedule", "name", "asked", "label", "core"),
    [
        ("Euler", None, "Euler", "Automatic", "Automatic", "uniform"),
        ("DPM++ 2M", None, "DPM++ 2M", "Automatic", "Karras", "karras"),
        ("DPM++ 2M Karras", None, "DPM++ 2M", "Automatic", "Karras", "karras"),
        ("DPM++ 2M", "karras", "DPM++ 2M", "Automatic", "Karras", "karras"),
        ("Euler a Karras", None, "Euler a", "Karras", "Karras", "karras"),
        ("Euler a Karras", "Automatic", "Euler a", "Automatic", "Automatic", "uniform"),
        ("Euler a Karras", "automatic", "Euler a", "Automatic", "Automatic", "uniform"),
        ("DPM++ 2M SDE Karras", None, "DPM++ 2M SDE", "Karras", "Karras", "karras"),
        ("DPM++ 2M SDE", None, "DPM++ 2M SDE", "Automatic", "Exponential", "exponential"),
        ("DPM++ 2M", "Uniform", "DPM++ 2M", "Uniform", "Uniform", "uniform"),
        ("LMS karras", None, "LMS", "Karras", "Karras", "karras"),
        ("Euler SGMUniform", None, "Euler", "SGM Uniform", "SGM Uniform", "sgm_uniform"),
        ("Euler SGM Uniform", None, "DPM++ 2M", "Uniform", "Uniform", "uniform"),
        ("Euler", "SGM Uniform", "Euler", "SGM Uniform", "SGM Uniform", "sgm_uniform"),
        ("Euler", "nonsense", "Euler", "Automatic", "Automatic", "uniform"),
        ("k_euler", None, "DPM++ 2M", "Automatic", "Karras", "karras"),
        ("euler", None, "DPM++ 2M", "Automatic", "Karras", "karras"),
        ("dpm++ 2m", None, "DPM++ 2M", "Automatic", "Karras", "karras"),
        (None, None, "DPM++ 2M", "Automatic", "Karras", "karras"),
        ("Euler", "", "Euler", "Automatic", "Automatic", "uniform"),
    ],
)
def test_names_mean(sampler: str | None, schedule: str | None, name: str, asked: str, label: str, core: str) -> None:
    found = resolve(sampler, schedule)
    assert (found.sampler.name, found.asked.label) == (name, asked)
    assert (found.schedule.label, found.schedule_id) == (label, core)


def test_ids_and_names_are_unique() -> None:
    assert len({sampler.id for sampler in SAMPLERS}) == len(SAMPLERS) == 20
    assert len({schedule.name for schedule in SCHEDULES}) == len(SCHEDULES) == 12
    assert all(find_schedule(one.name) is find_schedule(one.label) is one for one in SCHEDULES)


def test_samplers_know_their_calls() -> None:
    twice = {sampler.id for sampler in SAMPLERS if sampler.calls == 2}
    assert twice == {"heun", "dpm2", "dpm2_a", "dpmpp_2s_a", "dpmpp_sde", "restart"}
    assert find_sampler("Euler A") is None
