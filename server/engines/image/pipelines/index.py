"""What the `model_index.json` of a folder names: a pipeline of diffusers, its parts, and values for its constructor.

A folder names classes. They are looked up in diffusers and transformers alone, and only as what they have to be; code
that lies in the folder is never run.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import transformers
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from server.core.errors import LoadFailed
from server.engines.image.folder import INDEX, read_json
from server.engines.image.layouts.folder_layout import public

LIBRARIES: Mapping[str, Any] = {"diffusers": diffusers, "transformers": transformers}

WANTED = frozenset({"prompt", "height", "width", "num_inference_steps", "generator", "output_type"})
"""What a pipeline must take to make pictures from a prompt."""

FOREIGN = {
    "num_frames": "makes videos",
    "audio_end_in_s": "makes sounds",
    "control_image": "needs a picture to follow",
    "mask_image": "fills holes in pictures and makes none from a prompt alone",
    "strength": "changes pictures and makes none from a prompt alone",
}

MAY_BEGIN_WITH_PICTURES = frozenset(
    {
        *("Flux2Pipeline", "Flux2KleinPipeline", "FluxKontextPipeline", "GlmImagePipeline", "QwenImage21Pipeline"),
        *("DreamLitePipeline", "OmniGenPipeline"),
    }
)
"""Pipelines that take a picture, and make one without."""

UNUSED = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
"""Parts that change nothing of a picture from a prompt."""


@dataclass(frozen=True)
class Part:
    """A part of a pipeline: its folder's name, and its class."""

    name: str
    kind: type


@dataclass(frozen=True, kw_only=True)
class Index:
    """A pipeline's class, its parts in the constructor's order, names of parts that are left out, plain values."""

    kind: type[DiffusionPipeline]
    parts: tuple[Part, ...]
    absent: tuple[str, ...]
    values: Mapping[str, Any]


def read_index(folder: Path) -> Index:
    """Return what a folder's index names.

    Raises:
        LoadFailed: it names no pipeline that makes pictures from prompts here, or a class of elsewhere.
    """
    raw = public(read_json(folder / INDEX)) | {"_class_name": read_json(folder / INDEX).get("_class_name")}
    kind = pipeline_named(raw.pop("_class_name"))
    accepted = _accepted(kind)
    parts, absent, values = [], [], {}
    for name in accepted:
        entry = raw.get(name)
        if not isinstance(entry, list):
            if name in raw:
                values[name] = entry
            continue
        if name in UNUSED or len(entry) != 2 or entry[1] is None:
            absent.append(name)
        else:
            parts.append(Part(name, _class_named(name, *entry)))
    values.pop("requires_safety_checker", None)
    return Index(kind=kind, parts=tuple(parts), absent=tuple(absent), values=values)


def pipeline_named(name: object) -> type[DiffusionPipeline]:
    """Return the class of a pipeline; LoadFailed when diffusers has none of that name that serves here."""
    found = getattr(diffusers, name, None) if isinstance(name, str) and name.isidentifier() else None
    if found is None:
        raise LoadFailed(f"the folder holds a {name}, which the installed diffusers {diffusers.__version__} lacks")
    if not isinstance(found, type) or not issubclass(found, DiffusionPipeline):
        raise LoadFailed(f"the folder holds a {name}, which needs packages that are not installed")
    call = parameters_of(found)
    for param, what in FOREIGN.items():
        if param in call:
            raise LoadFailed(f"the folder holds a {name}, which {what}")
    if not call.keys() >= WANTED or ("image" in call and name not in MAY_BEGIN_WITH_PICTURES):
        raise LoadFailed(f"the folder holds a {name}, which makes no pictures from a prompt alone")
    return found


def parameters_of(kind: type[DiffusionPipeline]) -> Mapping[str, inspect.Parameter]:
    """Return what a pipeline can be called with."""
    return inspect.signature(kind.__call__).parameters


def _accepted(kind: type[DiffusionPipeline]) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(kind.__init__).parameters if name != "self")


def _class_named(part: str, library: object, name: object) -> type:
    home = LIBRARIES.get(library) if isinstance(library, str) else None
    if home is None:
        raise LoadFailed(f"the part {part} is of {library!r}; parts of diffusers and transformers alone are loaded")
    found = getattr(home, name, None) if isinstance(name, str) and name.isidentifier() else None
    if not isinstance(found, type) or not hasattr(found, "from_pretrained"):
        raise LoadFailed(f"the part {part} is a {name}, which the installed {library} lacks")
    return found
