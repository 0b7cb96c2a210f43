"""Which settings of text models make sense. Pure: asked when the configuration is read, checked, and used."""

from collections.abc import Iterator
from math import isfinite

from server.core.models import Adapter, TextSettings

KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
SPLIT_MODES = ("layer", "row", "tensor", "none")
ROPE_SCALINGS = ("", "none", "linear", "yarn", "longrope")
CHAT_FORMS = (
    "alpaca",
    "chatml",
    "gemma",
    "gpt4all",
    "llama-2",
    "llama-3",
    "mistral",
    "phi-3",
    "plain",
    "vicuna",
    "vicuna-v0",
)
"""The forms of conversations that settings may name; `chat_template` may be a file as well."""

MOST_SLOTS = 256
MOST_TOKENS = 2**24
MOST_DEVICES = 16
MOST_ADAPTERS = 64
LEAST_DRAFT, MOST_DRAFT = 3, 15
DRAFT_STREAMS = 4
"""For how many replies at a time tokens are guessed: more of them fill a step by themselves."""
_WHOLE_TYPES = ("f32", "f16", "bf16")


def kv_types(settings: TextSettings) -> tuple[str, str]:
    """Return the types of the cache's keys and of its values."""
    return settings.kv_type_k or settings.kv_type, settings.kv_type_v or settings.kv_type


def problems(settings: TextSettings) -> Iterator[tuple[str, str]]:
    """Yield the key and what is wrong with it, as the end of a sentence that the key begins."""
    yield from _sizes(settings)
    yield from _cache(settings)
    yield from _devices(settings)
    yield from _positions(settings)
    yield from _adapters(settings)
    yield from _legacy(settings)


def _sizes(settings: TextSettings) -> Iterator[tuple[str, str]]:
    bounds = (
        ("slots", settings.slots, 1, MOST_SLOTS),
        ("batch", settings.batch, 1, 16384),
        ("context", settings.context, 0, MOST_TOKENS),
        ("context_cap", settings.context_cap, 1, MOST_TOKENS),
        ("threads", settings.threads, 0, 1024),
        ("gpu_layers", settings.gpu_layers, -1, 65536),
        ("draft_tokens", settings.draft_tokens, LEAST_DRAFT, MOST_DRAFT),
    )
    for key, value, least, most in bounds:
        if not least <= value <= most:
            yield key, f"must be {least} ... {most}, not {value}"


def _cache(settings: TextSettings) -> Iterator[tuple[str, str]]:
    for key in ("kv_type", "kv_type_k", "kv_type_v"):
        value = getattr(settings, key)
        if value not in KV_TYPES and (value or key == "kv_type"):
            yield key, f"{value!r} is not one of {', '.join(KV_TYPES)}"
    _, values = kv_types(settings)
    if values in KV_TYPES and values not in _WHOLE_TYPES and not settings.flash_attention:
        yield "kv_type_v" if settings.kv_type_v else "kv_type", f"{values!r} for values needs flash_attention = true"


def _devices(settings: TextSettings) -> Iterator[tuple[str, str]]:
    if settings.split_mode not in SPLIT_MODES:
        yield "split_mode", f"{settings.split_mode!r} is not one of {', '.join(SPLIT_MODES)}"
    if not 0 <= settings.main_gpu < MOST_DEVICES:
        yield "main_gpu", f"must be 0 ... {MOST_DEVICES - 1}, not {settings.main_gpu}"
    shares = settings.tensor_split
    if len(shares) > MOST_DEVICES or not all(isfinite(share) and share >= 0 for share in shares):
        yield "tensor_split", f"must hold a share of 0 or more for each of at most {MOST_DEVICES} devices"
    elif shares and not any(shares):
        yield "tensor_split", "leaves nothing to any device; gpu_layers = 0 does that"


def _positions(settings: TextSettings) -> Iterator[tuple[str, str]]:
    if settings.rope_scaling not in ROPE_SCALINGS:
        yield "rope_scaling", f"{settings.rope_scaling!r} is not one of {', '.join(ROPE_SCALINGS[1:])}"
    for key in ("rope_frequency_base", "rope_frequency_scale"):
        value = getattr(settings, key)
        if not isfinite(value) or value < 0:
            yield key, f"must be above 0, or 0 for what the file says, not {value}"
    if not 0 <= settings.yarn_original_context <= MOST_TOKENS:
        yield "yarn_original_context", f"must be 0 ... {MOST_TOKENS}, not {settings.yarn_original_context}"


def _legacy(settings: TextSettings) -> Iterator[tuple[str, str]]:
    if not 0 <= settings.norm_epsilon < 1:
        yield "norm_epsilon", f"must be above 0 and below 1, or 0 for what the file says, not {settings.norm_epsilon}"
    form = settings.chat_template
    if form and form not in CHAT_FORMS and "/" not in form and "." not in form:
        yield "chat_template", f"{form!r} is neither a file nor one of {', '.join(CHAT_FORMS)}"


def _adapters(settings: TextSettings) -> Iterator[tuple[str, str]]:
    wanted = [Adapter(name=item) if isinstance(item, str) else item for item in settings.loras or ()]
    if len(wanted) > MOST_ADAPTERS:
        yield "loras", f"must name at most {MOST_ADAPTERS} adapters"
    names = [item.name for item in wanted]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "loras", f"names {name!r} twice"
    for item in wanted:
        if not item.name or not isfinite(item.scale):
            yield "loras", "must hold names, or tables with a name and a finite scale"
