"""Classifier-free guidance (Ho and Salimans, 2022): many conditions a picture, one guided answer for the sampler.

A sampler sees one model; behind it stand, for each picture, the weighted members of its composed prompt and the
negative prompt. All of them go through the network in one batch: the members of picture 0, of picture 1, ..., then the
negatives. Where prompt and negative prompt differ in tokens, two calls are made, or the shorter is padded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from server.core.errors import Unsupported
from server.engines.image.denoisers import Condition, Denoiser

Evaluate = Callable[[torch.Tensor, torch.Tensor, Condition], torch.Tensor]


@dataclass(frozen=True)
class Prompts:
    """Conditions of one model call.

    `weights[i]` are those of picture i's members; `positive` has one row for each of them, picture by picture, and
    `negative` one for each picture.
    """

    positive: Condition
    negative: Condition
    weights: tuple[tuple[float, ...], ...]

    @property
    def blind(self) -> Condition:
        """The negative prompt without the picture that InstructPix2Pix models see."""
        seen = self.negative.image
        return replace(self.negative, image=None if seen is None else torch.zeros_like(seen))


class Eps(NamedTuple):
    """Predicted noise [batch, C, h, w], guided and from the negative prompt alone."""

    guided: torch.Tensor
    unconditional: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class GuidanceScale:
    """How strongly, and when, the negative prompt acts.

    Below the sigma (for timestep samplers: the time) `min_uncond` every second call leaves it out, or every call with
    `min_uncond_all`. `picture` is how strongly InstructPix2Pix models follow the picture they see: a third prediction,
    without it, is made then, and the negative prompt never left out (Brooks et al. 2023, eq. 3).
    """

    scale: float
    min_uncond: float = 0.0
    min_uncond_all: bool = False
    picture: float | None = None

    def leaves_out(self, call: int, level: float) -> bool:
        """Tell whether call number `call` (from 0) at that noise level goes without the negative prompt."""
        return self.picture is None and (call % 2 == 1 or self.min_uncond_all) and level < self.min_uncond


class Guidance:
    """The model a sampler calls: `guidance(x, sigma)` for those by sigma, `guidance.eps(x, t)` for those by time.

    Args:
        denoiser: The model.
        prompts: From the number of the model call (from 0) to its conditions.
        scale: How to guide.
        empty: Text condition [1, 77, width] of the empty prompt, with which the shorter of positive and negative is
            padded; None makes two calls instead.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        prompts: Callable[[int], Prompts],
        scale: GuidanceScale,
        *,
        empty: torch.Tensor | None = None,
    ) -> None:
        self._denoiser = denoiser
        self._prompts = prompts
        self._scale = scale
        self._empty = empty
        self.calls = 0
        self.padded = False
        """Whether a prompt was filled up to the length of the other."""
        self.prompt_x0: torch.Tensor | None = None
        """What the last call alone took the picture to be, by each picture's first member before guidance.

        This is what an interrupted job hands over."""

    def hand_over(
        self, denoiser: Denoiser, prompts: Callable[[int], Prompts], *, empty: torch.Tensor | None = None
    ) -> None:
        """Go on with another model and the prompts as it reads them; calls are counted on."""
        self._denoiser = denoiser
        self._prompts = prompts
        self._empty = empty

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Return the guided D(x, sigma), like x [batch, C, h, w]; `sigma` is 0-dimensional."""
        guided, _, first = self._guide(self._denoiser.denoised, x, sigma)
        self.prompt_x0 = first
        return guided

    def eps(self, x: torch.Tensor, t: float) -> Eps:
        """Return the predicted noise at time t."""
        time = torch.tensor(t, dtype=torch.float32)
        guided, unconditional, first = self._guide(self._denoiser.eps, x, time)
        self.prompt_x0 = self._denoiser.x0(x, first, time.expand(len(x)))
        return Eps(guided, unconditional)

    def _guide(
        self, evaluate: Evaluate, x: torch.Tensor, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (guided, unconditional, first member of each picture)."""
        call, self.calls = self.calls, self.calls + 1
        prompts = self._prompts(call)
        counts = torch.tensor([len(weights) for weights in prompts.weights], device=x.device)
        firsts = counts.cumsum(0) - counts
        members = x.repeat_interleave(counts, dim=0)
        is_left_out = self._scale.leaves_out(call, float(level))  # read before the move: no wait for the device
        level = level.to(x.device, torch.float32)
        if is_left_out:
            out = evaluate(members, level.expand(len(members)), prompts.positive)
            return combine(out, out[firsts], prompts.weights, 1.0), out[firsts], out[firsts]
        if self._scale.picture is not None:
            return self._by_picture(evaluate, x, level, prompts, self._scale.picture)
        out, unconditional = self._both(evaluate, members, x, level, prompts)
        return combine(out, unconditional, prompts.weights, self._scale.scale), unconditional, out[firsts]

    def _by_picture(
        self, evaluate: Evaluate, x: torch.Tensor, level: torch.Tensor, prompts: Prompts, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Guide by prompt and picture: from nothing to the picture, from there to the prompt."""
        if any(len(weights) != 1 for weights in prompts.weights):
            raise Unsupported.of("prompt", "AND is not offered for checkpoints that follow a picture by a scale")
        out, seeing = self._both(evaluate, x, x, level, prompts)
        blind = evaluate(x, level.expand(len(x)), prompts.blind)
        return blind + self._scale.scale * (out - seeing) + scale * (seeing - blind), blind, out

    def _both(
        self, evaluate: Evaluate, members: torch.Tensor, x: torch.Tensor, level: torch.Tensor, prompts: Prompts
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the answers for all members and for the negatives."""
        positive, negative = prompts.positive, prompts.negative
        if self._empty is not None and positive.text.shape[1] != negative.text.shape[1]:
            self.padded = True
            positive, negative = padded(positive, negative, self._empty), padded(negative, positive, self._empty)
        if positive.text.shape[1] == negative.text.shape[1]:
            rows = torch.cat([members, x])
            out = evaluate(rows, level.expand(len(rows)), positive.joined(negative))
            return out[: len(members)], out[len(members) :]
        # No call is larger than the joined one of a plain prompt would be.
        step = 2 * len(x)
        outs = [
            evaluate(members[i : i + step], level.expand(len(members[i : i + step])), positive.rows(slice(i, i + step)))
            for i in range(0, len(members), step)
        ]
        return torch.cat(outs), evaluate(x, level.expand(len(x)), negative)


def combine(
    out: torch.Tensor, unconditional: torch.Tensor, weights: tuple[tuple[float, ...], ...], scale: float
) -> torch.Tensor:
    """Return u + sum over members j of weight_j * scale * (out_j - u), for each picture."""
    guided = unconditional.clone()
    row = 0
    for i, picture in enumerate(weights):
        for weight in picture:
            guided[i] += (out[row] - unconditional[i]) * (weight * scale)
            row += 1
    return guided


def padded(condition: Condition, other: Condition, empty: torch.Tensor) -> Condition:
    """Return `condition` with copies of `empty` [1, 77, width] behind it, as many as make it as long as `other`."""
    missing = (other.text.shape[1] - condition.text.shape[1]) // empty.shape[1]
    if missing <= 0:
        return condition
    filler = empty.to(condition.text).repeat(len(condition.text), missing, 1)
    return replace(condition, text=torch.cat([condition.text, filler], dim=1))
