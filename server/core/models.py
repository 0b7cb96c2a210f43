"""What a model is (its card, read from headers and config) and how it is to be loaded."""

from enum import StrEnum
from typing import NewType

import msgspec

from server.core.memory import Footprint

ModelId = NewType("ModelId", str)


class ModelKind(StrEnum):
    """What a file is for.

    TEXT, CHECKPOINT and UPSCALER can be loaded by themselves, the others are parts for a checkpoint.
    """

    TEXT = "text"
    CHECKPOINT = "checkpoint"
    VAE = "vae"
    LORA = "lora"
    EMBEDDING = "embedding"
    HYPERNETWORK = "hypernetwork"
    CONTROLNET = "controlnet"
    UPSCALER = "upscaler"
    PREVIEW = "preview"


class Runtime(StrEnum):
    """Which engine runs a card; `server.engines` maps each to its loader."""

    LLAMA_CPP = "llama_cpp"
    DIFFUSION = "diffusion"
    UPSCALER = "upscaler"
    PIXELS = "pixels"
    FAKE_TEXT = "fake_text"
    FAKE_IMAGE = "fake_image"


class TextFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Figures from a GGUF header; 0 or empty when the header does not say.

    `pooling` tells how a model makes one vector of a text (`mean`, `cls`, `last`), or that it scores documents
    (`rank`); a model that writes text has none.
    """

    context_length: int = 0
    layers: int = 0
    width: int = 0
    heads: int = 0
    kv_heads: int = 0
    key_length: int = 0
    value_length: int = 0
    vocabulary: int = 0
    parameters: int = 0
    quantisation: str = ""
    has_chat_template: bool = False
    pooling: str = ""


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint's header tells: family (`sd1`, `sd2`, `sdxl`, ...), parts and precision.

    `bytes_*` are the sizes of the parts in the file.
    """

    family: str = ""
    in_channels: int = 4
    context_width: int = 0
    dtype: str = ""
    has_vae: bool = True
    has_text_encoder: bool = True
    bytes_unet: int = 0
    bytes_vae: int = 0
    bytes_text_encoder: int = 0


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a model *is*: a value that never holds a process.

    `id` is unique among all cards that can be loaded. `name` is the path relative to its models folder with extension
    (`sub/deliberate_v2.safetensors`); `aliases` are further names that find it. `files[0]` is the main file (absolute).
    `broken` is the reason why it cannot be loaded, None when it can. `sha256` is the whole file's, None until known.
    `short_hashes` are prefixes by which other programs name the file. `modified` is Unix seconds.
    `metadata` holds strings of the header that dialects show (a LoRA's `ss_*` keys, GGUF's `general.*`).
    """

    id: ModelId
    name: str
    kind: ModelKind
    files: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    runtime: Runtime | None = None
    architecture: str = ""
    size: int = 0
    modified: int = 0
    broken: str | None = None
    sha256: str | None = None
    short_hashes: tuple[str, ...] = ()
    text: TextFacts | None = None
    image: ImageFacts | None = None
    metadata: dict[str, str] = {}

    @property
    def stem(self) -> str:
        """Return the file name without folder and extension."""
        tail = self.name.replace("\\", "/").rsplit("/", 1)[-1]
        return tail.rsplit(".", 1)[0] if "." in tail else tail


class TextSettings(msgspec.Struct, frozen=True, kw_only=True, tag="text_settings"):
    """How to load a text model.

    `context` tokens for each of `slots` parallel requests (0 = the model's own, capped by `context_cap`); `batch`
    tokens per prefill step; `gpu_layers` -1 = all that the library can offload; `threads` 0 = physical cores.
    `speculation` lets the engine guess tokens from the text so far where that measures faster; off by default, since
    llama.cpp rounds differently for one token and for several, which may tip a near tie.
    """

    context: int = 0
    context_cap: int = 8192
    slots: int = 8
    batch: int = 512
    threads: int = 0
    gpu_layers: int = -1
    flash_attention: bool = True
    kv_type: str = "f16"
    speculation: bool = False


class ImageSettings(msgspec.Struct, frozen=True, kw_only=True, tag="image_settings"):
    """How to load a checkpoint.

    `device` is `auto`, `cpu`, `cuda`, `cuda:1`, `xpu`, `mps`; `dtype` is `auto`, `float32`, `float16`, `bfloat16`
    (`auto`: float16 on accelerators, on a CPU bfloat16 where it multiplies that by itself, else float32); `vae_dtype`
    `auto` is the same; `threads` 0 = the library's choice. `vae` is a file that replaces the checkpoint's own VAE.
    `allow_pickle` lets `.ckpt` files be read (weights only). `offload` is `none` (or `high`: all parts stay on the
    device), `medium` (one part at a time), `low` (one block of the UNet at a time), or `auto`: what fits;
    `sdxl_offload` holds for SDXL models in its place. `spares` maps a family (`sd1`, `sd2`, `sdxl`, `sdxl_refiner`) to
    a checkpoint that lends the VAE or text encoder which another one lacks. `memory_limit` is how many bytes the model
    and one job may take together
    where it runs, 0 = what is there. `preview_decoder` is a file of the TAESD kind that previews are made with.
    """

    device: str = "auto"
    dtype: str = "auto"
    vae_dtype: str = "auto"
    threads: int = 0
    vae: str | None = None
    allow_pickle: bool = False
    offload: str = "auto"
    sdxl_offload: str = ""
    spares: dict[str, str] = {}
    memory_limit: int = 0
    preview_decoder: str | None = None


LoadSettings = TextSettings | ImageSettings


class LoadedFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker reports once its model is ready.

    `slots` is how many jobs it takes at a time; `context` tokens per slot (0 for images); `footprint` is measured.
    """

    slots: int
    footprint: Footprint
    context: int = 0
    device: str = "cpu"
    dtype: str = ""
