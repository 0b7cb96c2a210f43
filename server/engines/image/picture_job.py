"""The life of one image job, from its request to finished pictures: encode, denoise, perhaps hires, decode, finish.

| asked to end early | what is handed over |
|---|---|
| before a batch | nothing of it |
| in a pass | what the model last took the picture to be, before guidance, decoded (a1111-api.md 2.15); no hires pass |
| SKIP | the same, and the next batch begins |
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace

import torch

from server.core.image import (
    Denoise,
    ImageFinished,
    ImageReady,
    ImageRequest,
    ImageStarted,
    Preview,
    Size,
    StepDone,
)
from server.core.jobs import Event
from server.core.prompt import PromptTree, Span
from server.engines.base import JobControl
from server.engines.image import denoise as passes
from server.engines.image.adapters import Adapters
from server.engines.image.beginnings import Beginning, Encoding, begin, entry_of, nothing_seen
from server.engines.image.conditioning import Conditioning, TextPass, encode
from server.engines.image.denoisers import Condition, Denoiser
from server.engines.image.embeddings import EmbeddingIndex, EmbeddingShelf
from server.engines.image.finishing import Finished
from server.engines.image.guidance import Guidance, GuidanceScale, Prompts
from server.engines.image.hires import upscaled
from server.engines.image.inpaint import Blend
from server.engines.image.layouts.family import PictureInputs
from server.engines.image.layouts.vae import LATENT_CHANNELS
from server.engines.image.pictures import png, to_image
from server.engines.image.placement import Placement, visiting
from server.engines.image.preview import preview
from server.engines.image.seeds import NoiseSource, picture_seeds
from server.engines.image.text_stack import TextStack
from server.engines.image.tiling import wrapped
from server.engines.image.upscaling.lending import Lender
from server.engines.image.vae import Vae

Latents = Generator[Event, None, torch.Tensor]
"""Yields the events of a pass and returns its latents [batch, C, h, w]."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The loaded model as jobs use it."""

    text: TextStack
    unet_module: torch.nn.Module
    vae_module: torch.nn.Module
    diffusion: passes.Diffusion
    vae: Vae
    adapters: Adapters
    embeddings: EmbeddingShelf
    placement: Placement
    upscalers: Lender
    inputs: PictureInputs = "none"


