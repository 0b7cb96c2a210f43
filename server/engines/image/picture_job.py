"""The life of one image job, from its request to finished pictures: encode, denoise, perhaps hires, decode, finish.

| asked to end early | what is handed over |
|---|---|
| before a batch | nothing of it |
| in a pass | what the model last took the picture to be, before guidance, decoded; no hires pass |
| SKIP | the same, and the next batch begins |
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch

from server.core.image import (
    Denoise,
    HiresPass,
    ImageFinished,
    ImageReady,
    ImageRequest,
    ImageStarted,
    Preview,
    Size,
    StepDone,
)
from server.core.jobs import Event
from server.engines.base import JobControl
from server.engines.image import denoise as passes
from server.engines.image.beginnings import Beginning, Encoding, begin, entry_of, nothing_seen
from server.engines.image.companions import Companions, companions_of
from server.engines.image.conditioning import Conditioning
from server.engines.image.control.controls import Controls
from server.engines.image.denoisers import Condition, Denoiser
from server.engines.image.finishing import Finished
from server.engines.image.guidance import Guidance, GuidanceScale, Prompts
from server.engines.image.hires import upscaled
from server.engines.image.inpaint import Blend
from server.engines.image.job_prompts import JobPrompts
from server.engines.image.layouts.vae import LATENT_CHANNELS
from server.engines.image.parts import Parts
from server.engines.image.pictures import to_image
from server.engines.image.placement import visiting
from server.engines.image.refining import Refining, Successor
from server.engines.image.seeds import NoiseSource
from server.engines.image.sigma_table import SigmaTable
from server.engines.image.tiling import wrapped

Latents = Generator[Event, None, torch.Tensor]
"""Yields the events of a pass and returns its latents [batch, C, h, w]."""


@dataclass
class PictureJob:
    """One job; `events` runs it. `pass_index` counts the passes begun, `begun` is where a job from a picture begins.

    `parts` is the checkpoint that works now: the loaded one at the start of each batch, perhaps one of the `companions`
    later. `controls` are the job's control units; they act in the loaded one.
    """

    parts: Parts
    request: ImageRequest
    control: JobControl
    companions: Companions
    pass_index: int = 0
    ended_early: bool = field(default=False, init=False)
    begun: Beginning | None = field(default=None, init=False)
    controls: Controls = field(init=False)
    prompts: JobPrompts = field(init=False)
    notes: list[str] = field(default_factory=list, init=False)
    refined: bool = field(default=False, init=False)
    padded: bool = field(default=False, init=False)

    def events(self) -> Iterator[Event]:
        """Yield the events of the job, with bounded work between them."""
        request = self.request
        yield ImageStarted(passes=request.batches * (2 if request.hires else 1), steps=_first_steps(request))
        self._turn(self.companions.own)
        self.prompts = JobPrompts(request)
        with ExitStack() as stack:
            for parts in (self.parts, *self._others()):
                stack.enter_context(wrapped((parts.unet_module, parts.vae_module), request.tiling))
            self.prompts.of(self.parts, second=False)  # both now: then the text encoder works once
            if request.hires is not None and request.hires.checkpoint is None and _keeps_networks(request):
                self.prompts.of(self.parts, second=True)
            if request.init is not None:
                lent = request.init.upscaler_file
                by = None if lent is None else self.parts.upscalers.lend(lent)
                self.begun = begin(request, request.init, self._last_encoding(), by)
            self.controls = self.parts.control.begin(request, self._last_encoding)
            for batch in range(request.batches):
                self.control.take_skip()
                if self.control.stopped:
                    break
                self.ended_early = False
                pictures = range(batch * request.batch_size, (batch + 1) * request.batch_size)
                self._turn(self.companions.own)
                yield from self._batch(pictures)
        yield ImageFinished(
            reason="stopped" if self.control.stopped else "complete",
            notes=(*self.notes, *self.prompts.notes),
            padded=self.padded,
            blank_mask=self.begun is not None and self.begun.has_blank_mask,
            maps=self.controls.maps(),
            refined=self.refined,
        )

    def _others(self) -> list[Parts]:
        """Return the further checkpoints of the job, loaded."""
        return [self.companions.get(ref) for ref in companions_of(self.request)]

    def _turn(self, parts: Parts, hires: HiresPass | None = None) -> None:
        """Go on with a checkpoint and the networks of a pass; nothing happens when they work already."""
        self.companions.seat(parts)
        adapters, hypernetworks = self.request.adapters, self.request.hypernetworks
        if hires is not None:
            adapters = adapters if hires.adapters is None else hires.adapters
            hypernetworks = hypernetworks if hires.hypernetworks is None else hires.hypernetworks
        for note in (*parts.adapters.use(adapters), *parts.hypernetworks.use(hypernetworks)):
            if note not in self.notes:
                self.notes.append(note)
        self.parts = parts

    def _batch(self, pictures: range) -> Iterator[Event]:
        request = self.request
        noise = self._noise(pictures, request.size)
        denoiser, table = self.parts.diffusion.denoiser(request.denoise)
        blend = None
        if self.begun is None or request.init is None:
            course = passes.from_noise(request.denoise, table, self.parts.diffusion.alphas, noise)
            seen = nothing_seen(len(pictures), request.size, self._encoding(noise))
        else:
            entry = entry_of(request.init)
            latent, seen, blend = self.begun.latent, self.begun.seen, self.begun.blend
            course = passes.from_latent(request.denoise, table, self.parts.diffusion.alphas, noise, latent, entry)
        guidance = self._guidance(denoiser, seen, len(pictures))
        refining = self._refining(guidance, table, seen, len(pictures))
        latents = yield from self._pass(guidance, course, blend=blend, refining=refining)
        if request.hires is not None and not self._is_over():
            latents = yield from self._second_pass(latents, noise, pictures, request.hires)
        for place, (index, latent) in enumerate(zip(pictures, latents, strict=True)):
            yield self._ready(index, latent, place)

    def _second_pass(
        self, latents: torch.Tensor, first_noise: NoiseSource, pictures: range, hires: HiresPass
    ) -> Latents:
        drawn_by = self.parts.vae
        self._turn(self.companions.own if hires.checkpoint is None else self.companions.get(hires.checkpoint), hires)
        diffusion, lend = self.parts.diffusion, self.parts.upscalers.lend
        latents = upscaled(latents, hires, drawn_by, first_noise.posterior, lend, encoder=self.parts.vae)
        height, width = latents.shape[-2:]
        size = Size(width * 8, height * 8)
        noise = self._noise(pictures, size)
        denoiser, table = diffusion.denoiser(hires.denoise)
        entry = passes.Entry(hires.strength)
        course = passes.from_latent(hires.denoise, table, diffusion.alphas, noise, latents, entry)
        seen = nothing_seen(len(pictures), size, self._encoding(noise))
        guidance = self._guidance(denoiser, seen, len(pictures), hires)
        refining = self._refining(guidance, table, seen, len(pictures), hires)
        return (yield from self._pass(guidance, course, hires.denoise, refining=refining))

    def _pass(
        self,
        guidance: Guidance,
        course: passes.Course,
        denoise: Denoise | None = None,
        *,
        blend: Blend | None = None,
        refining: Refining | None = None,
    ) -> Latents:
        """Run one pass with its events; end it early when asked to. `blend` keeps what a mask does not mark."""
        number, self.pass_index = self.pass_index, self.pass_index + 1
        points = passes.Points(after_loop=(passes.check_numbers,))
        if blend is not None:
            points = passes.Points(around_model=(blend.around,), after_loop=(passes.check_numbers, blend.last))
        points = self.controls.joined(points, course, second=denoise is not None)
        if refining is not None:  # outermost: it looks before everything else at each call
            points = replace(points, around_model=(*points.around_model, refining.around))
        sampler = passes.sampler_of(denoise or self.request.denoise)
        steps = passes.denoised(sampler.run, guidance, course, points)
        shown = 0
        with visiting(self.parts.unet_module, self.parts.placement):
            while True:
                try:
                    step = next(steps)
                    self.padded = self.padded or guidance.padded
                except StopIteration as end:
                    latents: torch.Tensor = end.value
                    return latents
                yield StepDone(pass_index=number, step=step.index + 1, steps=max(course.steps, step.index + 1))
                every = self.request.preview_every
                if every and guidance.calls // every > shown:
                    shown = guidance.calls // every
                    yield Preview(pass_index=number, png=self.parts.previews.of(step.denoised))
                if self._is_over() and step.index + 1 < course.steps:
                    steps.close()
                    reached = step.denoised if guidance.prompt_x0 is None else guidance.prompt_x0
                    return reached if blend is None else blend.last(reached)

    def _is_over(self) -> bool:
        """Tell whether this batch shall end now; a SKIP counts for the whole batch."""
        self.ended_early = self.control.take_skip() or self.ended_early
        return self.ended_early or self.control.stopped

    def _guidance(
        self, denoiser: Denoiser, seen: torch.Tensor | None, batch: int, hires: HiresPass | None = None
    ) -> Guidance:
        """Return the guided model of a pass: of the second one when `hires` is given."""
        init, denoise = self.request.init, self.request.denoise if hires is None else hires.denoise
        follows = self.parts.inputs == "pix2pix" and init is not None and init.picture_scale not in (None, 1.0)
        scale = GuidanceScale(
            scale=denoise.cfg_scale * passes.sampler_of(denoise).scale_factor,
            min_uncond=denoise.min_uncond,
            min_uncond_all=denoise.min_uncond_all,
            picture=init.picture_scale if init is not None and follows else None,
        )
        conditioning = self.prompts.of(self.parts, second=hires is not None)
        prompts = _prompts(conditioning, batch, seen)
        return Guidance(denoiser, prompts, scale, empty=_row(conditioning.filler))

    def _refining(
        self,
        guidance: Guidance,
        table: SigmaTable,
        seen: torch.Tensor | None,
        batch: int,
        hires: HiresPass | None = None,
    ) -> Refining | None:
        """Return what watches a pass for the refiner, None when the refiner has no part in it."""
        request, refiner = self.request, self.request.refiner
        if refiner is None:
            return None
        missed = "first" if hires is not None else "second"
        if request.hires is not None and refiner.passes == missed:
            return None
        denoise = request.denoise if hires is None else hires.denoise
        steps = _first_steps(request) if hires is None else hires.denoise.steps
        inputs = self.parts.inputs

        def take_over() -> Successor:
            self._turn(self.companions.get(refiner.checkpoint), hires)
            self.refined = True
            found = self.prompts.of(self.parts, second=hires is not None)
            same = seen if self.parts.inputs == inputs else None
            denoiser, _ = self.parts.diffusion.denoiser(denoise)
            return Successor(denoiser=denoiser, prompts=_prompts(found, batch, same), empty=_row(found.filler))

        calls = steps * (2 if passes.sampler_of(denoise).second_order else 1)
        return Refining(asked=refiner, guidance=guidance, table=table, calls=calls, take_over=take_over)

    def _encoding(self, noise: NoiseSource) -> Encoding:
        parts = self.parts
        return Encoding(vae=parts.vae, inputs=parts.inputs, noise=noise.posterior(), device=parts.placement.device)

    def _last_encoding(self) -> Encoding:
        """Return how the job's pictures are encoded: with the draw of the last picture's seed, as `beginnings` says."""
        last = self.request.batch_size * self.request.batches - 1
        return self._encoding(self._noise(range(last, last + 1), self.request.size))

    def _noise(self, pictures: range, size: Size) -> NoiseSource:
        shape = (LATENT_CHANNELS, size.height // 8, size.width // 8)
        return NoiseSource(self.request.seeds, pictures, shape, device=self.parts.placement.device)

    def _ready(self, index: int, latent: torch.Tensor, place: int) -> ImageReady:
        """Decode and finish the picture at `place` of its batch."""
        done = Finished(self.controls.finished(to_image(self.parts.vae.decode(latent))))
        if self.begun is not None:
            done = self.begun.finishing.finished(done.image, latent, place)
        return done.ready(self.request, index)


def _prompts(conditioning: Conditioning, batch: int, seen: torch.Tensor | None) -> Callable[[int], Prompts]:
    """Return what guidance asks at each call: the same prompts for all pictures of the batch.

    `seen` is what each picture's UNet calls see besides, [batch, channels, h, w].
    """

    def at(call: int) -> Prompts:
        found = conditioning.at(call)
        members = None if seen is None else seen.repeat_interleave(len(found.parts), dim=0)
        return Prompts(
            positive=_marked(found.parts.repeat(batch, 1, 1), _repeated(found.vectors, batch), members, 1.0),
            negative=_marked(found.negative.expand(batch, -1, -1), _repeated(found.negative_vector, batch), seen, 0.0),
            weights=(found.weights,) * batch,
        )

    return at


def _marked(text: torch.Tensor, vector: torch.Tensor | None, seen: torch.Tensor | None, prompted: float) -> Condition:
    return Condition(text, vector, seen, torch.full((len(text),), prompted, device=text.device))


def _keeps_networks(request: ImageRequest) -> bool:
    """Tell whether the second pass works with the networks of the first."""
    hires = request.hires
    return hires is None or (
        hires.adapters in (None, request.adapters) and hires.hypernetworks in (None, request.hypernetworks)
    )


def _row(filler: torch.Tensor | None) -> torch.Tensor | None:
    return None if filler is None else filler[None]


def _first_steps(request: ImageRequest) -> int:
    """Return how many steps a first pass will make; a pass from a picture makes the last of its schedule."""
    steps = request.denoise.steps
    return steps if request.init is None else entry_of(request.init).count(steps)[1] + 1


def _repeated(vectors: torch.Tensor | None, batch: int) -> torch.Tensor | None:
    """Return vectors [rows, n] or one vector [n] for each picture of a batch, [rows * batch, n]."""
    return None if vectors is None else torch.atleast_2d(vectors).repeat(batch, 1)
