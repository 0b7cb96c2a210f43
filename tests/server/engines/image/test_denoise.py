import pytest
import torch

from server.core.errors import Broken, InvalidValue
from server.core.image import Denoise, Seeds
from server.engines.image.denoise import (
    Course,
    Diffusion,
    Entry,
    Points,
    check_numbers,
    denoised,
    from_latent,
    from_noise,
    sampler_of,
)
from server.engines.image.denoisers import Condition
from server.engines.image.samplers import Model, SamplerRun, Step, Steps
from server.engines.image.schedules import sigmas, timesteps
from server.engines.image.seeds import NoiseSource
from server.engines.image.sigma_table import SigmaTable, alphas_cumprod

pytestmark = pytest.mark.torch

ALPHAS = alphas_cumprod()
TABLE = SigmaTable.of(ALPHAS)
LATENT = torch.full((2, 4, 3, 3), 0.5)


def noise() -> NoiseSource:
    return NoiseSource(Seeds(first=7), range(2), (4, 3, 3))


def latent_course(entry: float | Entry, **fields: object) -> Course:
    entry = entry if isinstance(entry, Entry) else Entry(entry)
    return from_latent(Denoise(**fields), TABLE, ALPHAS, noise(), LATENT, entry)  # type: ignore[arg-type]


def test_from_noise_begins_at_the_first_sigma() -> None:
    course = from_noise(Denoise(steps=5, schedule="karras"), TABLE, ALPHAS, noise())
    assert course.steps == 5
    assert torch.allclose(course.start, noise().first() * TABLE.highest)


def test_a_scaled_start() -> None:
    course = from_noise(Denoise(steps=5, scaled_start=True), TABLE, ALPHAS, noise())
    assert torch.allclose(course.start, noise().first() * (1 + TABLE.highest**2) ** 0.5)


def test_samplers_by_time_begin_with_plain_noise() -> None:
    course = from_noise(Denoise(sampler="ddim", steps=20), TABLE, ALPHAS, noise())
    assert torch.equal(course.start, noise().first())
    assert course.run.timesteps == timesteps(20)
    assert course.steps == 19


@pytest.mark.parametrize(("steps", "strength", "total"), [(20, 0.75, 26), (20, 0.5, 40), (30, 0.4, 75), (20, 1.0, 20)])
def test_from_a_latent_exactly_the_steps_asked_for(steps: int, strength: float, total: int) -> None:
    course = latent_course(strength, steps=steps)
    whole = sigmas(TABLE, Denoise(), total)
    assert torch.equal(course.run.sigmas, whole[total - steps :])
    assert course.run.schedule is not None
    assert torch.equal(course.run.schedule, whole)
    assert course.steps == steps
    assert torch.allclose(course.start, LATENT + noise().first() * course.run.sigmas[0])


def test_strength_zero_leaves_the_picture() -> None:
    course = latent_course(0.0, steps=9)
    assert course.steps == 0
    assert torch.equal(course.start, LATENT)


def test_samplers_by_time_from_a_latent() -> None:
    course = latent_course(0.5, sampler="ddim", steps=10)
    times = timesteps(20)
    alpha = ALPHAS[times[9]]
    assert torch.allclose(course.start, alpha.sqrt() * LATENT + (1 - alpha).sqrt() * noise().first())
    assert course.run.timesteps == times[:9]
    assert course.run.resumed
    with pytest.raises(InvalidValue):
        latent_course(0.0, sampler="ddim", steps=10)


@pytest.mark.parametrize(
    ("steps", "strength", "begun"),
    [
        (20, 0.75, 15),
        (20, 0.5, 10),
        (20, 1.0, 19),
        (20, 0.3, 6),
        (30, 0.4, 12),
        (20, 0.05, 1),
        (20, 0.04, 0),
        (20, 0.0, 0),
    ],
)
def test_from_a_latent_the_last_steps_of_a_schedule(steps: int, strength: float, begun: int) -> None:
    """The counts recorded from A1111; one step more than the count is made."""
    course = latent_course(Entry(strength, exact=False), steps=steps)
    whole = sigmas(TABLE, Denoise(), steps)
    assert torch.equal(course.run.sigmas, whole[steps - begun - 1 :])
    assert course.steps == begun + 1


