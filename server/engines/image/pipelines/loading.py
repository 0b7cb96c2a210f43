"""Parts of a pipeline from their folders: offline, safetensors alone, each tensor converted once into the run dtype.

Models of diffusers are built with empty weights and given the file's tensors, so that loading peaks at the size of the
model; those of transformers load that way by themselves.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from server.core.errors import LoadFailed
from server.engines.base import Report
from server.engines.image.building import fill
from server.engines.image.folder import opened, read_json, weight_files
from server.engines.image.layouts import folder_layout as layout
from server.engines.image.loaded import Sources
from server.engines.image.pipelines.index import Index, Part
from server.engines.image.placement import Precision

Overlay = Mapping[str, torch.nn.Module]
"""Parts that come from elsewhere than the folder, by name."""

UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, ImportError),
    *(AssertionError, NotImplementedError),
)
"""What constructors of the libraries raise on configurations that are none of their own."""

HEAVY = 0.9
"""Share of the loading time that goes to weights."""


def load_parts(
    folder: Path, index: Index, *, precision: Precision, sources: Sources, report: Report, overlay: Overlay
) -> dict[str, Any]:
    """Return the parts of a pipeline by name, None for those that it is to do without.

    Raises:
        LoadFailed: a part is missing, damaged, quantised, or needs a package that is not installed.
    """
    transformers_logging.disable_progress_bar()
    parts: dict[str, Any] = dict.fromkeys(index.absent)
    for number, part in enumerate(index.parts):
        if part.name in overlay:
            parts[part.name] = overlay[part.name]
        else:
            dtype = precision.vae if part.name in ("vae", "vqgan", "movq") else precision.model
            parts[part.name] = _load(folder / part.name, part, dtype, sources)
        report(0.05 + HEAVY * (number + 1) / len(index.parts))
    return parts


def load_model(kind: type[ModelMixin], path: Path, dtype: torch.dtype, sources: Sources) -> torch.nn.Module:
    """Return a model of diffusers from its folder."""
    config = read_json(path / "config.json")
    _check_plain(path, config)
    model = empty_model(kind, config, path.name)
    exact = tuple(getattr(kind, "_keep_in_fp32_modules", None) or ())
    with opened(path, "diffusion_pytorch_model", sources) as tensors:

        def converted() -> Iterator[tuple[str, torch.Tensor]]:
            for name in tensors.shapes:
                tensor = tensors.get(name)
                wanted = torch.float32 if any(part in exact for part in name.split(".")) else dtype
                yield layout.vae_name(name), tensor.to(wanted) if tensor.is_floating_point() else tensor

        fill(model, path.name.replace("_", " "), converted())
    return model


def empty_model(kind: type[ModelMixin], config: Mapping[str, Any], part: str) -> torch.nn.Module:
    """Return a model of diffusers without weights: they are on the meta device, what is computed is there."""

    def build() -> torch.nn.Module:
        with _Unfilled():
            model: torch.nn.Module = kind.from_config(dict(config))
        return model

    return _guarded(part, build)


class _Unfilled(TorchFunctionMode):
    """Has `torch.empty` make tensors without memory: layers make their weights by it, and tables by other functions."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _load(path: Path, part: Part, dtype: torch.dtype, sources: Sources) -> Any:
    kind: Any = part.kind
    if not path.is_dir():
        raise LoadFailed(f"the folder lacks {part.name}/")
    if issubclass(kind, ModelMixin):
        return load_model(kind, path, dtype, sources)
    if issubclass(kind, PreTrainedModel):
        return _load_transformer(kind, path, dtype)
    if issubclass(kind, SchedulerMixin) and issubclass(kind, ConfigMixin):
        config = dict(read_json(path / "scheduler_config.json"))
        return _guarded(part.name, lambda: kind.from_config(config))
    return _guarded(part.name, lambda: kind.from_pretrained(str(path), local_files_only=True, trust_remote_code=False))


def _load_transformer(kind: Any, path: Path, dtype: torch.dtype) -> torch.nn.Module:
    _check_plain(path, read_json(path / "config.json"))
    variant = "fp16" if ".fp16." in weight_files(path, "model")[0].name else None
    model: torch.nn.Module = _guarded(
        path.name,
        lambda: kind.from_pretrained(
            str(path),
            dtype=dtype,
            variant=variant,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        ),
    )
    model.requires_grad_(False)
    return model.eval()


def _check_plain(path: Path, config: Mapping[str, Any]) -> None:
    if config.get("quantization_config"):
        raise LoadFailed(f"{path.name}/ holds quantised weights, which are not served; take the plain ones")


def _guarded(part: str, build: Callable[[], Any]) -> Any:
    """Return what a library builds; LoadFailed with its words when it cannot."""
    try:
        return build()
    except LoadFailed:
        raise
    except UNREADABLE as error:
        words = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        hint = ""
        if "tokenizer" in part and "sentencepiece" in str(error).lower():
            hint = "; a tokenizer.json in its folder needs no further package"
        raise LoadFailed(f"the part {part} cannot be loaded: {words[:300]}{hint}") from error
