"""The starter models as files of the catalog: which of them stand in for kinds that the models folders lack."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from server.core.models import ModelCard, ModelKind
from server.registry.folders import Found
from server.starter import CHAT, CHAT_FILE, FOLDER, IMAGE, IMAGE_FILE
from server.starter.companions import CANNY, CANNY_FILE, PIXEL_ART, PIXEL_ART_FILE

Starter = Literal["auto", "always", "never"]
"""When the starter models are listed: for kinds of which there is no usable other model, always, never."""

_FILES: dict[str, tuple[str, ModelKind]] = {
    CHAT_FILE: (f"{CHAT}.gguf", ModelKind.TEXT),
    IMAGE_FILE: (f"{IMAGE}.safetensors", ModelKind.CHECKPOINT),
    PIXEL_ART_FILE: (f"{PIXEL_ART}.safetensors", ModelKind.LORA),
    CANNY_FILE: (f"{CANNY}.safetensors", ModelKind.CONTROLNET),
}
"""Names and kinds in the catalog by the file's name in the package."""


def starters(when: Starter, present: Iterable[ModelKind], folder: Path = FOLDER) -> Iterator[Found]:
    """Yield the starter models to list beside models of the kinds that are `present`.

    What belongs to the checkpoint (LoRA, control model) comes with it.
    """
    if when == "never":
        return
    lacking = set(ModelKind) if when == "always" else set(ModelKind) - set(present)
    for file, (name, kind) in _FILES.items():
        path = folder / file
        wanted = ModelKind.TEXT if kind is ModelKind.TEXT else ModelKind.CHECKPOINT
        if wanted in lacking and path.is_file():
            status = path.stat()
            yield Found(
                path=path,
                name=name,
                kind=kind,
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                inode=status.st_ino,
            )


def is_starter(card: ModelCard, folder: Path = FOLDER) -> bool:
    """Tell whether a card is that of a starter model."""
    return any(Path(file).parent == folder for file in card.files)
