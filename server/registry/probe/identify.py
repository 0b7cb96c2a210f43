"""Ask the probes in turn what a file is. The content decides the format, the folder what the file is for."""

import hashlib
from pathlib import Path
from typing import BinaryIO

import msgspec

from server.core.models import ModelKind, Runtime
from server.registry.probe.base import BrokenModel, Finding, NotMine
from server.registry.probe.checkpoint import UNET_INPUTS, probe_checkpoint
from server.registry.probe.diffusers import INDEX, probe_folder
from server.registry.probe.ggml import is_ggml, probe_ggml
from server.registry.probe.gguf import MAGIC
from server.registry.probe.parts import HOMES, embedding_shape, lora_family, recognise
from server.registry.probe.picture import SIGNATURE, identify_picture
from server.registry.probe.safetensors import SafetensorsHeader, looks_like_safetensors, read_safetensors
from server.registry.probe.source import open_regular
from server.registry.probe.text import probe_gguf

PICKLE_REFUSED = "pickle files are refused; set [image] allow_pickle = true"

RUNTIMES = {
    ModelKind.CHECKPOINT: Runtime.DIFFUSION,
    ModelKind.UPSCALER: Runtime.UPSCALER,
    ModelKind.ANNOTATOR: Runtime.ANNOTATOR,
}
"""Which engine runs a file of tensors that is a model by itself."""

OLD_HASH_AT = 0x100000
OLD_HASH_BYTES = 0x10000


def identify(path: Path, kind: ModelKind, *, allow_pickle: bool) -> Finding:
    """Return what the file at `path` is, given what its folder is for. Reads headers; blocks shortly.

    Raises:
        NotMine: it is nothing that can be listed as `kind`.
        BrokenModel: it is, and cannot be used.
    """
    if kind is ModelKind.CHECKPOINT and path.name == INDEX:
        return probe_folder(path)
    with open_regular(path) as (file, status):
        head = file.read(16) or b""
        file.seek(0)
        if kind is ModelKind.TEXT:
            return _text(file, status.st_size, head, path)
        finding = _part(file, status.st_size, head, kind, allow_pickle=allow_pickle)
        if kind in (ModelKind.CHECKPOINT, ModelKind.CONTROLNET):
            file.seek(OLD_HASH_AT)
            finding = _with_old_hash(finding, file.read(OLD_HASH_BYTES) or b"")
        return finding


def old_hash(sample: bytes) -> str:
    """Return the 8 digits by which A1111 named a file before 2023: 64 KiB from the offset of 1 MiB, hashed."""
    return hashlib.sha256(sample).hexdigest()[:8]


def _with_old_hash(finding: Finding, sample: bytes) -> Finding:
    return msgspec.structs.replace(finding, short_hashes=(old_hash(sample),))


def _text(file: BinaryIO, size: int, head: bytes, path: Path) -> Finding:
    if is_ggml(head):
        return probe_ggml(file, size, head, path)
    if head[:4] != MAGIC and path.suffix.lower() == ".gguf":
        raise BrokenModel(_not_gguf(head))
    return probe_gguf(file, size)


def _not_gguf(head: bytes) -> str:
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the model itself; fetch it with git lfs pull"
    return "the file does not begin as a GGUF file does"


def _part(file: BinaryIO, size: int, head: bytes, kind: ModelKind, *, allow_pickle: bool) -> Finding:
    if not head:
        raise BrokenModel("the file is empty")
    if head.startswith(b"version https://git-lfs"):
        raise BrokenModel(_not_gguf(head))
    if head[:4] == MAGIC:
        raise NotMine("a GGUF file; text models belong in text/")
    if looks_like_safetensors(head):
        return _safetensors(read_safetensors(file, size), kind)
    if kind is ModelKind.EMBEDDING and head.startswith(SIGNATURE):
        return identify_picture(file)
    if _is_pickle(head):
        return _pickle(kind, allow_pickle=allow_pickle)
    raise BrokenModel("neither a safetensors nor a PyTorch file")


def _is_pickle(head: bytes) -> bool:
    """Tell a PyTorch zip, a pickle of protocol 2 or later, or the tar of torch's first days (a name, then zeros)."""
    return head.startswith(b"PK\x03\x04") or (head[:1] == b"\x80" and head[1:2] <= b"\x05") or head[:5] == b"sys_i"


def _pickle(kind: ModelKind, *, allow_pickle: bool) -> Finding:
    return Finding(
        kind=kind,
        runtime=RUNTIMES.get(kind),
        broken=None if allow_pickle else PICKLE_REFUSED,
    )


def _safetensors(header: SafetensorsHeader, kind: ModelKind) -> Finding:
    if not header.tensors:
        raise BrokenModel("the file holds no tensors")
    found = recognise(header.tensors)
    if found is not None and found is not kind and kind in HOMES and not _holds(found, kind):
        raise BrokenModel(f"the file holds a {found} model; it belongs in {HOMES[found]}/")
    match kind:
        case ModelKind.CHECKPOINT:
            return _checkpoint(header)
        case ModelKind.LORA:
            return Finding(kind=kind, architecture=lora_family(header), metadata=header.metadata)
        case ModelKind.EMBEDDING:
            return _embedding(header)
        case _:
            return Finding(kind=kind, runtime=RUNTIMES.get(kind), metadata=header.metadata)


def _holds(found: ModelKind, kind: ModelKind) -> bool:
    """Tell whether what was `found` may serve as `kind`: a checkpoint brings its VAE, a control model may be a LoRA."""
    return (found, kind) in {(ModelKind.CHECKPOINT, ModelKind.VAE), (ModelKind.LORA, ModelKind.CONTROLNET)}


def _checkpoint(header: SafetensorsHeader) -> Finding:
    try:
        facts = probe_checkpoint(header.tensors)
    except NotMine as error:
        raise BrokenModel(str(error)) from error
    suffix = UNET_INPUTS.get(facts.in_channels, "")
    return Finding(
        kind=ModelKind.CHECKPOINT,
        runtime=RUNTIMES[ModelKind.CHECKPOINT],
        architecture=f"{facts.family}{suffix}",
        image=facts,
        metadata=header.metadata,
    )


def _embedding(header: SafetensorsHeader) -> Finding:
    shape = embedding_shape(header.tensors)
    if shape is None:
        raise BrokenModel("the file holds no embedding vectors")
    vectors, width = shape
    facts = {"embedding.vectors": str(vectors), "embedding.width": str(width)}
    return Finding(kind=ModelKind.EMBEDDING, metadata={**header.metadata, **facts})
