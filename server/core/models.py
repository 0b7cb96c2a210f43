"""What a model is (its card, read from headers and config) and how it is to be loaded."""

from enum import StrEnum
from typing import NewType

import msgspec

from server.core.memory import Footprint

ModelId = NewType("ModelId", str)

LARGEST_RESULT = 256 * 1024 * 1024
"""Pixels of an enlarged picture, at most: its file always fits in one message from a worker."""


class ModelKind(StrEnum):
    """What a file is for.

    TEXT, CHECKPOINT, UPSCALER and ANNOTATOR (networks that draw maps) can be loaded by themselves, the others are parts
    for a checkpoint, but for TEXT_LORA and PROJECTOR (eyes), which are parts for a text model.
    """

    TEXT = "text"
    TEXT_LORA = "text_lora"
    PROJECTOR = "projector"
    CHECKPOINT = "checkpoint"
    VAE = "vae"
    LORA = "lora"
    EMBEDDING = "embedding"
    HYPERNETWORK = "hypernetwork"
    CONTROLNET = "controlnet"
    IMAGE_ENCODER = "image_encoder"
    UPSCALER = "upscaler"
    ANNOTATOR = "annotator"
    PREVIEW = "preview"


class Runtime(StrEnum):
    """Which engine runs a card; `server.engines` maps each to its loader."""

    LLAMA_CPP = "llama_cpp"
    DIFFUSION = "diffusion"
    UPSCALER = "upscaler"
    ANNOTATOR = "annotator"
    PIXELS = "pixels"
    FAKE_TEXT = "fake_text"
    FAKE_IMAGE = "fake_image"


class TextFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Figures from a GGUF header; 0 or empty when the header does not say.

    `pooling` tells how a model makes one vector of a text (`mean`, `cls`, `last`), or that it scores documents
    (`rank`); a model that writes text has none. `container` is what the file is when it is no GGUF (`ggjt v3`): then it
    is converted before it is loaded, and its weights take `weights` bytes instead of the file's own.
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
    container: str = ""
    weights: int = 0


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint's header tells: family (`sd1`, `sd2`, `sdxl`, `flux`, ...), parts and precision.

    `bytes_*` are the sizes of the parts in the file. `token_width` are the channels of a transformer that stands in the
    UNet's place, 0 = there is none, or nobody says. `distilled` tells that it was trained to follow a guidance number.
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
    token_width: int = 0
    distilled: bool = False


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a model *is*: a value that never holds a process.

    `id` is unique among all cards that can be loaded. `name` is the path relative to its models folder with extension
    (`sub/deliberate_v2.safetensors`); `aliases` are further names that find it. `files[0]` is the main file (absolute).
    `broken` is the reason why it cannot be loaded, None when it can. `sha256` is the whole file's, None until known.
    `short_hashes` are prefixes by which other programs name the file. `modified` is Unix seconds.
    `metadata` holds strings of the header that dialects show (a LoRA's `ss_*` keys, GGUF's `general.*`). `projector` is
    the file by which a text model sees pictures (absolute), empty when there is none. `converted` is the GGUF file
    (absolute) that is made of a model in an older container before it is loaded, empty for models that need none.
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
    projector: str = ""
    converted: str = ""

    @property
    def stem(self) -> str:
        """Return the file name without folder and extension."""
        tail = self.name.replace("\\", "/").rsplit("/", 1)[-1]
        return tail.rsplit(".", 1)[0] if "." in tail else tail


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA adapter for a text model. `scale` holds for requests that name none; 0 = it waits for one that does.

    `file` is where it is; empty = where the registry knows an adapter of that name. `problem` is why it cannot be used,
    as far as the registry knows.
    """

    name: str
    scale: float = 0.0
    file: str = ""
    problem: str = ""


class TextSettings(msgspec.Struct, frozen=True, kw_only=True, tag="text_settings"):
    """How to load a text model.

    `context` tokens for each of `slots` parallel requests (0 = the model's own, capped by `context_cap`); `batch`
    tokens per prefill step; `gpu_layers` -1 = all that the library can offload; `threads` 0 = physical cores.
    `speculation` lets the engine guess tokens from the text so far where that measures faster and changes nothing of
    what is said.

    `kv_type_k` and `kv_type_v` hold for one half of the cache in place of `kv_type`. `split_mode` is how layers are
    spread over accelerators (`layer`, `row`, `tensor`, `none` = all on `main_gpu`), `tensor_split` in which proportion
    (empty = by their memory). `use_mmap` maps the file instead of reading it, `use_mlock` keeps it from being swapped
    out. Positions: `rope_scaling` is `none`, `linear`, `yarn`, `longrope` or empty = what the file says, as is 0 for
    the other `rope_` keys and for `yarn_original_context`, the context that the model was trained for. `loras` are the
    adapters that requests may name, None = those that fit and lie in the model's folder or in `lora/` in it.

    `draft` is a small model of the same vocabulary, by its name or file, that guesses up to `draft_tokens` tokens at a
    time; it takes memory of its own, and part only with `speculation`.

    `mmproj` is the projector by which the model sees pictures: a file, `none`, or empty = the one that lies beside the
    model and is named after it.

    `chat_template` is how conversations become prompts: the name of a form (see `CHAT_FORMS`), a file with a Jinja
    template, or empty = what the model's file says, else the form that its name or vocabulary suggests. `norm_epsilon`
    replaces the epsilon of the model's RMS norms, 0 = what the file says.

    `slots_dir` is the folder in which the caches of slots are kept when that is asked for, empty = they are not.
    """

    context: int = 0
    context_cap: int = 8192
    slots: int = 8
    batch: int = 512
    threads: int = 0
    gpu_layers: int = -1
    flash_attention: bool = True
    kv_type: str = "f16"
    kv_type_k: str = ""
    kv_type_v: str = ""
    speculation: bool = True
    split_mode: str = "layer"
    main_gpu: int = 0
    tensor_split: tuple[float, ...] = ()
    use_mmap: bool = True
    use_mlock: bool = False
    rope_scaling: str = ""
    rope_frequency_base: float = 0.0
    rope_frequency_scale: float = 0.0
    yarn_original_context: int = 0
    loras: tuple[str | Adapter, ...] | None = None
    mmproj: str = ""
    draft: str = ""
    draft_tokens: int = 15
    chat_template: str = ""
    norm_epsilon: float = 0.0
    slots_dir: str = ""


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
    where it runs, 0 = what is there. `preview_decoder` is a file of the TAESD kind that previews are made with. `warm`
    keeps a spare worker for the next checkpoint, which has imported all that takes time and has memory for its weights.
    `largest_result` is how many pixels a picture may have once it is enlarged.
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
    warm: bool = True
    largest_result: int = LARGEST_RESULT


LoadSettings = TextSettings | ImageSettings


class AdapterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter of a text model as it stands: `problem` is why it cannot be used, None when it can."""

    name: str
    scale: float = 0.0
    problem: str | None = None


class LoadedFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker reports once its model is ready.

    `slots` is how many jobs it takes at a time; `context` tokens per slot (0 for images); `footprint` is measured.
    `adapters` are those of a text model, in the order in which requests count them; `sees` tells that it
    takes pictures.
    """

    slots: int
    footprint: Footprint
    context: int = 0
    device: str = "cpu"
    dtype: str = ""
    adapters: tuple[AdapterFacts, ...] = ()
    sees: bool = False
