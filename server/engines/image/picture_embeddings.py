"""Textual inversions inside PNG files: a text `sd-ti-embedding` of base64, in it JSON as A1111 writes it.

{"string_to_param": {"*": {"TORCHTENSOR": [[0.1, -0.2, ...]]}}, "name": "my-style", "step": 1000, ...}
"""

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from server.core.errors import LoadFailed

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEYWORD = "sd-ti-embedding"
TENSOR = "TORCHTENSOR"

MOST_CHARACTERS = 16 * 1024 * 1024


def is_picture(path: Path) -> bool:
    """Tell by content whether a file is a PNG; LoadFailed when it is unreadable."""
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError as error:
        raise LoadFailed(f"{path.name} cannot be read: {error.strerror or error}") from error


def read_picture(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the embedding inside a picture, by name.

    Raises:
        LoadFailed: there is none, or it is damaged.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            packed = image.info.get(KEYWORD)
    except (OSError, ValueError, SyntaxError) as error:
        raise LoadFailed(f"{path.name} is no readable picture") from error
    if not isinstance(packed, str):
        raise LoadFailed(f"{path.name} has no embedding inside")
    try:
        if len(packed) > MOST_CHARACTERS:
            raise ValueError("more than an embedding can be")
        tree = json.loads(base64.b64decode(packed, validate=True))
        return {str(name): _tensor(value) for name, value in tree["string_to_param"].items()}
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise LoadFailed(f"the embedding inside {path.name} is damaged") from error


def _tensor(value: Any) -> torch.Tensor:
    return torch.tensor(value[TENSOR], dtype=torch.float32)
