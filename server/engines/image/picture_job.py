"""The life of one image job, from its request to finished pictures: encode, denoise, perhaps hires, decode.

| asked to end early | what is handed over |
|---|---|
| before a batch | nothing of it |
| in a pass | what the model last took the picture to be, before guidance, decoded (a1111-api.md 2.15); no hires pass |
| SKIP | the same, and the next batch begins |
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

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
from server.engines.image.conditioning import Conditioning, encode
from server.engines.image.denoisers import Condition, Denoiser
from server.engines.image.embeddings import EmbeddingIndex, EmbeddingShelf
from server.engines.image.guidance import Guidance, GuidanceScale, Prompts
from server.engines.image.hires import upscaled
from server.engines.image.layouts.vae import LATENT_CHANNELS
from server.engines.image.pictures import png, to_image
from server.engines.image.placement import Placement, visiting
from server.engines.image.preview import preview
from server.engines.image.seeds import NoiseSource, picture_seeds
from server.engines.image.text_encoding import TextEncoder
from server.engines.image.tiling import wrapped
from server.engines.image.vae import Vae

Latents = Generator[Event, None, torch.Tensor]
"""Yields the events of a pass and returns its latents [batch, C, h, w]."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The loaded model as jobs use it."""

    text: TextEncoder
    text_module: torch.nn.Module
    unet_module: torch.nn.Module
    vae_module: torch.nn.Module
    diffusion: passes.Diffusion
    vae: Vae
    adapters: Adapters
    embeddings: EmbeddingShelf
    placement: Placement


@dataclass
class PictureJob:
    """One job; `events` runs it. `pass_index` counts the passes begun."""

    parts: Parts
    request: ImageRequest
    control: JobControl
    pass_index: int = 0
    ended_early: bool = field(default=False, init=False)

    def events(self) -> Iterator[Event]:
        """Yield the events of the job, with bounded work between them."""
        request = self.request
        yield ImageStarted(passes=request.batches * (2 if request.hires else 1), steps=request.denoise.steps)
        notes = list(self.parts.adapters.use(request.adapters))
        with wrapped((self.parts.unet_module, self.parts.vae_module), request.tiling):
            first, second, more = self._conditionings()
            for batch in range(request.batches):
                self.control.take_skip()
                if self.control.stopped:
                    break
                self.ended_early = False
                pictures = range(batch * request.batch_size, (batch + 1) * request.batch_size)
                yield from self._batch(pictures, first, second)
        yield ImageFinished(reason="stopped" if self.control.stopped else "complete", notes=(*notes, *more))

    def _conditionings(self) -> tuple[Conditioning, Conditioning | None, list[str]]:
        """Encode the prompts of both passes and return them with notes on embeddings."""
        request, text = self.request, self.parts.text
        hires = request.hires
        trees = [request.prompt, request.negative, *([hires.prompt, hires.negative] if hires else [])]
        found, notes = self.parts.embeddings.take(request.embeddings, " ".join(map(_words, trees)))
        text.vectors = {each.name: each.vectors for each in found}
        find = EmbeddingIndex(found).find
        with visiting(self.parts.text_module, self.parts.placement):
            first = encode(request.prompt, request.negative, text, request.text, find)
            second = encode(hires.prompt, hires.negative, text, request.text, find) if hires else None
        return first, second, notes

    def _batch(self, pictures: range, first: Conditioning, second: Conditioning | None) -> Iterator[Event]:
        request = self.request
        noise = self._noise(pictures, request.size)
        denoiser, table = self.parts.diffusion.denoiser(request.denoise)
        course = passes.from_noise(request.denoise, table, self.parts.diffusion.alphas, noise)
        latents = yield from self._pass(self._guidance(denoiser, first, request.denoise, len(pictures)), course)
        if request.hires is not None and second is not None and not self._is_over():
            latents = yield from self._second_pass(latents, noise, pictures, second)
        for index, latent in zip(pictures, latents, strict=True):
            yield self._ready(index, latent)

    def _second_pass(
        self, latents: torch.Tensor, first_noise: NoiseSource, pictures: range, conditioning: Conditioning
    ) -> Latents:
        hires, diffusion = self.request.hires, self.parts.diffusion
        assert hires is not None
        latents = upscaled(latents, hires, self.parts.vae, first_noise.posterior)
        height, width = latents.shape[-2:]
        noise = self._noise(pictures, Size(width * 8, height * 8))
        denoiser, table = diffusion.denoiser(hires.denoise)
        course = passes.from_latent(hires.denoise, table, diffusion.alphas, noise, latents, hires.strength)
        guidance = self._guidance(denoiser, conditioning, hires.denoise, len(pictures))
        return (yield from self._pass(guidance, course, hires.denoise))

    def _pass(self, guidance: Guidance, course: passes.Course, denoise: Denoise | None = None) -> Latents:
        """Run one pass with its events; end it early when asked to."""
        number, self.pass_index = self.pass_index, self.pass_index + 1
        points = passes.Points(after_loop=(passes.check_numbers,))
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
                    return step.denoised if guidance.prompt_x0 is None else guidance.prompt_x0

    def _is_over(self) -> bool:
        """Tell whether this batch shall end now; a SKIP counts for the whole batch."""
        self.ended_early = self.control.take_skip() or self.ended_early
        return self.ended_early or self.control.stopped

    def _guidance(self, denoiser: Denoiser, conditioning: Conditioning, denoise: Denoise, batch: int) -> Guidance:
        scale = GuidanceScale(
            scale=denoise.cfg_scale * passes.sampler_of(denoise).scale_factor,
            min_uncond=denoise.min_uncond,
            min_uncond_all=denoise.min_uncond_all,
        )
        empty = None if conditioning.filler is None else conditioning.filler[None]
        return Guidance(denoiser, _prompts(conditioning, batch), scale, empty=empty)

    def _noise(self, pictures: range, size: Size) -> NoiseSource:
        shape = (LATENT_CHANNELS, size.height // 8, size.width // 8)
        return NoiseSource(self.request.seeds, pictures, shape, device=self.parts.placement.device)

    def _ready(self, index: int, latent: torch.Tensor) -> ImageReady:
        image = to_image(self.parts.vae.decode(latent))
        seed, variation = picture_seeds(self.request.seeds, index)
        return ImageReady(
            index=index, seed=seed, variation=variation, png=png(image), width=image.width, height=image.height
        )


def _prompts(conditioning: Conditioning, batch: int) -> Callable[[int], Prompts]:
    """Return what guidance asks at each call: the same prompts for all pictures of the batch."""

    def at(call: int) -> Prompts:
        found = conditioning.at(call)
        return Prompts(
            positive=Condition(found.parts.repeat(batch, 1, 1)),
            negative=Condition(found.negative.expand(batch, -1, -1)),
            weights=(found.weights,) * batch,
        )

    return at


def _words(tree: PromptTree) -> str:
    """Return all text of a prompt, to look for names of embeddings in."""
    return " ".join(
        piece.text for part in tree.parts for text in part.texts for piece in text.pieces if isinstance(piece, Span)
    )
