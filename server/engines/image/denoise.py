"""The one denoise loop and its named points, and where a pass begins: from noise, or from a picture with noise on it.

Features (masks, control, checks) join at the points and never inside the loop:

| point | is given | may return |
|---|---|---|
| `before_loop` | the first latent | another one |
| `around_model` | the guided model | one that wraps it: before and after each model call |
| `after_step` | the step just made | nothing; it may raise |
| `after_loop` | the last latent | another one |
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from server.core.errors import Broken, InvalidValue
from server.core.image import Denoise
from server.engines.image.denoisers import ConsistencyDenoiser, Denoiser, DiscreteDenoiser, Prediction, UNet
from server.engines.image.samplers import SAMPLERS, Model, Sampler, SamplerInfo, SamplerRun, Step, Steps
from server.engines.image.schedules import sigmas, timesteps
from server.engines.image.seeds import NoiseSource
from server.engines.image.sigma_table import SigmaTable

ALMOST_ALL = 0.999
"""The largest share of noise that is put back; 1 would divide a step count into itself."""


@dataclass(frozen=True, kw_only=True)
class Points:
    """What features do at the named points of a pass, each in order."""

    before_loop: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = ()
    around_model: tuple[Callable[[Model], Model], ...] = ()
    after_step: tuple[Callable[[Step], None], ...] = ()
    after_loop: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Course:
    """A pass about to begin: its first latent [batch, C, h, w] float32, what the sampler is told, how many steps."""

    start: torch.Tensor
    run: SamplerRun
    steps: int


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """A network with the noise levels it was trained at."""

    unet: UNet
    alphas: torch.Tensor
    prediction: Prediction
    time_dtype: torch.dtype = torch.float32

    def denoiser(self, denoise: Denoise) -> tuple[Denoiser, SigmaTable]:
        """Return the model as the request's sampler sees it, and the table its schedule is made from."""
        plain = DiscreteDenoiser(
            self.unet,
            self.alphas,
            prediction=self.prediction,
            quantise_times=denoise.quantise_times,
            time_dtype=self.time_dtype,
        )
        if not sampler_of(denoise).consistency:
            return plain, plain.table
        coarse = ConsistencyDenoiser(plain, self.alphas)
        return coarse, coarse.table


def sampler_of(denoise: Denoise) -> SamplerInfo:
    """Return the request's sampler; InvalidValue when there is none of that id."""
    found = SAMPLERS.get(denoise.sampler)
    if found is None:
        raise InvalidValue.of("sampler", f"no sampler {denoise.sampler!r}; known are {', '.join(SAMPLERS)}")
    return found


def from_noise(denoise: Denoise, table: SigmaTable, alphas: torch.Tensor, noise: NoiseSource) -> Course:
    """Begin with noise alone."""
    if sampler_of(denoise).kind == "timestep":
        times = timesteps(denoise.steps)
        return Course(
            start=noise.first(), run=_run(denoise, noise, alphas, timesteps=times), steps=max(len(times) - 1, 1)
        )
    schedule = _schedule(denoise, table, denoise.steps)
    own = (table.lowest, table.highest) if sampler_of(denoise).own_range else None
    run = _run(denoise, noise, alphas, sigmas=schedule, sigma_range=own)
    factor = torch.sqrt(1 + schedule[0] ** 2) if denoise.scaled_start else schedule[0]
    return Course(start=noise.first() * factor, run=run, steps=len(schedule) - 1)


@dataclass(frozen=True)
class Entry:
    """Where in a schedule a pass begins that starts from latents: `strength` is the share of noise put on them.

    `exact`: all of the request's steps are made within that share, on a schedule that is longer by 1 / strength;
    otherwise the last steps of a schedule of so many steps are. `noise_factor` scales the noise.
    """

    strength: float
    exact: bool = True
    noise_factor: float = 1.0

    def count(self, steps: int) -> tuple[int, int]:
        """Return (steps of the whole schedule, the step of it counted from its end that is begun at)."""
        share = min(self.strength, ALMOST_ALL)
        if not self.exact:
            return steps, int(share * steps)
        return (int(steps / share) if share > 0 else 0), steps - 1


