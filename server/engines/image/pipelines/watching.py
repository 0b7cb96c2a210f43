"""The one place where a running pipeline is looked at and led: its scheduler, asked twice by every pipeline.

| asked for | what may be done there |
|---|---|
| the schedule | its beginning is left out, where a job begins with a picture |
| a step | what the model takes the picture to be is read; another latent may be put in the place of the next one |
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """A step just made, number `index` (from 0) of `steps`, from `sample` to `latents`, as the pipeline keeps them.

    `denoised` is what the model took the picture to be, None where the scheduler does not tell. `level` is the noise
    that is left (the next sigma of a flow), None where it is no flow.
    """

    index: int
    steps: int
    sample: torch.Tensor
    latents: torch.Tensor
    denoised: torch.Tensor | None
    level: float | None


OnStep = Callable[[Stepped], torch.Tensor | None]
"""Looks at a step and may return the latents to go on with."""

OnSchedule = Callable[[torch.Tensor], None]
"""Told the sigmas of the schedule that is left, once per call."""


class Watch:
    """Watches one scheduler for as long as it lives; `led` says by whom, for one call of the pipeline."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._inner_step = scheduler.step
        self._inner_schedule = getattr(scheduler, "set_timesteps", None)
        scheduler.step = _in_place_of(self._inner_step, self._step)
        if self._inner_schedule is not None:
            scheduler.set_timesteps = _in_place_of(self._inner_schedule, self._schedule)
        self.lead()

    @property
    def is_flow(self) -> bool:
        """Tell whether noise is mixed in linearly, by Euler steps: then jobs may begin anywhere in the schedule."""
        return isinstance(self._scheduler, FlowMatchEulerDiscreteScheduler)

    def lead(self, on_step: OnStep | None = None, on_schedule: OnSchedule | None = None, *, skipped: int = 0) -> None:
        """Say who looks from now on; `skipped` steps of the schedule are left out at its beginning."""
        self._on_step = on_step
        self._on_schedule = on_schedule
        self._skipped = skipped
        self._made = 0

    def _schedule(self, *args: Any, **kwargs: Any) -> None:
        assert self._inner_schedule is not None
        self._inner_schedule(*args, **kwargs)
        self._made = 0
        scheduler = self._scheduler
        if self._skipped:
            scheduler.timesteps = scheduler.timesteps[self._skipped :]
            scheduler.sigmas = scheduler.sigmas[self._skipped :]
        if self._on_schedule is not None and self.is_flow:
            self._on_schedule(scheduler.sigmas)

    def _step(self, *args: Any, **kwargs: Any) -> Any:
        made = self._inner_step(*args, **kwargs)
        if self._on_step is None:
            return made
        output, sample = _argument(args, kwargs, 0, "model_output"), _argument(args, kwargs, 2, "sample")
        previous = made[0] if isinstance(made, tuple) else made.prev_sample
        self._made += 1
        stepped = Stepped(
            index=self._made - 1,
            steps=max(len(self._scheduler.timesteps), self._made),
            sample=sample,
            latents=previous,
            denoised=self._denoised(output, sample),
            level=self._level(),
        )
        instead = self._on_step(stepped)
        if instead is None:
            return made
        instead = instead.to(previous.dtype)
        if isinstance(made, tuple):
            return (instead, *made[1:])
        made.prev_sample = instead
        return made

    def _denoised(self, output: torch.Tensor, sample: torch.Tensor) -> torch.Tensor | None:
        if self.is_flow:
            sigma = self._scheduler.sigmas[self._scheduler.step_index - 1]
            return sample.float() - sigma * output.float()
        if "dpmsolver++" in str(getattr(self._scheduler.config, "algorithm_type", "")):
            last = self._scheduler.model_outputs[-1]
            return last if isinstance(last, torch.Tensor) else None
        return None

    def _level(self) -> float | None:
        return float(self._scheduler.sigmas[self._scheduler.step_index]) if self.is_flow else None


def _in_place_of(old: Callable[..., Any], new: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls `new` and looks like `old`: pipelines read its signature."""

    @functools.wraps(old)
    def call(*args: Any, **kwargs: Any) -> Any:
        return new(*args, **kwargs)

    return call


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs[name]
