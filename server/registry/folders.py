"""Which files stand in the models folders and what each folder is for; looks at names and status, opens nothing.

The layout is that of A1111's `models` folder (names of folders in any case), plus `text/` or `llm/` for GGUF:

| folder | kind | files |
|---|---|---|
| `Stable-diffusion/` | checkpoint | `.safetensors .ckpt`; `*.vae.*` is a VAE; a folder with `model_index.json` is one |
| `VAE/` | VAE | `.safetensors .pt .ckpt` |
| `Lora/`, `LyCORIS/` | LoRA | `.safetensors .pt .ckpt` |
| `embeddings/`, also beside a folder named `models` | embedding | `.safetensors .pt .bin .png` |
| `hypernetworks/` | hypernetwork | `.pt .safetensors` |
| `ControlNet/` | control model | `.safetensors .pth .pt .bin .ckpt` |
| `clip_vision/` | image encoder for control models | `.safetensors .pth .pt .bin` |
| `annotators/`, also A1111's folder for them | network that draws maps | `.safetensors .pth .pt .bin` |
| `ESRGAN/ RealESRGAN/ SwinIR/ DAT/ HAT/ ScuNET/` | upscaler | `.pth .pt .safetensors` |
| `VAE-approx/` | preview decoder | `.pt .pth .safetensors` |
| `text/`, `llm/` | text | `.gguf`, `.bin` of 2023 (with parts `.bin.1` ...); LoRA adapters are known by their header |
| the folder itself, any other subfolder | text | `.gguf` |

Subfolders count, hidden ones do not. Links are followed, also out of the models folders, as A1111 does: people keep big
files on other disks. A link needs the rights of whoever fills the folder, and what it leads to must be a regular file
that its content shows to be a model. A folder is read once, and at most `MOST_FOLDERS` below a start.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from server.core.models import ModelKind

_TORCH = frozenset({".safetensors", ".pt", ".ckpt"})
_GGUF = frozenset({".gguf"})

ANNOTATORS = "annotators"
ANNOTATORS_BESIDE = Path("extensions/sd-webui-controlnet/annotator/downloads")
"""Where the extension of A1111 puts them, beside `models`."""

KINDS: dict[str, tuple[ModelKind, frozenset[str]]] = {
    "stable-diffusion": (ModelKind.CHECKPOINT, frozenset({".safetensors", ".ckpt"})),
    "vae": (ModelKind.VAE, _TORCH),
    "lora": (ModelKind.LORA, _TORCH),
    "lycoris": (ModelKind.LORA, _TORCH),
    "embeddings": (ModelKind.EMBEDDING, frozenset({".safetensors", ".pt", ".bin", ".png"})),
    "hypernetworks": (ModelKind.HYPERNETWORK, frozenset({".pt", ".safetensors"})),
    "controlnet": (ModelKind.CONTROLNET, _TORCH | {".pth", ".bin"}),
    "clip_vision": (ModelKind.IMAGE_ENCODER, frozenset({".safetensors", ".pt", ".pth", ".bin"})),
    ANNOTATORS: (ModelKind.ANNOTATOR, frozenset({".safetensors", ".pth", ".pt", ".bin"})),
    "vae-approx": (ModelKind.PREVIEW, frozenset({".pt", ".pth", ".safetensors"})),
    **dict.fromkeys(
        ("esrgan", "realesrgan", "swinir", "dat", "hat", "scunet"),
        (ModelKind.UPSCALER, frozenset({".pth", ".pt", ".safetensors"})),
    ),
    **dict.fromkeys(("text", "llm"), (ModelKind.TEXT, frozenset({".gguf", ".bin"}))),
}

MOST_FOLDERS = 2000
MOST_PARTS = 64
PARTED = ".bin"

INDEX = "model_index.json"
FOLDER_SUFFIX = ".diffusers"
"""What stands where a file has its extension, so that `sd-v1.5` keeps its whole name."""

_VAE_BESIDE = re.compile(r"\.vae\.(safetensors|ckpt|pt)$", re.IGNORECASE)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A file with a model's extension. `name` is relative to its kind's folder.

    A model that is a folder is found by its `model_index.json`, named after the folder with `.diffusers` behind it, and
    has `more` files, as has a text model of 2023 in parts; size and modification are those of all together.
    """

    path: Path
    name: str
    kind: ModelKind
    size: int
    mtime_ns: int
    inode: int
    more: tuple[Path, ...] = ()


class Skipped(msgspec.Struct, frozen=True):
    """A file or folder that is not listed, and why."""

    path: str
    reason: str


Entry = Found | Skipped


class _Start(msgspec.Struct, frozen=True):
    folder: Path
    kind: ModelKind
    extensions: frozenset[str]
    deep: bool = True


def walk(folders: Sequence[Path]) -> Iterator[Entry]:
    """Yield what stands in the models folders, in a stable order. Never opens a file; a missing folder is `Skipped`."""
    starts: list[_Start] = []
    for folder in folders:
        if not folder.is_dir():
            yield Skipped(_shown(folder), "there is no such folder")
            continue
        starts.extend(_starts(folder))
    seen: set[tuple[int, int, ModelKind]] = set()
    for start in starts:
        yield from _walk(start, seen)


