"""Single files of later families: a transformer alone. All else comes from a folder of the same family.

Such a file holds no text encoders and no tokenizers, and diffusers would look for them, and for the configuration, on
the hub. So `[image.spares]` names a folder that lends them; its transformer's configuration must fit the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from torch import nn

from server.core.errors import LoadFailed
from server.core.families import GUIDED, PREFIX, family_of_file, family_of_pipeline
from server.core.models import ImageSettings
from server.engines.image.building import fill
from server.engines.image.folder import INDEX, read_json
from server.engines.image.pipelines.index import read_index
from server.engines.image.pipelines.loading import empty_model
from server.engines.image.placement import Precision
from server.engines.image.tensor_files import Tensors, open_tensors

BODY = "transformer"


@dataclass(frozen=True, kw_only=True)
class Borrowed:
    """A folder, and parts that take the place of its own."""

    folder: Path
    parts: Mapping[str, nn.Module]


def borrowed(path: Path, settings: ImageSettings, precision: Precision) -> Borrowed:
    """Return the spare folder of a file's family, with the file's transformer.

    Raises:
        LoadFailed: there is no such folder, it is of another family, or the file does not fit it.
    """
    with open_tensors(path, allow_pickle=settings.allow_pickle) as tensors:
        family = family_of_file(tensors.shapes.keys())
        folder = _spare(family, settings)
        kinds = {part.name: part.kind for part in read_index(folder).parts}
        kind: Any = kinds.get(BODY)
        entry = SINGLE_FILE_LOADABLE_CLASSES.get(getattr(kind, "__name__", ""))
        if entry is None:
            raise LoadFailed(f"single files of the family {family} are not served; take a diffusers folder")
        config = dict(read_json(folder / BODY / "config.json"))
        if "guidance_embeds" in config:
            config["guidance_embeds"] = any(name.endswith(GUIDED) for name in tensors.shapes)
        model = empty_model(kind, config, BODY)
        try:
            converted = entry["checkpoint_mapping_fn"](_body(tensors), config=config)
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            raise LoadFailed(f"the file's tensors are not those of a {family} model ({error})") from error
        fill(model, BODY, ((name, tensor.to(precision.model)) for name, tensor in converted.items()))
    return Borrowed(folder=folder, parts={BODY: model})


def _body(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Return the transformer's tensors without prefix; other parts of a file are left out."""
    names = [name for name in tensors.shapes if name.startswith(PREFIX)] or list(tensors.shapes)
    return {name.removeprefix(PREFIX): tensors.get(name) for name in names}


def _spare(family: str, settings: ImageSettings) -> Path:
    said = settings.spares.get(family)
    if said is None:
        raise LoadFailed(
            f"the file holds the transformer of a {family} model alone; name a diffusers folder of that family, which "
            f'lends text encoders and VAE, in the configuration: [image.spares] {family} = "FOLDER"'
        )
    folder = Path(said).expanduser()
    folder = folder.parent if folder.name == INDEX else folder
    found = family_of_pipeline(str(read_json(folder / INDEX).get("_class_name")))
    if found != family:
        raise LoadFailed(f"the spare {folder.name} for {family} is of the family {found}")
    return folder
