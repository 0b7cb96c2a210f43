"""How much memory a card will need once it is loaded: an estimate from header and settings. Pure.

It errs on the large side; the worker's own measurement replaces it after the first load.
"""

from collections.abc import Mapping, Sequence
from math import sqrt

import msgspec

from server.core.image_memory import (
    LARGE_PIXELS,
    PIXELS,
    UNET_WIDTHS,
    VAE_WIDTH,
    Workload,
    asked_offload,
    choose_offload,
    job_bytes,
    seated_bytes,
)
from server.core.memory import MIB, RAM, DeviceProfile, Footprint, PoolId, add
from server.core.models import (
    ImageFacts,
    ImageSettings,
    LoadSettings,
    ModelCard,
    ModelKind,
    Runtime,
    TextFacts,
    TextSettings,
)
from server.core.text_settings import DRAFT_STREAMS, kv_types

# Bytes for a value of the KV cache (the quantised types store blocks of 32 with their scale).
KV_BYTES: Mapping[str, float] = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}

TEXT_PROCESS = 96 * MIB  # Python, llama.cpp's libraries and small tables; measured
IMAGE_PROCESS = 512 * MIB  # torch, diffusers and transformers as imported: 361 MiB measured, and their caches
PIXELS_PROCESS = 96 * MIB  # Python with Pillow and NumPy
UPSCALER_PICTURES = 512 * MIB  # a picture before and after, as bytes and as floats
UPSCALER_TILE = 512 * MIB  # activations of one tile in float32
ANNOTATOR_WORKING = 1536 * MIB  # activations of a network that draws maps, and its picture
GPU_CONTEXT = 400 * MIB  # what a CUDA context takes on the device
ACTIVATIONS = 12  # float32 rows of the model's width that live at once in a step of llama.cpp
LONGEST_WITH_SCORES = 2048  # tokens up to which embeddings are computed without flash attention

DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
FILE_DTYPES: Mapping[str, str] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
FILE_BYTES: Mapping[str, int] = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


WEIGHTS: Mapping[str, int] = {
    "sd1": 860_000_000,
    "sd2": 866_000_000,
    "sdxl": 2_567_000_000,
    "sdxl_refiner": 2_260_000_000,
}
"""Weights of each family's published UNet. Activations grow with a model's width, weights with its square."""

VAE_WEIGHTS = 84_000_000
"""Weights of the published VAE of all these families."""

FREE_SHARE = 0.95  # of a device's memory; the rest is the system's


def estimate(
    card: ModelCard, settings: LoadSettings, devices: Sequence[DeviceProfile], *, more_bytes: int = 0
) -> Footprint:
    """Return the bytes per pool of a card loaded with these settings on this machine.

    `more_bytes` is the size of what is loaded beside it: the file that replaces the checkpoint's VAE, or the adapters
    of a text model.
    """
    if isinstance(settings, TextSettings):
        return _text(card, settings, devices, more_bytes)
    if card.kind is ModelKind.UPSCALER:
        return _upscaler(card, settings, devices)
    if card.kind is ModelKind.ANNOTATOR:
        return _annotator(card, settings, devices)
    return _image(card, settings, devices, more_bytes)


def pool_of(settings: ImageSettings, devices: Sequence[DeviceProfile]) -> PoolId:
    """Return the pool of memory in which pictures are computed with these settings."""
    place = _chosen(settings, devices)
    return RAM if place is None or place.backend == "cpu" else place.pool


def kv_cache_bytes(facts: TextFacts, settings: TextSettings) -> int:
    """Return the size of the KV cache of all slots: per token, layer and KV head one key and one value.

    Models that make embeddings compute all texts of a call in one cache.
    """
    slots = 1 if facts.pooling else settings.slots
    keys, values = (KV_BYTES.get(kind, KV_BYTES["f32"]) for kind in kv_types(settings))
    per_token = facts.layers * facts.kv_heads * (facts.key_length * keys + facts.value_length * values)
    return int(per_token * context_per_slot(facts, settings) * slots)


def draft_cache_bytes(facts: TextFacts, settings: TextSettings) -> int:
    """Return the size of the KV cache of a model that guesses for one that is loaded with these settings."""
    own = msgspec.structs.replace(settings, slots=min(settings.slots, DRAFT_STREAMS))
    return kv_cache_bytes(facts, own)


def context_per_slot(facts: TextFacts, settings: TextSettings) -> int:
    """Return how many tokens each slot holds: as set, else the model's own up to the cap."""
    if settings.context:
        return settings.context
    return min(facts.context_length or settings.context_cap, settings.context_cap)