def from_latent(
    denoise: Denoise, table: SigmaTable, alphas: torch.Tensor, noise: NoiseSource, latent: torch.Tensor, entry: Entry
) -> Course:
    """Begin with `latent` [batch, C, h, w] and noise on it.

    An exact entry of strength 0 makes no step, an inexact one still makes one.

    Raises:
        InvalidValue: strength 0 with a sampler by time, whose schedule has no end to begin at.
    """
    total, begun = entry.count(denoise.steps)
    if sampler_of(denoise).kind == "timestep":
        if total == 0:
            raise InvalidValue.of("strength", f"the sampler {denoise.sampler!r} needs a strength above 0")
        return _timed_course(denoise, alphas, _first(noise, entry), latent, timesteps(total), begun, noise)
    schedule = _schedule(denoise, table, total)
    tail = schedule[max(total - begun - 1, 0) :]
    drawn = _first(noise, entry)
    start = latent + drawn * tail[0]
    if denoise.extra_noise > 0:
        start = start + drawn * denoise.extra_noise
    run = _run(denoise, noise, alphas, sigmas=tail, schedule=schedule)
    return Course(start=start, run=run, steps=len(tail) - 1)


def denoised(sampler: Sampler, model: Model, course: Course, points: Points) -> Steps:
    """Run a pass: yield after each step, return the last latent. Closing the generator ends the pass."""
    x = course.start
    for change in points.before_loop:
        x = change(x)
    for wrap in points.around_model:
        model = wrap(model)
    steps = sampler(model, x, course.run)
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            x = end.value
            break
        for look in points.after_step:
            look(step)
        yield step
    for change in points.after_loop:
        x = change(x)
    return x


def check_numbers(x: torch.Tensor) -> torch.Tensor:
    """Return the latent unchanged; Broken when it holds no numbers. For `after_loop`."""
    if not x.isfinite().all():
        raise Broken("the UNet made no numbers (NaN); run the model in float32, or choose another sampler or schedule")
    return x


def _first(noise: NoiseSource, entry: Entry) -> torch.Tensor:
    drawn = noise.first()
    return drawn if entry.noise_factor == 1.0 else drawn * entry.noise_factor


def _timed_course(
    denoise: Denoise,
    alphas: torch.Tensor,
    drawn: torch.Tensor,
    latent: torch.Tensor,
    times: tuple[int, ...],
    begun: int,
    noise: NoiseSource,
) -> Course:
    reached = min(begun, len(times) - 1)
    alpha = alphas[times[reached]].to(latent.device)
    start = alpha.sqrt() * latent + (1 - alpha).sqrt() * drawn
    if denoise.extra_noise > 0:
        start = start + drawn * denoise.extra_noise * alpha.sqrt()
    run = _run(denoise, noise, alphas, timesteps=times[:reached], resumed=True)
    return Course(start=start, run=run, steps=max(reached - 1, 1))


def _schedule(denoise: Denoise, table: SigmaTable, steps: int) -> torch.Tensor:
    return sigmas(table, denoise, steps, discard_next_to_last=sampler_of(denoise).discard_next_to_last)


def _run(
    denoise: Denoise,
    noise: NoiseSource,
    alphas: torch.Tensor,
    *,
    sigmas: torch.Tensor | None = None,
    schedule: torch.Tensor | None = None,
    sigma_range: tuple[float, float] | None = None,
    timesteps: tuple[int, ...] = (),
    resumed: bool = False,
) -> SamplerRun:
    return SamplerRun(
        noise=noise,
        sigmas=torch.zeros(1) if sigmas is None else sigmas,
        schedule=schedule,
        sigma_range=sigma_range,
        eta=denoise.eta,
        churn=denoise.churn,
        tmin=denoise.tmin,
        tmax=denoise.tmax,
        noise_scale=denoise.noise,
        alphas_cumprod=alphas,
        timesteps=timesteps,
        resumed=resumed,
    )