@dataclass
class PictureJob:
    """One job; `events` runs it. `pass_index` counts the passes begun, `begun` is where a job from a picture begins."""

    parts: Parts
    request: ImageRequest
    control: JobControl
    pass_index: int = 0
    ended_early: bool = field(default=False, init=False)
    begun: Beginning | None = field(default=None, init=False)

    def events(self) -> Iterator[Event]:
        """Yield the events of the job, with bounded work between them."""
        request = self.request
        yield ImageStarted(passes=request.batches * (2 if request.hires else 1), steps=_first_steps(request))
        notes = list(self.parts.adapters.use(request.adapters))
        with wrapped((self.parts.unet_module, self.parts.vae_module), request.tiling):
            first, second, more = self._conditionings()
            if request.init is not None:
                last = request.batch_size * request.batches - 1
                self.begun = begin(
                    request, request.init, self._encoding(self._noise(range(last, last + 1), request.size))
                )
            for batch in range(request.batches):
                self.control.take_skip()
                if self.control.stopped:
                    break
                self.ended_early = False
                pictures = range(batch * request.batch_size, (batch + 1) * request.batch_size)
                yield from self._batch(pictures, first, second)
        yield ImageFinished(
            reason="stopped" if self.control.stopped else "complete",
            notes=(*notes, *more),
            blank_mask=self.begun is not None and self.begun.has_blank_mask,
        )

    def _conditionings(self) -> tuple[Conditioning, Conditioning | None, list[str]]:
        """Encode the prompts of both passes and return them with notes on embeddings."""
        request, text = self.request, self.parts.text
        hires = request.hires
        trees = [request.prompt, request.negative, *([hires.prompt, hires.negative] if hires else [])]
        found, notes = self.parts.embeddings.take(request.embeddings, " ".join(map(_words, trees)))
        text.use(found)
        find = EmbeddingIndex(found).find
        pass_ = TextPass(stack=text, settings=request.text, find=find, size=request.size)
        first = encode(request.prompt, request.negative, pass_)
        second = encode(hires.prompt, hires.negative, replace(pass_, size=hires.scale_to)) if hires else None
        return first, second, notes

    def _batch(self, pictures: range, first: Conditioning, second: Conditioning | None) -> Iterator[Event]:
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
        guidance = self._guidance(denoiser, _prompts(first, len(pictures), seen), request.denoise, first.filler)
        latents = yield from self._pass(guidance, course, blend=blend)
        if request.hires is not None and second is not None and not self._is_over():
            latents = yield from self._second_pass(latents, noise, pictures, second)
        for place, (index, latent) in enumerate(zip(pictures, latents, strict=True)):
            yield self._ready(index, latent, place)

    def _second_pass(
        self, latents: torch.Tensor, first_noise: NoiseSource, pictures: range, conditioning: Conditioning
    ) -> Latents:
        hires, diffusion = self.request.hires, self.parts.diffusion
        assert hires is not None
        latents = upscaled(latents, hires, self.parts.vae, first_noise.posterior, self.parts.upscalers.lend)
        height, width = latents.shape[-2:]
        size = Size(width * 8, height * 8)
        noise = self._noise(pictures, size)
        denoiser, table = diffusion.denoiser(hires.denoise)
        entry = passes.Entry(hires.strength)
        course = passes.from_latent(hires.denoise, table, diffusion.alphas, noise, latents, entry)
        prompts = _prompts(conditioning, len(pictures), nothing_seen(len(pictures), size, self._encoding(noise)))
        guidance = self._guidance(denoiser, prompts, hires.denoise, conditioning.filler)
        return (yield from self._pass(guidance, course, hires.denoise))

    def _pass(
        self, guidance: Guidance, course: passes.Course, denoise: Denoise | None = None, blend: Blend | None = None
    ) -> Latents:
        """Run one pass with its events; end it early when asked to. `blend` keeps what a mask does not mark."""
        number, self.pass_index = self.pass_index, self.pass_index + 1
        points = passes.Points(after_loop=(passes.check_numbers,))
        if blend is not None:
            points = passes.Points(around_model=(blend.around,), after_loop=(passes.check_numbers, blend.last))
        sampler = passes.sampler_of(denoise or self.request.denoise)
        steps = passes.denoised(sampler.run, guidance, course, points)
        shown = 0
        with visiting(self.parts.unet_module, self.parts.placement):
            while True:
                try:
                    step = next(steps)
                except StopIteration as end:
                    latents: torch.Tensor = end.value
                    return latents
                yield StepDone(pass_index=number, step=step.index + 1, steps=max(course.steps, step.index + 1))
                every = self.request.preview_every
                if every and guidance.calls // every > shown:
                    shown = guidance.calls // every
                    yield Preview(pass_index=number, png=preview(step.denoised))
                if self._is_over() and step.index + 1 < course.steps:
                    steps.close()
                    reached = step.denoised if guidance.prompt_x0 is None else guidance.prompt_x0
                    return reached if blend is None else blend.last(reached)

    def _is_over(self) -> bool:
        """Tell whether this batch shall end now; a SKIP counts for the whole batch."""
        self.ended_early = self.control.take_skip() or self.ended_early
        return self.ended_early or self.control.stopped

    def _guidance(
        self, denoiser: Denoiser, prompts: Callable[[int], Prompts], denoise: Denoise, filler: torch.Tensor | None
    ) -> Guidance:
        init = self.request.init
        follows = self.parts.inputs == "pix2pix" and init is not None and init.picture_scale not in (None, 1.0)
        scale = GuidanceScale(
            scale=denoise.cfg_scale * passes.sampler_of(denoise).scale_factor,
            min_uncond=denoise.min_uncond,
            min_uncond_all=denoise.min_uncond_all,
            picture=init.picture_scale if init is not None and follows else None,
        )
        return Guidance(denoiser, prompts, scale, empty=None if filler is None else filler[None])

    def _encoding(self, noise: NoiseSource) -> Encoding:
        parts = self.parts
        return Encoding(vae=parts.vae, inputs=parts.inputs, noise=noise.posterior(), device=parts.placement.device)

    def _noise(self, pictures: range, size: Size) -> NoiseSource:
        shape = (LATENT_CHANNELS, size.height // 8, size.width // 8)
        return NoiseSource(self.request.seeds, pictures, shape, device=self.parts.placement.device)

    def _ready(self, index: int, latent: torch.Tensor, place: int) -> ImageReady:
        """Decode and finish the picture at `place` of its batch."""
        done = Finished(to_image(self.parts.vae.decode(latent)))
        if self.begun is not None:
            done = self.begun.finishing.finished(done.image, latent, place)
        seed, variation = picture_seeds(self.request.seeds, index)
        return ImageReady(
            index=index,
            seed=seed,
            variation=variation,
            png=png(done.image),
            width=done.image.width,
            height=done.image.height,
            further=tuple(png(image) for image in done.further),
        )


def _prompts(conditioning: Conditioning, batch: int, seen: torch.Tensor | None) -> Callable[[int], Prompts]:
    """Return what guidance asks at each call: the same prompts for all pictures of the batch.

    `seen` is what each picture's UNet calls see besides, [batch, channels, h, w].
    """

    def at(call: int) -> Prompts:
        found = conditioning.at(call)
        members = None if seen is None else seen.repeat_interleave(len(found.parts), dim=0)
        return Prompts(
            positive=Condition(found.parts.repeat(batch, 1, 1), _repeated(found.vectors, batch), members),
            negative=Condition(found.negative.expand(batch, -1, -1), _repeated(found.negative_vector, batch), seen),
            weights=(found.weights,) * batch,
        )

    return at


def _first_steps(request: ImageRequest) -> int:
    """Return how many steps a first pass will make; a pass from a picture makes the last of its schedule."""
    steps = request.denoise.steps
    return steps if request.init is None else entry_of(request.init).count(steps)[1] + 1


def _repeated(vectors: torch.Tensor | None, batch: int) -> torch.Tensor | None:
    """Return vectors [rows, n] or one vector [n] for each picture of a batch, [rows * batch, n]."""
    return None if vectors is None else torch.atleast_2d(vectors).repeat(batch, 1)


def _words(tree: PromptTree) -> str:
    """Return all text of a prompt, to look for names of embeddings in."""
    return " ".join(
        piece.text for part in tree.parts for text in part.texts for piece in text.pieces if isinstance(piece, Span)
    )
