"""The YAML file beside a checkpoint (`<stem>.yaml`, as the original Stable Diffusion has it): what shapes cannot tell.

Only numbers are taken from it; class names in it are never imported.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml  # type: ignore[import-untyped]

from server.core.errors import LoadFailed

SEARCHED_PARENTS = 4
"""How far up from the checkpoint a text encoder's folder is looked for (`models/Stable-diffusion` is two)."""


@dataclass(frozen=True)
class Sidecar:
    """None where the file does not say."""

    unet_heads: int | None = None
    unet_head_width: int | None = None
    text_heads: int | None = None
    latent_scale: float | None = None
    first_beta: float | None = None
    last_beta: float | None = None
    prediction: Literal["eps", "v"] | None = None


def read(checkpoint: Path) -> Sidecar:
    """Read the file beside `checkpoint`, an empty Sidecar when there is none.

    Raises:
        LoadFailed: the file is there and is no YAML of that format.
    """
    path = checkpoint.with_suffix(".yaml")
    if not path.is_file():
        return Sidecar()
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LoadFailed(f"{path.name} beside the checkpoint is not readable YAML") from error
    params = _at(tree, "model", "params")
    unet = _at(params, "unet_config", "params")
    return Sidecar(
        unet_heads=_count(unet.get("num_heads")),
        unet_head_width=_count(unet.get("num_head_channels")),
        text_heads=_text_heads(checkpoint, _at(params, "cond_stage_config", "params").get("version")),
        latent_scale=_number(params.get("scale_factor")),
        first_beta=_number(params.get("linear_start")),
        last_beta=_number(params.get("linear_end")),
        prediction=_prediction(params),
    )


def _prediction(params: dict[str, Any]) -> Literal["eps", "v"] | None:
    """Return what the UNet predicts: named outright (SD1, SD2), or by the class of a scaling (SDXL)."""
    said = {"v": "v", "eps": "eps"}.get(str(params.get("parameterization")))
    scaling = _at(params, "denoiser_config", "params", "scaling_config").get("target")
    if said is None and isinstance(scaling, str):
        said = {"VScaling": "v", "EpsScaling": "eps"}.get(scaling.rsplit(".", 1)[-1])
    match said:
        case "v":
            return "v"
        case "eps":
            return "eps"
    return None


def _at(tree: Any, *path: str) -> dict[str, Any]:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _text_heads(checkpoint: Path, version: Any) -> int | None:
    """Return the heads in the `config.json` of the folder that `version` names, looked for in the parents."""
    if not isinstance(version, str) or ".." in PurePosixPath(version).parts or PurePosixPath(version).is_absolute():
        return None
    for parent in list(checkpoint.absolute().parents)[:SEARCHED_PARENTS]:
        config = parent / version / "config.json"
        if config.is_file():
            try:
                return _count(_at(json.loads(config.read_text(encoding="utf-8"))).get("num_attention_heads"))
            except ValueError:
                return None
    return None
