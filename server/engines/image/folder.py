"""Folders in the layout of the diffusers library: `model_index.json`, and a folder with JSON and safetensors a part.

Only numbers are taken from the JSON files; the classes they name are compared and never imported.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from server.core.errors import LoadFailed
from server.engines.base import Report
from server.engines.image import prediction, skips
from server.engines.image.building import add_positions, empty_tower, fill
from server.engines.image.denoisers import Prediction
from server.engines.image.layouts import family as families
from server.engines.image.layouts import folder_layout as layout
from server.engines.image.layouts.family import Family
from server.engines.image.layouts.shapes import Shapes
from server.engines.image.loaded import Checkpoint, Sources, check_widths
from server.engines.image.placement import Precision
from server.engines.image.ready_memory import Cast
from server.engines.image.sigma_table import alphas_cumprod, zero_terminal_snr
from server.engines.image.single_file import load_vae
from server.engines.image.tensor_files import Tensors, open_tensors
from server.engines.image.text_tower import TextTower

INDEX = "model_index.json"

LARGEST_JSON = 16 * 1024 * 1024

Json = Mapping[str, Any]


def load_folder(path: Path, *, precision: Precision, sources: Sources, report: Report) -> Checkpoint:
    """Load the model of a folder.

    Raises:
        LoadFailed: unreadable, incomplete, damaged or of a family that is not served; the sentence says which.
    """
    index = read_json(path / INDEX)
    unet_config = read_json(path / "unet" / "config.json")
    family = layout.family_of(index, unet_config, path / "text_encoder")
    schedule = read_json(path / "scheduler" / "scheduler_config.json")
    told, alphas = _schedule(schedule)
    report(0.05)
    names = layout.text_folders(family)
    texts = tuple(_text(path / name, family, number, precision.model, sources) for number, name in enumerate(names))
    report(0.2)
    unet = _unet(path / "unet", unet_config, precision.model, sources)
    report(0.85)
    vae_config = read_json(path / "vae" / "config.json")
    vae = load_vae(sources, precision.vae) or _vae(path / "vae", vae_config, precision.vae, sources)
    check_widths(unet, texts, family)
    return Checkpoint(
        unet=unet,
        vae=vae,
        texts=texts,
        unet_names=layout.single_file_names(unet_config, list(unet.state_dict())),
        family=family,
        latent_scale=layout.number(vae_config, "scaling_factor") or family.latent_scale,
        alphas_cumprod=alphas,
        prediction=told,
        converted=sources.ready.converted,
    )


def read_json(path: Path) -> Json:
    """Return a JSON object; LoadFailed when the file is missing or holds something else."""
    shown = f"{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise LoadFailed(f"{shown} is too large to be a configuration")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadFailed(f"the folder lacks {shown} ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise LoadFailed(f"{shown} is no readable JSON") from error
    if not isinstance(found, dict):
        raise LoadFailed(f"{shown} is no JSON object")
    return found


def _schedule(config: Json) -> tuple[Prediction, torch.Tensor]:
    kind = config.get("beta_schedule", "scaled_linear")
    told = prediction.SAID.get(str(config.get("prediction_type", "epsilon")))
    if kind != "scaled_linear" or told is None:
        raise LoadFailed(f"the folder's noise schedule ({kind}, {config.get('prediction_type')}) is not served")
    alphas = alphas_cumprod(layout.number(config, "beta_start") or 0.00085, layout.number(config, "beta_end") or 0.012)
    return told, zero_terminal_snr(alphas) if config.get("rescale_betas_zero_snr") is True else alphas


def _unet(path: Path, config: Json, dtype: torch.dtype, sources: Sources) -> UNet2DConditionModel:
    model = _from_config(UNet2DConditionModel, layout.public(config), "unet")
    families.picture_inputs(model.config.in_channels)
    with opened(path, "diffusion_pytorch_model", sources) as tensors:
        fill(model, "UNet", _converted(tensors, sources.cast(dtype)))
    skips.match_sizes(model)
    return model


def _vae(path: Path, config: Json, dtype: torch.dtype, sources: Sources) -> AutoencoderKL:
    layout.check_vae(config)
    model = _from_config(AutoencoderKL, layout.public(config), "vae")
    with opened(path, "diffusion_pytorch_model", sources) as tensors:
        converted = _converted(tensors, sources.cast(dtype))
        fill(model, "VAE", ((layout.vae_name(name), tensor) for name, tensor in converted))
    return model


def _text(path: Path, family: Family, number: int, dtype: torch.dtype, sources: Sources) -> TextTower:
    config = layout.text_config(read_json(path / "config.json"))
    rule = layout.text_rule(family, number)
    try:
        tower = empty_tower(config, rule)
    except (TypeError, ValueError, KeyError) as error:
        raise LoadFailed(f"{path.name}/config.json describes no CLIP text encoder") from error
    projection, rest = [], []
    with opened(path, "model", sources) as tensors:
        for name, tensor in _converted(tensors, sources.cast(dtype)):
            if name == "text_projection.weight":
                projection.append(("weight", tensor))
            elif not name.endswith("position_ids"):
                rest.append((name.removeprefix("text_model."), tensor))
    fill(tower.bare, "text encoder", rest)
    add_positions(tower.bare, tower.model.config.max_position_embeddings)
    if tower.projection is not None:
        fill(tower.projection, "projection of the text encoder", projection)
    return tower.eval()


def _from_config(kind: Any, config: dict[str, Any], part: str) -> Any:
    """Build a model of diffusers on the meta device; LoadFailed when the configuration makes none."""
    try:
        with torch.device("meta"):
            return kind(**config)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, NotImplementedError, AssertionError) as error:
        raise LoadFailed(f"{part}/config.json describes a model that is not served ({type(error).__name__})") from error


class _Many:
    """Several open files as one."""

    def __init__(self, files: list[Tensors]) -> None:
        self._where = {name: file for file in files for name in file.shapes}
        self.shapes: Shapes = {name: file.shapes[name] for name, file in self._where.items()}
        self.metadata: Mapping[str, str] = {}

    def get(self, name: str) -> torch.Tensor:
        """Return one tensor."""
        return self._where[name].get(name)


@contextmanager
def opened(path: Path, stem: str, sources: Sources) -> Iterator[Tensors]:
    """Open the weights of one part: one file, or the parts that an index names; half precision if that is all."""
    with ExitStack() as stack:
        openings = [open_tensors(each, allow_pickle=sources.allow_pickle) for each in weight_files(path, stem)]
        yield _Many([stack.enter_context(opening) for opening in openings])


def weight_files(path: Path, stem: str) -> list[Path]:
    """Return the files that hold a part's weights; LoadFailed when there are none."""
    for variant in ("", ".fp16"):
        single = path / f"{stem}{variant}.safetensors"
        if single.is_file():
            return [single]
        index = path / f"{stem}.safetensors.index{variant}.json"
        if index.is_file():
            return _indexed(index)
    raise LoadFailed(f"the folder lacks {path.name}/{stem}.safetensors")


def _indexed(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    files = sorted(str(name) for name in names)
    if not files or any(Path(name).name != name for name in files):
        raise LoadFailed(f"{index.parent.name}/{index.name} names no weights")
    return [index.parent / name for name in files]


def _converted(tensors: Tensors, cast: Cast) -> Iterator[tuple[str, torch.Tensor]]:
    for name in tensors.shapes:
        yield name, cast(tensors.get(name))
