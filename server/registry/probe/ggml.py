"""What the header of a file of March to August 2023 (ggml, ggmf, ggjt) says: a llama model, perhaps in parts."""

import struct
from pathlib import Path
from typing import BinaryIO

from server.core.ggml.checkpoint import assemble, facts, parts_of
from server.core.ggml.reading import ADAPTER, MAGICS, OTHER_VERSIONS, GgmlError, Part, read_part
from server.core.models import ModelKind, Runtime
from server.registry.probe.base import BrokenModel, Finding, NotMine
from server.registry.probe.source import open_regular

ARCHITECTURE = "llama"


def is_ggml(head: bytes) -> bool:
    """Tell by a file's first bytes whether it is of that time."""
    return head[:4] in MAGICS or head[:4] == ADAPTER


def probe_ggml(file: BinaryIO, size: int, head: bytes, path: Path) -> Finding:
    """Return what an open file is that begins with `head`, with the files that continue it.

    Raises:
        NotMine: an adapter, or a model of another kind.
        BrokenModel: it cannot be converted.
    """
    if head[:4] == ADAPTER:
        raise NotMine("a ggla adapter of 2023, not a model")
    if MAGICS.get(head[:4]) == "ggmf" and len(head) >= 8 and struct.unpack_from("<I", head, 4)[0] in OTHER_VERSIONS:
        raise NotMine("an RWKV file of 2023")
    try:
        first = read_part(file, size)
        parts = [first, *(_part(path, number) for number in range(1, parts_of(first)))]
        checkpoint = assemble(parts)
    except GgmlError as error:
        raise BrokenModel(f"a {MAGICS[head[:4]]} file of 2023 that cannot be converted: {error}") from error
    except OSError as error:
        raise BrokenModel(f"cannot be read: {error.strerror}") from error
    return Finding(
        kind=ModelKind.TEXT,
        runtime=Runtime.LLAMA_CPP,
        architecture=ARCHITECTURE,
        text=facts(checkpoint, path.name),
    )


def _part(path: Path, number: int) -> Part:
    other = path.with_name(f"{path.name}.{number}")
    if not other.exists():
        raise GgmlError(f"its part {other.name!r} is missing")
    with open_regular(other) as (file, status):
        return read_part(file, status.st_size)