def styles_file(folders: Sequence[Path]) -> Path | None:
    """Return the first `styles.csv` in a models folder or one level above."""
    for folder in folders:
        for place in (folder, folder.absolute().parent):
            if (place / "styles.csv").is_file():
                return place / "styles.csv"
    return None


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts `model-9` before `model-10` and ignores case."""
    parts = re.split(r"(\d+)", text.casefold())
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)


def _starts(folder: Path) -> Iterator[_Start]:
    """Yield where to begin below one models folder."""
    folder = folder.absolute()
    yield _Start(folder, ModelKind.TEXT, _GGUF, deep=False)
    for entry in _entries(folder):
        path = folder / entry.name
        if entry.name.startswith(".") or not _is_folder(entry):
            continue
        known = KINDS.get(entry.name.casefold())
        if known is None:
            yield _Start(path, ModelKind.TEXT, _GGUF)
            continue
        yield _Start(path, *known)
    beside = folder.parent / "embeddings"
    if folder.name.casefold() == "models" and beside.is_dir():
        yield _Start(beside, *KINDS["embeddings"])
    downloads = folder.parent / ANNOTATORS_BESIDE
    if folder.name.casefold() == "models" and downloads.is_dir():
        yield _Start(downloads, *KINDS[ANNOTATORS])


def _walk(start: _Start, seen: set[tuple[int, int, ModelKind]]) -> Iterator[Entry]:
    pending = [start.folder]
    read = 0
    while pending:
        folder = pending.pop()
        if not _is_new(folder, start.kind, seen):
            continue
        if read == MOST_FOLDERS:
            yield Skipped(_shown(folder), f"more than {MOST_FOLDERS} folders below {_shown(start.folder)}")
            return
        read += 1
        if start.kind is ModelKind.CHECKPOINT and (folder / INDEX).is_file() and folder != start.folder:
            yield _folder_model(folder, start)
            continue
        below: list[Path] = []
        for entry in _entries(folder):
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                below.append(folder / entry.name)
            elif Path(entry.name).suffix.lower() in start.extensions:
                yield _file(entry, folder, start)
        if start.deep:
            pending.extend(reversed(below))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: natural(entry.name))
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_new(folder: Path, kind: ModelKind, seen: set[tuple[int, int, ModelKind]]) -> bool:
    """Tell whether a folder was not read before: links may lead in circles, folders may be named twice."""
    try:
        status = folder.stat()
    except OSError:
        return False
    key = (status.st_dev, status.st_ino, kind)
    if key in seen:
        return False
    seen.add(key)
    return True


def _file(entry: os.DirEntry[str], folder: Path, start: _Start) -> Entry:
    path = folder / entry.name
    if not _is_plain(str(path)):
        return Skipped(_shown(path), "its name is not UTF-8 or holds control characters")
    parts = _parts(path) if start.kind is ModelKind.TEXT else ()
    try:
        status = entry.stat()
        more = [part.stat() for part in parts]
    except OSError as error:
        return Skipped(_shown(path), f"a link that leads nowhere ({error.strerror})")
    if not stat.S_ISREG(status.st_mode):
        return Skipped(_shown(path), "not a regular file")
    is_vae = start.kind is ModelKind.CHECKPOINT and _VAE_BESIDE.search(entry.name) is not None
    return Found(
        path=path,
        name=path.relative_to(start.folder).as_posix(),
        kind=ModelKind.VAE if is_vae else start.kind,
        size=sum(each.st_size for each in (status, *more)),
        mtime_ns=max(each.st_mtime_ns for each in (status, *more)),
        inode=status.st_ino,
        more=parts,
    )


def _parts(path: Path) -> tuple[Path, ...]:
    """Return the files that continue one of 2023."""
    if path.suffix.lower() != PARTED:
        return ()
    parts: list[Path] = []
    while len(parts) < MOST_PARTS and (part := path.with_name(f"{path.name}.{len(parts) + 1}")).is_file():
        parts.append(part)
    return tuple(parts)


def _folder_model(folder: Path, start: _Start) -> Entry:
    """Return a folder of the diffusers library as one model: its index, with the weights one level below."""
    if not _is_plain(str(folder)):
        return Skipped(_shown(folder), "its name is not UTF-8 or holds control characters")
    weights = sorted(path for path in folder.glob("*/*.safetensors") if _is_plain(str(path)))
    try:
        index = (folder / INDEX).stat()
        statuses = [path.stat() for path in weights]
    except OSError as error:
        return Skipped(_shown(folder), f"cannot be read ({error.strerror})")
    return Found(
        path=folder / INDEX,
        name=f"{folder.relative_to(start.folder).as_posix()}{FOLDER_SUFFIX}",
        kind=start.kind,
        size=sum(status.st_size for status in statuses),
        mtime_ns=max(status.st_mtime_ns for status in (index, *statuses)),
        inode=index.st_ino,
        more=tuple(weights),
    )


def _is_plain(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return _CONTROL_CHARACTER.search(text) is None


def _shown(path: Path) -> str:
    """Return a path that can be logged and sent as JSON whatever its bytes are."""
    escaped = os.fsencode(path).decode("utf-8", errors="backslashreplace")
    return _CONTROL_CHARACTER.sub(lambda match: f"\\x{ord(match[0]):02x}", escaped)
