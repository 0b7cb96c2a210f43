"""What making a picture takes besides the weights: bytes from family, size, batch and precision. Pure.

Activations that live at once were counted tensor by tensor for the published architectures (diffusers 0.42, attention
that keeps no scores); they grow with pixels alone. In values for each pixel and channel of the finest level:

| part | values | at the published width |
|---|---|---|
| UNet of SD1, SD2, for each row of a call and latent cell | 26.1 | 8,330 of 320 channels |
| UNet of SDXL, its refiner | 15.9 | 5,080 of 320, 6,070 of 384 |
| VAE decoder, for each pixel | 6.0 | 768 of 128 |
| VAE encoder, for each pixel | 5.0 | 640 of 128 |
| transformer, for each row of a call and token | 27 ... 29, taken as 30 | of its own width |

A process takes more than its tensors. On a CPU in float32, pictures of 64, 128 and 512 pixels were seen to take, with
SD1's widths, 198 MiB, 205 MiB and 2.1 GiB; with 32 channels those of 64, 256 and 512 took 39, 85 and 237 MiB. Hence
a constant, the copy of the largest convolution's weights that a call makes (`LARGEST_KERNEL`), and the count with an
overhead that wide layers have.
"""

from typing import Literal

import msgspec

from server.core.errors import LoadFailed
from server.core.memory import MIB
from server.core.models import ImageSettings

CELL_PIXELS = 64
"""Pixels of a latent cell."""

UNET_VALUES = {"sd1": 26.1, "sd2": 26.1, "sdxl": 15.9, "sdxl_refiner": 15.9}
DECODER_VALUES = 6.0
ENCODER_VALUES = 5.0
MIDDLE_VALUES = 0.19
"""Values of the decoder's part at the size of latents, for each pixel: three tensors of four times the width a cell."""

TOKEN_VALUES = 30.0
"""Of a transformer, for each token and channel of its width: a block's queries, keys, values and its wide middle."""

TOKEN_PIXELS = 256
TEXT_TOKENS = 512
"""Pixels that a token of a transformer stands for, and tokens of text that stand beside them."""

LARGE_PIXELS = 1024 * 1024
"""Pixels of a usual picture of families that are not listed in `PIXELS`."""

UNET_WIDTHS = {"sd1": 320, "sd2": 320, "sdxl": 320, "sdxl_refiner": 384}
VAE_WIDTH = 128

PIXELS = {"sd1": 512 * 512, "sd2": 512 * 512, "sdxl": 1024 * 1024, "sdxl_refiner": 1024 * 1024}
"""Pixels that each family was trained on: what is reserved before anything is asked."""

OVERHEAD_CPU = 2.55
OVERHEAD_DEVICE = 1.4
"""How much more than its tensors a process takes: on a CPU at the published widths, narrower models less; on a device
this is the allocator's slack and is not measured."""

TILE_PIXELS = 512 * 512
FINISHED_BYTES = 48
"""Bytes for each pixel of a picture and its weights while tiles are joined, as floats, as an image and as PNG."""

SMALLEST = 64 * MIB
"""What a job takes at any size: the first one of a process makes tables and buffers that stay (37 MiB were seen)."""

LARGEST_KERNEL = 2560 * 1280 * 3 * 3
"""Weights of a published UNet's largest convolution. On a CPU a convolution's weights are rearranged for each call."""

Offload = Literal["none", "medium", "low"]

MODES: dict[str, Offload | None] = {
    "auto": None,
    "high": "none",
    "none": "none",
    "medium": "medium",
    "low": "low",
}
"""Words for memory modes."""

LARGEST_BLOCK = 0.47
"""Share of a UNet's weights that its largest block has (SDXL; SD1 0.3)."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over one batch: `rows` of a UNet call (prompt and negative prompt of each picture) at so many pixels.

    `unet_bytes` and `vae_bytes` are bytes a value, `unet_width` and `vae_width` channels at the finest level.
    `token_width` are the channels of a transformer that stands in the UNet's place, 0 = there is a UNet.
    """

    family: str
    pixels: int
    rows: int = 2
    unet_bytes: int = 4
    vae_bytes: int = 4
    unet_width: int = 0
    vae_width: int = VAE_WIDTH
    on_cpu: bool = True
    token_width: int = 0


