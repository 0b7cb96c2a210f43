"""What can be asked of a checkpoint, and the events that come back.

Every field is neutral: samplers and schedules are lower-case ids (the tables are in `server.engines.image`), seeds are
drawn before (no "-1 means random" here), and names of adapters come with the file they stand for.
"""

from typing import Literal

import msgspec

from server.core.prompt import PromptTree

NoiseSource = Literal["device", "cpu", "philox"]
Emphasis = Literal["original", "no_norm", "ignore", "none"]


class Size(msgspec.Struct, frozen=True):
    """Pixels. Latents are `height // 8` by `width // 8`, so other sizes give a smaller picture."""

    width: int
    height: int


class Seeds(msgspec.Struct, frozen=True, kw_only=True):
    """Where noise comes from. Picture k uses `first + k`, or `first` for all when `variation_strength` is not 0.

    Its variation noise uses `variation + k`, mixed in by slerp with `variation_strength` 0 ... 1. `resize_from` draws
    at another size first. `later_delta` is added to the seed for all draws after the first (A1111's ENSD).
    """

    first: int
    variation: int = 0
    variation_strength: float = 0.0
    resize_from: Size | None = None
    source: NoiseSource = "device"
    later_delta: int = 0


class Denoise(msgspec.Struct, frozen=True, kw_only=True):
    """How noise is removed.

    `sampler`: euler, euler_a, heun, dpmpp_2m, ...; `schedule`: uniform, karras, exponential, ... (already resolved).
    `eta` None = the sampler's default. `churn`, `tmin`, `tmax` (0 = unlimited) and `noise` as in k-diffusion.
    `sigma_min`, `sigma_max`, `rho` 0 = the schedule's own. `discard_next_to_last` drops the last but one sigma.
    Below the sigma `min_uncond` every second model call (or every one, with `min_uncond_all`) leaves the negative
    prompt out. `quantise_times` rounds model times to integers.
    """

    sampler: str = "euler"
    schedule: str = "uniform"
    steps: int = 20
    cfg_scale: float = 7.0
    eta: float | None = None
    churn: float = 0.0
    tmin: float = 0.0
    tmax: float = 0.0
    noise: float = 1.0
    sigma_min: float = 0.0
    sigma_max: float = 0.0
    rho: float = 0.0
    discard_next_to_last: bool = False
    min_uncond: float = 0.0
    min_uncond_all: bool = False
    quantise_times: bool = False


class TextEncoding(msgspec.Struct, frozen=True, kw_only=True):
    """How prompts become conditioning. `clip_skip` 1 = last layer. `comma_backtrack` is in tokens, 0 = off.

    `pad_uncond` fills the shorter of prompt and negative prompt with chunks of the empty prompt.
    """

    clip_skip: int = 1
    emphasis: Emphasis = "original"
    comma_backtrack: int = 20
    pad_uncond: bool = False


class HiresPass(msgspec.Struct, frozen=True, kw_only=True):
    """A second pass at a larger size. `upscaler` is `latent`, `latent_bicubic`, ..., `lanczos`, `nearest`.

    The picture is scaled to `scale_to`, then latent cells beyond `size` are cut off, half on each side.
    `strength` 0 ... 1 is the share of noise put back; `denoise.steps` model steps are done.
    """

    size: Size
    scale_to: Size
    upscaler: str
    strength: float
    denoise: Denoise
    prompt: PromptTree
    negative: PromptTree


class LoraRef(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA file with its weights for text encoder and UNet."""

    name: str
    path: str
    text_weight: float = 1.0
    unet_weight: float = 1.0


class EmbeddingRef(msgspec.Struct, frozen=True, kw_only=True):
    """A textual inversion that prompts may name."""

    name: str
    path: str


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True, tag="image"):
    """Pictures from a prompt: `batches` times `batch_size` of them.

    `embeddings` are those that may occur in the prompts. `preview_every` model calls a small preview is made
    (0 = never).
    """

    model: str
    prompt: PromptTree
    negative: PromptTree
    size: Size
    seeds: Seeds
    denoise: Denoise = Denoise()
    text: TextEncoding = TextEncoding()
    batch_size: int = 1
    batches: int = 1
    hires: HiresPass | None = None
    adapters: tuple[LoraRef, ...] = ()
    embeddings: tuple[EmbeddingRef, ...] = ()
    tiling: bool = False
    preview_every: int = 0


class ImageStarted(msgspec.Struct, frozen=True, kw_only=True, tag="image_started"):
    """The request is valid and work begins. First event of an image job. A hires pass counts as a pass of its own."""

    passes: int
    steps: int


class StepDone(msgspec.Struct, frozen=True, kw_only=True, tag="step_done"):
    """One denoise step is done: `step` of `steps` (from 1) in pass `pass_index` (from 0)."""

    pass_index: int
    step: int
    steps: int


class Preview(msgspec.Struct, frozen=True, kw_only=True, tag="preview"):
    """A rough look at the running batch, as PNG."""

    pass_index: int
    png: bytes


class ImageReady(msgspec.Struct, frozen=True, kw_only=True, tag="image_ready"):
    """A finished picture: number `index` (from 0) of the job, PNG bytes without text chunks."""

    index: int
    seed: int
    variation: int
    png: bytes
    width: int
    height: int


class ImageFinished(msgspec.Struct, frozen=True, kw_only=True, tag="image_finished"):
    """The job's last event. `notes` tell the caller what was left out and why.

    `padded`: `TextEncoding.pad_uncond` acted, since the prompts were of different length.
    """

    reason: Literal["complete", "stopped"]
    notes: tuple[str, ...] = ()
    padded: bool = False


ImageEvent = ImageStarted | StepDone | Preview | ImageReady | ImageFinished
