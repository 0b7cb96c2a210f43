"""Which models are run by pipelines of diffusers, and not by our own loop."""

from pathlib import Path

from server.core.errors import LoadFailed
from server.core.families import family_of_file
from server.engines.image.folder import INDEX, read_json
from server.engines.image.layouts.folder_layout import is_part
from server.engines.image.tensor_files import is_pickle, open_tensors


def is_for_pipelines(path: Path) -> bool:
    """Tell whether a model is of a later family, from a folder's index or a file's header.

    Raises:
        LoadFailed: the index cannot be read.
    """
    if path.name == INDEX:
        index = read_json(path)
        return not (is_part(index, "unet") and is_part(index, "vae"))
    try:
        if is_pickle(path):
            return False
        with open_tensors(path, allow_pickle=False) as tensors:
            return bool(family_of_file(tensors.shapes.keys()))
    except LoadFailed:
        return False  # our own loader says what is wrong with it