def denoise_bytes(work: Workload) -> int:
    """Return what a call of the UNet, or of the transformer in its place, takes."""
    if work.token_width:
        tokens = work.pixels / TOKEN_PIXELS + TEXT_TOKENS
        return _with_overhead(TOKEN_VALUES * work.token_width * work.rows * tokens * work.unet_bytes, work)
    family = work.family if work.family in UNET_VALUES else "sdxl"
    width = work.unet_width or UNET_WIDTHS[family]
    values = UNET_VALUES[family] * width * work.rows * work.pixels / CELL_PIXELS
    return _with_overhead(values * work.unet_bytes, work)


def decode_bytes(work: Workload) -> int:
    """Return what decoding one picture takes in one piece."""
    return _with_overhead(DECODER_VALUES * work.vae_width * work.pixels * work.vae_bytes, work)


def encode_bytes(work: Workload) -> int:
    """Return what encoding one picture takes."""
    return _with_overhead(ENCODER_VALUES * work.vae_width * work.pixels * work.vae_bytes, work)


def tiled_decode_bytes(work: Workload) -> int:
    """Return what decoding one picture takes in tiles."""
    tile = min(work.pixels, TILE_PIXELS)
    values = (DECODER_VALUES * tile + MIDDLE_VALUES * work.pixels) * work.vae_width
    return _with_overhead(values * work.vae_bytes, work)


def job_bytes(work: Workload, *, encodes: bool = False, tiles: bool = True) -> int:
    """Return the most that a job takes at once; with `tiles` a decode that is larger than the rest is cut up."""
    decode = min(decode_bytes(work), tiled_decode_bytes(work)) if tiles else decode_bytes(work)
    largest = max(denoise_bytes(work), decode, encode_bytes(work) if encodes else 0)
    if not work.on_cpu:
        return max(SMALLEST, largest)
    return SMALLEST + _rearranged_bytes(work) + largest + FINISHED_BYTES * work.pixels


def asked_offload(settings: ImageSettings, family: str) -> Offload | None:
    """Return the memory mode that the settings name for a family, None for `auto`; LoadFailed for another word."""
    word = settings.offload
    if settings.sdxl_offload and family.startswith("sdxl"):
        word = settings.sdxl_offload
    if word not in MODES:
        raise LoadFailed(f"unknown memory mode {word!r}; known are {', '.join(MODES)}")
    return MODES[word]


def choose_offload(parts: tuple[int, ...], working: int, free: int) -> Offload:
    """Return the memory mode in which a model fits into `free` bytes of a device: the fastest one, else `low`.

    `parts` are the bytes of UNet, VAE and text encoders; `working` is what a picture takes.
    """
    if sum(parts) + working <= free:
        return "none"
    return "medium" if max(parts, default=0) + working <= free else "low"


def seated_bytes(parts: tuple[int, ...], offload: Offload) -> int:
    """Return how many bytes of weights a device holds at once; `parts` begin with the UNet."""
    match offload:
        case "none":
            return sum(parts)
        case "medium":
            return max(parts, default=0)
        case "low":
            return max((int(parts[0] * LARGEST_BLOCK), *parts[1:])) if parts else 0


def _rearranged_bytes(work: Workload) -> int:
    """Return the second copy of the largest convolution's weights that a UNet's call makes on a CPU."""
    if work.token_width:
        return 0
    published = UNET_WIDTHS.get(work.family, UNET_WIDTHS["sdxl"])
    return int(LARGEST_KERNEL * ((work.unet_width or published) / published) ** 2 * work.unet_bytes)


def _with_overhead(count: float, work: Workload) -> int:
    if not work.on_cpu:
        return int(count * OVERHEAD_DEVICE)
    return int(count * (1 + (OVERHEAD_CPU - 1) * min(1.0, work.vae_width / VAE_WIDTH)))