def compute_buffer_bytes(facts: TextFacts, settings: TextSettings) -> int:
    """Return the size of llama.cpp's compute buffer for one micro-batch.

    Logits and activations of every token in float32, and the attention mask; without flash attention also the scores
    of all heads. Models that make embeddings compute a text in one piece, and no logits.
    """
    context = context_per_slot(facts, settings)
    batch = context if facts.pooling else settings.batch
    rows = 4 * ((0 if facts.pooling else facts.vocabulary) + ACTIVATIONS * facts.width)
    flash = settings.flash_attention and not (facts.pooling and context <= LONGEST_WITH_SCORES)
    attention = 2 * context if flash else 4 * context * (1 + facts.heads)
    return batch * (rows + attention)


def _text(card: ModelCard, settings: TextSettings, devices: Sequence[DeviceProfile], more_bytes: int) -> Footprint:
    facts = card.text or TextFacts()
    moving = (facts.weights or card.size) + kv_cache_bytes(facts, settings)
    compute = compute_buffer_bytes(facts, settings)
    places = [device for device in devices if device.backend != "cpu"]
    share = _offloaded_share(facts, settings) if places else 0.0
    on_device = int((moving + more_bytes) * share)
    resident: list[Mapping[PoolId, int]] = [{RAM: TEXT_PROCESS + moving + more_bytes - on_device}]
    if not on_device:
        return Footprint(resident=add(resident), working={RAM: compute})
    shares = _shares(settings, places)
    resident.append(_spread(on_device, places, shares))
    resident += [{device.pool: GPU_CONTEXT} for device in places]
    return Footprint(resident=add(resident), working=_spread(compute, places, shares))


def _offloaded_share(facts: TextFacts, settings: TextSettings) -> float:
    """Return the share of layers (the output layer counts as one) that goes to devices."""
    layers = facts.layers + 1
    if settings.gpu_layers < 0:
        return 1.0
    return min(settings.gpu_layers, layers) / layers


def _shares(settings: TextSettings, places: Sequence[DeviceProfile]) -> list[float]:
    """Return what each device gets of a model, in any unit: all of it on one, as is set, or by the devices' memory."""
    if settings.split_mode == "none":
        return [float(index == settings.main_gpu) for index in range(len(places))]
    if settings.tensor_split:
        given = settings.tensor_split[: len(places)]
        return [*given, *[0.0] * (len(places) - len(given))]
    return [float(device.total) for device in places]


def _spread(count: int, places: Sequence[DeviceProfile], shares: Sequence[float]) -> dict[PoolId, int]:
    """Divide bytes over devices in these proportions; all on the first when those say nothing."""
    total = sum(shares)
    if not total:
        return {places[0].pool: count}
    return add([{device.pool: int(count * share / total)} for device, share in zip(places, shares, strict=True)])


def _image(card: ModelCard, settings: ImageSettings, devices: Sequence[DeviceProfile], vae_bytes: int) -> Footprint:
    place = _chosen(settings, devices)
    width, vae_width, on_device = _widths(settings, devices)
    facts = card.image or ImageFacts()
    parts = _parts(card, facts, width, vae_width, vae_bytes)
    working = job_bytes(_usual(facts, width, vae_width, on_cpu=not on_device), tiles=False)
    if place is None or not on_device:
        return Footprint(resident={RAM: IMAGE_PROCESS + sum(parts)}, working={RAM: working})
    resident: list[Mapping[PoolId, int]] = [{RAM: 2 * IMAGE_PROCESS}, {place.pool: GPU_CONTEXT}]
    free = int(place.total * FREE_SHARE) - GPU_CONTEXT
    offload = asked_offload(settings, facts.family) or choose_offload(parts, working, free)
    if offload == "none":
        resident.append({place.pool: sum(parts)})
        return Footprint(resident=add(resident), working={place.pool: working})
    resident.append({RAM: sum(parts)})
    return Footprint(resident=add(resident), working={place.pool: working + seated_bytes(parts, offload)})


def _upscaler(card: ModelCard, settings: ImageSettings, devices: Sequence[DeviceProfile]) -> Footprint:
    """Return what a worker of an upscaler holds: its weights in float32 (files mostly have float16), a tile, pictures.

    The built-in one has no weights, no torch, and works in RAM alone.
    """
    if card.runtime is Runtime.PIXELS:
        return Footprint(resident={RAM: PIXELS_PROCESS}, working={RAM: UPSCALER_PICTURES})
    weights = 2 * card.size
    place = _chosen(settings, devices)
    if place is None or place.backend == "cpu":
        return Footprint(resident={RAM: IMAGE_PROCESS + weights}, working={RAM: UPSCALER_PICTURES + UPSCALER_TILE})
    resident: list[Mapping[PoolId, int]] = [{RAM: 2 * IMAGE_PROCESS}, {place.pool: GPU_CONTEXT + weights}]
    return Footprint(resident=add(resident), working=add([{RAM: UPSCALER_PICTURES}, {place.pool: UPSCALER_TILE}]))


