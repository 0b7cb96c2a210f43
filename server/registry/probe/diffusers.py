"""What a folder in the layout of the diffusers library tells: `model_index.json`, a JSON and safetensors a part.

Only the small JSON files and the headers of weights are read. Pickled weights are never looked at in such folders.
"""

import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from server.core.families import family_of_pipeline, token_width
from server.core.models import ImageFacts, ModelKind, Runtime
from server.registry.probe.base import BrokenModel, Finding
from server.registry.probe.checkpoint import UNET_INPUTS, precision_of
from server.registry.probe.safetensors import Tensor, read_safetensors
from server.registry.probe.source import open_regular

INDEX = "model_index.json"
LARGEST_JSON = 16 * 1024 * 1024

PARTS = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}

BODIES = ("transformer", "unet", "unconditional_transformer")
"""Parts that remove noise in later families."""

ENCODERS = ("text_encoder", "vision_language_encoder")

NOT_FOR_PICTURES = re.compile(
    r"Video|Audio|Speech|Music|2V|V2|Img2Img|Inpaint|Fill|Edit|ControlNet|Upscale|SuperRes|Layered|Wan|LTX|Mochi|Allegro|Cosmos"
)
"""In names of pipelines that make no pictures from prompts alone."""


def probe_folder(index: Path) -> Finding:
    """Return what the folder of a `model_index.json` holds.

    Raises:
        BrokenModel: a part is missing or damaged, or the model is of a family that is not served.
    """
    folder = index.parent
    named = _json(index)
    parts = [part for part in PARTS if _is_named(named, part)]
    if "unet" not in parts or "vae" not in parts:
        return _of_transformers(folder, named)
    unet = _json(folder / "unet" / "config.json")
    sizes = {part: _weights(folder / part) for part in parts}
    texts = sum(size for part, (size, _) in sizes.items() if part.startswith("text_encoder"))
    channels = _number(unet, "in_channels", 4)
    family = _family(parts, unet)
    return Finding(
        kind=ModelKind.CHECKPOINT,
        runtime=Runtime.DIFFUSION,
        architecture=f"{family}{UNET_INPUTS.get(channels, '')}",
        image=ImageFacts(
            family=family,
            in_channels=channels,
            context_width=_number(unet, "cross_attention_dim", 0),
            dtype=sizes["unet"][1],
            bytes_unet=sizes["unet"][0],
            bytes_vae=sizes["vae"][0],
            bytes_text_encoder=texts,
        ),
    )


def _of_transformers(folder: Path, named: Mapping[str, Any]) -> Finding:
    """Return what a folder of a later family holds; whether diffusers can run it is known once it is loaded."""
    pipeline = named.get("_class_name")
    if not isinstance(pipeline, str) or NOT_FOR_PICTURES.search(pipeline):
        raise BrokenModel(f"the folder holds a {pipeline or 'model'}, which is not served")
    bodies = [part for part in BODIES if _is_named(named, part)]
    vaes = [part for part in ("vae", "vqgan", "movq") if _is_named(named, part)]
    if not bodies or not vaes:
        raise BrokenModel(f"the folder holds a {pipeline}, which is not served")
    texts = [part for part in named if part.startswith(ENCODERS) and _is_named(named, part)]
    body, vae, text = (_bytes(folder, group) for group in (bodies, vaes, texts))
    config = _json(folder / bodies[0] / "config.json")
    family = family_of_pipeline(pipeline)
    return Finding(
        kind=ModelKind.CHECKPOINT,
        runtime=Runtime.DIFFUSION,
        architecture=family,
        image=ImageFacts(
            family=family,
            in_channels=_number(config, "in_channels", 16),
            context_width=_number(config, "joint_attention_dim", 0),
            dtype=_weights(folder / bodies[0])[1],
            bytes_unet=body,
            bytes_vae=vae,
            bytes_text_encoder=text,
            token_width=token_width(config),
            distilled=config.get("guidance_embeds") is True or pipeline == "Flux2Pipeline",
        ),
    )


def _bytes(folder: Path, parts: Iterable[str]) -> int:
    return sum(_weights(folder / part)[0] for part in parts)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of one part, the half precision ones only if there are no others."""
    found = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    return [path for path in found if ".fp16" not in path.name] or found


def _family(parts: Iterable[str], unet: Mapping[str, Any]) -> str:
    if "text_encoder_2" in parts:
        return "sdxl" if "text_encoder" in parts else "sdxl_refiner"
    if "text_encoder" not in parts:
        raise BrokenModel("the folder has no text encoder")
    return "sd2" if unet.get("use_linear_projection") is True else "sd1"


def _weights(folder: Path) -> tuple[int, str]:
    """Return the bytes of one part and the type that most of them have."""
    files = weight_files(folder)
    if not files:
        shown = PARTS.get(folder.name, folder.name.replace("_", " "))
        raise BrokenModel(f"the {shown} has no weights: {folder.name}/ holds no safetensors file")
    tensors: list[Tensor] = []
    for path in files:
        with open_regular(path) as (file, status):
            try:
                tensors.extend(read_safetensors(file, status.st_size).tensors.values())
            except BrokenModel as error:
                raise BrokenModel(f"{folder.name}/{path.name}: {error}") from error
    return sum(tensor.size for tensor in tensors), precision_of(tensors)


def _is_named(index: Mapping[str, Any], part: str) -> bool:
    entry = index.get(part)
    return isinstance(entry, list) and bool(entry) and entry[-1] is not None


def _number(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _json(path: Path) -> Mapping[str, Any]:
    shown = f"{path.parent.name}/{path.name}"
    if not path.exists():
        raise BrokenModel(f"the folder lacks {shown}")
    with open_regular(path) as (file, status):
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_JSON:
            raise BrokenModel(f"{shown} is too large to be a configuration")
        raw = file.read(LARGEST_JSON) or b""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenModel(f"{shown} is no readable JSON object") from error
