"""The starter models: tiny demonstrations that ship with Hearth, so that the first answer needs no download.

They are package data; `training/` holds how they were made, `CHAT.md` and `IMAGE.md` what they are good for.
"""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
"""Holds the files; which model each of them is, `registry/starters.py` says."""

CHAT: Final = "starter-chat"
IMAGE: Final = "starter-image"

CHAT_FILE: Final = "chat.gguf"
IMAGE_FILE: Final = "image.safetensors"
