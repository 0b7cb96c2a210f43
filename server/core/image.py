"""What can be asked of a checkpoint, and the events that come back.

Every field is neutral: samplers and schedules are lower-case ids (the tables are in `server.engines.image`), seeds are
drawn before (no "-1 means random" here), and names of adapters come with the file they stand for.
"""

from typing import Literal

import msgspec

from server.core.prompt import PromptTree

NoiseSource = Literal["device", "cpu", "philox"]
Emphasis = Literal["original", "no_norm", "ignore", "none"]
ResizeMode = Literal["stretch", "crop", "fill", "latent"]
MaskedContent = Literal["fill", "original", "noise", "nothing"]
ControlMode = Literal["balanced", "prompt", "control"]
ControlFit = Literal["stretch", "crop", "fill"]
ControlPasses = Literal["both", "first", "second"]
FileKind = Literal["png", "jpeg", "webp"]


class Size(msgspec.Struct, frozen=True):
    """Pixels. Latents are `height // 8` by `width // 8`, so other sizes give a smaller picture."""

    width: int
    height: int


class FileFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How finished pictures are written. `quality` 1 ... 100 is for JPEG, and for WebP that is not `lossless`."""

    kind: FileKind = "png"
    quality: int = 80
    lossless: bool = False


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
    prompt out. `quantise_times` rounds model times to integers. `extra_noise` is put on top of where a pass begins with
    a picture, as a share of the noise that is there. `beta_alpha` and `beta_beta` are the shape of the schedule `beta`;
    with `scaled_start` a pass from noise begins with sqrt(1 + sigma^2) of it (as SGM does), and not with sigma.

    `distilled_scale` is for models that were trained to follow a guidance number: that number. None = `cfg_scale` is
    meant, and such a model is not guided by the negative prompt.
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
    extra_noise: float = 0.0
    beta_alpha: float = 0.6
    beta_beta: float = 0.6
    scaled_start: bool = False
    distilled_scale: float | None = None


class TextEncoding(msgspec.Struct, frozen=True, kw_only=True):
    """How prompts become conditioning. `clip_skip` 1 = last layer. `comma_backtrack` is in tokens, 0 = off.

    `pad_uncond` fills the shorter of prompt and negative prompt with chunks of the empty prompt. The rest is for SDXL:
    `clip_skip_first` lets clip skip count for its first text encoder, `crop_*` is the corner in pixels that the picture
    is said to be cut at, and the refiner is told a score for the prompt and one for the negative prompt.
    """

    clip_skip: int = 1
    emphasis: Emphasis = "original"
    comma_backtrack: int = 20
    pad_uncond: bool = False
    clip_skip_first: bool = False
    crop_top: int = 0
    crop_left: int = 0
    aesthetic: float = 6.0
    negative_aesthetic: float = 2.5


class UpscalerRef(msgspec.Struct, frozen=True, kw_only=True):
    """An upscaler's file, lent to a model; works on tiles of `tile` pixels that share `overlap` (0 = on the whole)."""

    name: str
    path: str
    tile: int = 192
    overlap: int = 8


class CheckpointRef(msgspec.Struct, frozen=True, kw_only=True):
    """The file of another checkpoint that takes part in a job."""

    name: str
    path: str


