"""Recognise what came before GGUF: the ggml, ggmf and ggjt files of March to August 2023. They are not loaded yet."""

from server.core.models import ModelKind
from server.registry.probe.base import Finding, NotMine

# The first four bytes on disk: a little-endian number whose letters read backwards.
MAGICS = {b"lmgg": "ggml", b"fmgg": "ggmf", b"tjgg": "ggjt"}
ADAPTER = b"algg"
OTHER_VERSIONS = frozenset({100, 101})  # ggmf of RWKV

NOT_YET = "a {name} file of 2023; Hearth does not convert these to GGUF yet"


def probe_ggml(head: bytes) -> Finding:
    """Return what a file is by its first 8 bytes; raise NotMine when it is none of the old containers."""
    magic = head[:4]
    if magic == ADAPTER:
        raise NotMine("a ggla adapter of 2023, not a model")
    name = MAGICS.get(magic)
    if name is None:
        raise NotMine("not a ggml, ggmf or ggjt file")
    version = int.from_bytes(head[4:8], "little") if name != "ggml" else 0
    if name == "ggmf" and version in OTHER_VERSIONS:
        raise NotMine("an RWKV file of 2023")
    shown = f"{name} v{version}" if version else name
    return Finding(kind=ModelKind.TEXT, architecture="llama", broken=NOT_YET.format(name=shown))
