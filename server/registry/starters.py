"""The starter models as files of the catalog: which of them stand in for kinds that the models folders lack."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from server.core.models import ModelCard, ModelKind
from server.registry.folders import Found
from server.starter import CHAT, FOLDER, IMAGE

Starter = Literal["auto", "always", "never"]
"""When the starter models are listed: for kinds of which there is no usable other model, always, never."""

_NAMED: dict[str, tuple[str, ModelKind]] = {
    "chat.gguf": (f"{CHAT}.gguf", ModelKind.TEXT),
    "image.safetensors": (f"{IMAGE}.safetensors", ModelKind.CHECKPOINT),
}
_CONTROL = "control"


def starters(when: Starter, present: Iterable[ModelKind], folder: Path = FOLDER) -> Iterator[Found]:
    """Yield the starter models to list beside models of the kinds that are `present`.

    What belongs to the checkpoint (LoRA, control model) comes with it.
    """
    if when == "never":
        return
    lacking = set(ModelKind) if when == "always" else set(ModelKind) - set(present)
    for file in sorted([*folder.glob("*.gguf"), *folder.glob("*.safetensors")]):
        name, kind = _NAMED.get(file.name, (file.name, _companion(file)))
        wanted = ModelKind.TEXT if kind is ModelKind.TEXT else ModelKind.CHECKPOINT
        if wanted in lacking:
            status = file.stat()
            yield Found(
                path=file,
                name=name,
                kind=kind,
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                inode=status.st_ino,
            )


def is_starter(card: ModelCard, folder: Path = FOLDER) -> bool:
    """Tell whether a card is that of a starter model."""
    return any(Path(file).parent == folder for file in card.files)


def _companion(file: Path) -> ModelKind:
    return ModelKind.CONTROLNET if file.name.startswith(_CONTROL) else ModelKind.LORA