class Refiner(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that takes a pass over from the loaded one, before a model call, and keeps it to the pass's end.

    It does once the share of the noise schedule that is behind has reached `switch_at`: by the model's time at that
    noise level (1 - time / 999, about), or with `by_calls` by the share of model calls made. `passes` are those in
    which it acts when there is a second pass.
    """

    checkpoint: CheckpointRef
    switch_at: float = 0.0
    by_calls: bool = False
    passes: ControlPasses = "second"


class LoraRef(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA file with its weights for text encoder and UNet."""

    name: str
    path: str
    text_weight: float = 1.0
    unet_weight: float = 1.0


class HypernetworkRef(msgspec.Struct, frozen=True, kw_only=True):
    """A hypernetwork's file with the factor on what it adds."""

    name: str
    path: str
    multiplier: float = 1.0


class HiresPass(msgspec.Struct, frozen=True, kw_only=True):
    """A second pass at a larger size. `upscaler` is `latent`, `latent_bicubic`, ..., `lanczos`, `nearest`.

    `upscaler_file` is used in its place where it is given.
    The picture is scaled to `scale_to`, then latent cells beyond `size` are cut off, half on each side.
    `strength` 0 ... 1 is the share of noise put back; `denoise.steps` model steps are done. `checkpoint` takes the
    loaded one's place in it, `adapters` and `hypernetworks` those of the first pass; None = as there.
    """

    size: Size
    scale_to: Size
    upscaler: str
    strength: float
    denoise: Denoise
    prompt: PromptTree
    negative: PromptTree
    upscaler_file: UpscalerRef | None = None
    checkpoint: CheckpointRef | None = None
    adapters: tuple[LoraRef, ...] | None = None
    hypernetworks: tuple[HypernetworkRef, ...] | None = None


class SoftInpaint(msgspec.Struct, frozen=True, kw_only=True):
    """Inpainting that blends by the mask's shades at every step, and by what has changed at the end.

    `schedule_bias` is the power of sigma that the mask is raised to, times `preservation`; `contrast` is the power in
    which magnitudes of latents are mixed. What changed less than `difference_threshold` keeps its old pixels, more or
    less sharply by `difference_contrast`; `mask_influence` 0 ... 1 lets the mask scale that threshold.
    """

    schedule_bias: float = 1.0
    preservation: float = 0.5
    contrast: float = 4.0
    mask_influence: float = 0.0
    difference_threshold: float = 0.5
    difference_contrast: float = 2.0


class Inpaint(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a picture is made anew: white, or opaque where the file has transparency (`invert`: the rest).

    `mask` is a picture file. `blur_x`, `blur_y` are deviations in pixels, 0 = sharp. `content` is what noise is put on:
    the picture itself, its surroundings smeared in, noise alone, or nothing. `only_masked` works on the masked region
    with `padding` pixels around it, at the full size asked for, and pastes it back into the picture. `rounded` makes
    the mask of latents and of inpainting checkpoints all or nothing. `overlay` puts the old pixels back around the
    mask. `return_mask` and `return_composite` ask for further pictures: the mask, and the new part alone.
    `latent_mask` is a picture file that takes the mask's place in latents and where surroundings are smeared in, as it
    is: neither inverted nor blurred.
    """

    mask: bytes
    blur_x: float = 4.0
    blur_y: float = 4.0
    content: MaskedContent = "original"
    only_masked: bool = False
    padding: int = 0
    invert: bool = False
    rounded: bool = True
    overlay: bool = True
    soft: SoftInpaint | None = None
    return_mask: bool = False
    return_composite: bool = False
    latent_mask: bytes | None = None


class InitImages(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures that a job begins with: files, one for all pictures of a batch or one for each of them.

    `strength` is the share of noise put on them; `exact_steps` does all steps within that share instead of the last
    steps of a whole schedule. `resize` brings them to the request's size (`latent`: once they are encoded), enlarging
    by `upscaler` (`none` = Lanczos), or by `upscaler_file` where it is given. `background` is the colour behind
    transparent pixels (red, green, blue). `noise_multiplier` is a factor on the first noise. `match_colours` gives the
    result the colours of the picture it came from.

    For checkpoints that see the picture: `mask_weight` is how far the masked part is hidden from inpainting models,
    `picture_scale` how strongly pix2pix models follow the picture (None, 1 = as the prompt guides).
    """

    images: tuple[bytes, ...]
    strength: float
    exact_steps: bool = False
    resize: ResizeMode = "stretch"
    upscaler: str = "none"
    background: tuple[int, int, int] = (255, 255, 255)
    noise_multiplier: float = 1.0
    match_colours: bool = False
    mask_weight: float = 1.0
    picture_scale: float | None = None
    inpaint: Inpaint | None = None
    upscaler_file: UpscalerRef | None = None


class EmbeddingRef(msgspec.Struct, frozen=True, kw_only=True):
    """A textual inversion that prompts may name."""

    name: str
    path: str


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True):
    """How a picture becomes a map for a ControlNet (`server.engines.image.preprocess` has the table of modules).

    `resolution` is the map's short side in pixels. What the thresholds mean is the module's business. `seed` is for
    modules that throw dice. `file` is where the network of a module is that needs one.
    """

    module: str = "none"
    resolution: int = 512
    threshold_a: float = 0.0
    threshold_b: float = 0.0
    seed: int = 0
    file: str = ""


class ControlUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A control model at work: its file, the picture that it follows, when and how strongly.

    `image` None is the first picture of `InitImages`, with its mask and its way of resizing. `mask` marks what
    inpainting modules leave open; for other modules it takes the picture's place. `fit` brings the map to the size of
    the latents; `pixel_perfect` makes it at the resolution that needs no enlarging. `crop_to_mask` cuts it like the
    picture of an `only_masked` job.

    The unit acts in steps between the shares `start` and `end` of a pass, in the passes that `passes` names. `weight`
    is a factor on what it adds; the modes `prompt` and `control` weaken the coarser layers, and `control` leaves the
    negative prompt alone. `layer_weights` take the place of all that. `region` is a mask outside of which the unit
    does not act. `return_map` asks for the map beside the pictures.

    A model whose pictures an image encoder looks at (IP-Adapter) finds its encoder among the files `encoders`; with
    `more_images` it follows several pictures at once.
    """

    name: str
    path: str
    image: bytes | None = None
    mask: bytes | None = None
    preprocessing: Preprocessing = Preprocessing()
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    mode: ControlMode = "balanced"
    fit: ControlFit = "crop"
    pixel_perfect: bool = False
    passes: ControlPasses = "both"
    layer_weights: tuple[float, ...] = ()
    region: bytes | None = None
    crop_to_mask: bool = True
    return_map: bool = True
    more_images: tuple[bytes, ...] = ()
    encoders: tuple[str, ...] = ()


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True, tag="image"):
    """Pictures from a prompt: `batches` times `batch_size` of them.

    `vae` is a file whose VAE is used instead of the loaded one (a checkpoint's own file: that with which it came).
    `embeddings` are those that may occur in the prompts. `preview_every` model calls a small preview is made
    (0 = never). `file` is how the pictures are written; previews, maps and further pictures are always PNG.
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
    init: InitImages | None = None
    vae: str | None = None
    control: tuple[ControlUnit, ...] = ()
    adapters: tuple[LoraRef, ...] = ()
    embeddings: tuple[EmbeddingRef, ...] = ()
    hypernetworks: tuple[HypernetworkRef, ...] = ()
    tiling: bool = False
    preview_every: int = 0
    refiner: Refiner | None = None
    file: FileFormat = FileFormat()


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
    """A finished picture: number `index` (from 0) of the job, PNG bytes without text chunks.

    Where the request wants another format, `png` is empty and `file` has the picture, without texts too.
    `further` are the pictures that `Inpaint` asks for besides, as PNG.
    """

    index: int
    seed: int
    variation: int
    png: bytes
    width: int
    height: int
    further: tuple[bytes, ...] = ()
    file: bytes = b""

    @property
    def data(self) -> bytes:
        """Return the picture in the format that was asked for."""
        return self.file or self.png


class ImageFinished(msgspec.Struct, frozen=True, kw_only=True, tag="image_finished"):
    """The job's last event. `notes` tell the caller what was left out and why.

    `padded`: `TextEncoding.pad_uncond` acted, since the prompts were of different length. `blank_mask`: the mask masked
    nothing where only the masked part was wanted, so that it was left out. `maps` are those that control units return,
    as PNG. `refined`: the refiner took over at least once. `ignored` are fields of the request, in core's words, that
    have no meaning for the model.
    """

    reason: Literal["complete", "stopped"]
    notes: tuple[str, ...] = ()
    padded: bool = False
    blank_mask: bool = False
    maps: tuple[bytes, ...] = ()
    refined: bool = False
    ignored: tuple[str, ...] = ()


ImageEvent = ImageStarted | StepDone | Preview | ImageReady | ImageFinished
