"""A checkpoint to modules: family, architecture and names from the files themselves, no hub, no foreign code.

A single file in the LDM layout (`single_file`), or a folder in the layout of the diffusers library (`folder`).
"""

from collections.abc import Mapping
from pathlib import Path

from server.engines.base import Report
from server.engines.image import folder, single_file
from server.engines.image.loaded import NO_SPARES, Checkpoint, Sources
from server.engines.image.placement import Precision
from server.engines.image.ready_memory import ReadyMemory
from server.engines.image.text_tower import bare_text_model

__all__ = ["Checkpoint", "Precision", "bare_text_model", "load"]


def load(
    path: Path,
    *,
    precision: Precision,
    vae_path: Path | None,
    allow_pickle: bool,
    report: Report,
    spares: Mapping[str, str] = NO_SPARES,
    ready: ReadyMemory | None = None,
) -> Checkpoint:
    """Load a checkpoint, with another VAE if `vae_path` is given.

    `path` is a single file, or the `model_index.json` of a folder. `spares` maps a family to a checkpoint that lends
    the VAE or text encoders which a single file lacks. `ready` is memory for converted weights, None = torch allocates.

    Raises:
        LoadFailed: unreadable, damaged, incomplete or of a family that is not served; the sentence says which.
    """
    sources = Sources(vae=vae_path, spares=spares, allow_pickle=allow_pickle, ready=ready or ReadyMemory())
    if path.name == folder.INDEX:
        return folder.load_folder(path.parent, precision=precision, sources=sources, report=report)
    return single_file.load_file(path, precision=precision, sources=sources, report=report)