def _annotator(card: ModelCard, settings: ImageSettings, devices: Sequence[DeviceProfile]) -> Footprint:
    """Return what a worker holds that draws maps: weights in RAM, in float32; they visit a device for each map."""
    weights = 2 * card.size
    place = _chosen(settings, devices)
    if place is None or place.backend == "cpu":
        return Footprint(resident={RAM: IMAGE_PROCESS + weights}, working={RAM: ANNOTATOR_WORKING})
    resident: list[Mapping[PoolId, int]] = [{RAM: IMAGE_PROCESS + weights}, {place.pool: GPU_CONTEXT}]
    return Footprint(resident=add(resident), working={place.pool: ANNOTATOR_WORKING + weights})


def _chosen(settings: ImageSettings, devices: Sequence[DeviceProfile]) -> DeviceProfile | None:
    """Return the device that the settings name. torch calls AMD devices `cuda`, too."""
    backend, _, number = settings.device.partition(":")
    backends = {"auto": ("cuda", "rocm", "xpu", "mps"), "cuda": ("cuda", "rocm")}.get(backend, (backend,))
    fitting = [device for device in devices if device.backend in backends]
    index = int(number) if number.isdigit() else 0
    return fitting[index] if index < len(fitting) else None


def _parts(card: ModelCard, facts: ImageFacts, width: int, vae_width: int, vae_bytes: int) -> tuple[int, int, int]:
    """Return the bytes of UNet, VAE and text encoders in the run type; an unread file counts as float16, all UNet."""
    stored = FILE_BYTES.get(facts.dtype, 2)
    if not facts.bytes_unet:
        return card.size * width // stored, vae_bytes * vae_width // stored, 0
    vae = vae_bytes or facts.bytes_vae
    return facts.bytes_unet * width // stored, vae * vae_width // stored, facts.bytes_text_encoder * width // stored


def converted_bytes(card: ModelCard, settings: ImageSettings, devices: Sequence[DeviceProfile]) -> int:
    """Return the bytes of RAM that a checkpoint's weights are converted into when it is loaded.

    0 where they stay as the file has them, go to a device, or are loaded by the libraries of later families.
    """
    width, vae_width, on_device = _widths(settings, devices)
    facts = card.image or ImageFacts()
    if on_device or facts.family not in WEIGHTS:
        return 0
    automatic = "bfloat16" if any(each.bfloat16 for each in devices) else "float32"
    model = automatic if settings.dtype == "auto" else settings.dtype
    stored, vae_dtype = FILE_DTYPES.get(facts.dtype), model if settings.vae_dtype == "auto" else settings.vae_dtype
    unet, vae, text = _parts(card, facts, width, vae_width, 0)
    return (unet + text if model != stored else 0) + (vae if vae_dtype != stored else 0)


def vae_bytes(card: ModelCard, settings: ImageSettings, devices: Sequence[DeviceProfile]) -> int:
    """Return the bytes of a checkpoint's VAE as it runs, of the published size where the header does not tell."""
    width, vae_width, _ = _widths(settings, devices)
    return _parts(card, card.image or ImageFacts(), width, vae_width, 0)[1] or VAE_WEIGHTS * vae_width


def usual_pass(card: ModelCard, settings: ImageSettings, devices: Sequence[DeviceProfile]) -> Workload:
    """Return the pass that a checkpoint's working bytes are estimated for: one picture of its family's usual size."""
    width, vae_width, on_device = _widths(settings, devices)
    return _usual(card.image or ImageFacts(), width, vae_width, on_cpu=not on_device)


def _widths(settings: ImageSettings, devices: Sequence[DeviceProfile]) -> tuple[int, int, bool]:
    """Return the bytes of a value of the model and of its VAE, and whether they are on a device."""
    place = _chosen(settings, devices)
    on_device = place is not None and place.backend != "cpu"
    width = DTYPE_BYTES.get(settings.dtype, 2 if on_device or any(each.bfloat16 for each in devices) else 4)
    return width, DTYPE_BYTES.get(settings.vae_dtype, width), on_device


def _usual(facts: ImageFacts, width: int, vae_width: int, *, on_cpu: bool) -> Workload:
    if facts.token_width:
        return Workload(
            family=facts.family,
            pixels=LARGE_PIXELS,
            unet_bytes=width,
            vae_bytes=vae_width,
            on_cpu=on_cpu,
            token_width=facts.token_width,
        )
    family = facts.family if facts.family in WEIGHTS else "sdxl"
    weights = facts.bytes_unet // FILE_BYTES.get(facts.dtype, 2) or WEIGHTS[family]
    scale = min(1.0, sqrt(weights / WEIGHTS[family]))
    return Workload(
        family=family,
        pixels=PIXELS[family],
        unet_bytes=width,
        vae_bytes=vae_width,
        unet_width=int(UNET_WIDTHS[family] * scale),
        vae_width=int(VAE_WIDTH * scale),
        on_cpu=on_cpu,
    )