@pytest.mark.parametrize(
    ("steps", "strength", "count"),
    [(20, 0.75, (26, 19)), (20, 0.3, (66, 19)), (30, 0.4, (75, 29)), (20, 1.0, (20, 19))],
)
def test_exact_counts(steps: int, strength: float, count: tuple[int, int]) -> None:
    assert Entry(strength).count(steps) == count


def test_samplers_by_time_from_the_last_steps() -> None:
    course = latent_course(Entry(0.6, exact=False), sampler="ddim", steps=10)
    assert course.run.timesteps == timesteps(10)[:6]
    alpha = ALPHAS[timesteps(10)[6]]
    assert torch.allclose(course.start, alpha.sqrt() * LATENT + (1 - alpha).sqrt() * noise().first())


@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_noise_may_be_scaled_and_more_be_added(sampler: str) -> None:
    plain, scaled, more = (
        latent_course(Entry(0.5, exact=False, noise_factor=factor), sampler=sampler, steps=10, extra_noise=extra).start
        for factor, extra in ((1.0, 0.0), (1.5, 0.0), (1.0, 0.25))
    )
    noiseless = latent_course(Entry(0.5, exact=False, noise_factor=0.0), sampler=sampler, steps=10).start
    assert torch.allclose(scaled - noiseless, 1.5 * (plain - noiseless), atol=1e-5)
    share = 1.0 if sampler == "euler" else ALPHAS[timesteps(10)[5]].sqrt()
    assert torch.allclose(more - plain, 0.25 * share * noise().first(), atol=1e-5)


def test_a_sampler_may_want_the_last_but_one_sigma_away() -> None:
    assert sampler_of(Denoise(sampler="dpm2")).discard_next_to_last
    plain = sigmas(TABLE, Denoise(), 6)
    found = from_noise(Denoise(sampler="dpm2", steps=5), TABLE, ALPHAS, noise()).run.sigmas
    assert torch.equal(found, torch.cat([plain[:-2], plain[-1:]]))


def test_unknown_samplers_are_refused() -> None:
    with pytest.raises(InvalidValue, match="euler"):
        sampler_of(Denoise(sampler="magic"))


def counting(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    for index in range(3):
        x = model(x, torch.tensor(1.0))
        yield Step(index, x, x, 1.0)
    return x


class PlusOne:
    """A model that adds one, and one that doubles what another gives."""

    def __init__(self, inner: Model | None = None) -> None:
        self.inner = inner

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x + 1 if self.inner is None else 2 * self.inner(x, sigma)

    def eps(self, x: torch.Tensor, t: float) -> object:
        raise NotImplementedError


def test_the_named_points_are_passed_in_order() -> None:
    seen: list[int] = []
    points = Points(
        before_loop=(lambda x: x + 10, lambda x: x * 0),
        around_model=(PlusOne,),  # type: ignore[arg-type]
        after_step=(lambda step: seen.append(step.index),),
        after_loop=(lambda x: x * 10,),
    )
    course = Course(start=torch.ones(1, 4, 1, 1), run=SamplerRun(noise=noise()), steps=3)
    steps = denoised(counting, PlusOne(), course, points)  # type: ignore[arg-type]
    given = []
    with pytest.raises(StopIteration) as end:
        while True:
            given.append(float(next(steps).x[0, 0]))
    assert given == [2.0, 6.0, 14.0]
    assert float(end.value.value[0, 0]) == 140.0
    assert seen == [0, 1, 2]


def test_closing_ends_the_pass() -> None:
    course = Course(start=torch.ones(1, 4, 1, 1), run=SamplerRun(noise=noise()), steps=3)
    steps = denoised(counting, PlusOne(), course, Points())  # type: ignore[arg-type]
    next(steps)
    steps.close()
    assert list(steps) == []


def test_latents_without_numbers_are_an_error() -> None:
    assert torch.equal(check_numbers(LATENT), LATENT)
    with pytest.raises(Broken, match="UNet"):
        check_numbers(torch.full((1, 4, 1, 1), float("inf")))


def test_consistency_samplers_get_the_coarse_table() -> None:
    def unet(x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        return torch.zeros_like(x)

    diffusion = Diffusion(unet=unet, alphas=ALPHAS, prediction="eps")
    assert len(diffusion.denoiser(Denoise())[1].sigmas) == 1000
    assert len(diffusion.denoiser(Denoise(sampler="lcm"))[1].sigmas) == 50
