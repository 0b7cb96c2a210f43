"""Which files of a hub repository are wanted: names checked, a quantisation chosen. Pure.

| asked for | gets |
|---|---|
| `org/repo` with GGUF files | Q4_K_M, or what is nearest to it in bits per weight; all parts |
| `org/repo:Q8_0` | that quantisation; an error names those that exist |
| `org/repo:model-v2.safetensors` | that file of the listing |
| `org/repo` with one single-file `.safetensors` | that file |
| `hf.co/org/repo`, `https://huggingface.co/org/repo` | the same |

With a model of a repository goes its projector, the eyes of a text model, where there is one (`mmproj-*.gguf`).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from server.core.errors import CannotServe, InvalidValue, Unsupported
from server.registry.projectors import base_name, precision_rank

DEFAULT_QUANT = "Q4_K_M"

# Bits per weight of llama.cpp's quantisations, rounded; for nearness only.
QUANT_BITS: dict[str, float] = {
    "TQ1_0": 1.7,
    "IQ1_S": 1.6,
    "IQ1_M": 1.8,
    "TQ2_0": 2.1,
    "IQ2_XXS": 2.1,
    "IQ2_XS": 2.3,
    "IQ2_S": 2.5,
    "IQ2_M": 2.7,
    "Q2_K": 2.6,
    "Q2_K_S": 2.5,
    "Q2_K_L": 2.8,
    "Q2_K_XL": 2.8,
    "IQ3_XXS": 3.1,
    "IQ3_XS": 3.3,
    "IQ3_S": 3.4,
    "IQ3_M": 3.7,
    "Q3_K_S": 3.5,
    "Q3_K_M": 3.9,
    "Q3_K_L": 4.3,
    "Q3_K_XL": 4.3,
    "IQ4_XS": 4.25,
    "IQ4_NL": 4.5,
    "MXFP4": 4.25,
    "MXFP4_MOE": 4.25,
    "Q4_0": 4.55,
    "Q4_K_S": 4.6,
    "Q4_K_M": 4.85,
    "Q4_K_L": 4.9,
    "Q4_K_XL": 4.9,
    "Q4_1": 5.0,
    "Q5_0": 5.5,
    "Q5_K_S": 5.5,
    "Q5_K_M": 5.7,
    "Q5_K_L": 5.75,
    "Q5_K_XL": 5.75,
    "Q5_1": 6.0,
    "Q6_K": 6.6,
    "Q6_K_L": 6.7,
    "Q6_K_XL": 6.7,
    "Q8_0": 8.5,
    "Q8_K_XL": 8.9,
    "F16": 16.0,
    "FP16": 16.0,
    "BF16": 16.0,
    "F32": 32.0,
    "FP32": 32.0,
}

_QUANT = re.compile(
    "(?:^|[-._/])(" + "|".join(sorted(map(re.escape, QUANT_BITS), key=len, reverse=True)) + r")(?=$|[-./])",
    re.IGNORECASE,
)
_PART = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})$")
_PREFIX = re.compile(r"^(?:https?://)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\:*?\"<>|]")
_PROJECTOR = "mmproj"
_NOT_A_MODEL = (_PROJECTOR, "imatrix")
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


class Wanted(msgspec.Struct, frozen=True):
    """A repository, and which of its files: a quantisation or a file name, empty for the default."""

    repo: str
    choice: str = ""


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a repository. `sha256` is known for large files, `blob` (git's SHA-1 of a blob) for the others."""

    path: str
    size: int | None = None
    sha256: str = ""
    blob: str = ""

    @property
    def name(self) -> str:
        """Return the name without folders."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """Return the name without folders and extension."""
        return self.name.rsplit(".", 1)[0]


def parse_name(text: str) -> Wanted:
    """Return what `REPO[:QUANT]` asks for; raise InvalidValue when it is no repository name."""
    bare = _PREFIX.sub("", text.strip())
    repo, colon, choice = bare.partition(":")
    if not _is_repo(repo) or (colon and not choice) or choice.startswith("/") or _UNSAFE.search(choice):
        raise InvalidValue.of("repo", f"{text[:200]!r} is not a repository; write ORGANISATION/NAME or .../NAME:QUANT")
    return Wanted(repo, choice)


def check_path(path: str) -> None:
    """Raise CannotServe when a name of a listing could lead out of a folder or is none that a file may have."""
    parts = path.split("/")
    if not path or len(path) > 1024 or _UNSAFE.search(path) or any(part in ("", ".", "..") for part in parts):
        raise CannotServe(f"the repository lists a file under a name that is not allowed: {path[:200]!r}")


def choose(wanted: Wanted, files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Return the files of one model, all its parts in order.

    Raises:
        InvalidValue: there is no such choice, or several; the names are told.
        Unsupported: the repository has nothing that can be loaded safely.
    """
    for file in files:
        check_path(file.path)
    named = [file for file in files if wanted.choice and wanted.choice in (file.path, file.name)]
    if named:
        return _named(named[0], files)
    ggufs = [file for file in files if _has(file, (".gguf",)) and not _is_extra(file)]
    if ggufs:
        return _by_quant(wanted, ggufs)
    return _single_file(wanted, files)


def choose_projector(model: RemoteFile, files: Iterable[RemoteFile]) -> RemoteFile | None:
    """Return the projector that goes with a chosen model file, None when there is none or it is one itself.

    One that is named like the model is preferred to one whose name is the beginning of it or says nothing; then one in
    the same folder, and the better precision.
    """
    if not _has(model, (".gguf",)) or _is_extra(model):
        return None
    name = base_name(model.stem)

    def names_other(file: RemoteFile) -> bool:
        own = base_name(file.stem)
        return bool(own) and own != name and not name.startswith(f"{own}-")

    def rank(file: RemoteFile) -> tuple[int, bool, int, str]:
        elsewhere = file.path.rpartition("/")[0] != model.path.rpartition("/")[0]
        return -len(base_name(file.stem)), elsewhere, precision_rank(file.stem), file.path

    found = [file for file in files if _has(file, (".gguf",)) and _PROJECTOR in file.name.casefold()]
    return min((file for file in found if not names_other(file)), key=rank, default=None)


def projector_name(projector: RemoteFile, model_stem: str) -> str:
    """Return the name under which a projector is known as that of a model, its own where that says so already."""
    name = base_name(model_stem)
    if base_name(projector.stem) == name:
        return projector.name
    precision = quant_of(projector.path)
    return f"{_PROJECTOR}-{name}-{precision}.gguf" if precision else f"{_PROJECTOR}-{name}.gguf"


def quant_of(path: str) -> str:
    """Return the quantisation that a GGUF file's path names, in capitals; empty when it names none."""
    stem = path.rsplit(".", 1)[0]
    folder, _, name = stem.rpartition("/")
    match = _PART.match(name)
    found = _QUANT.findall(match["stem"] if match else name) or _QUANT.findall(folder)
    return str(found[-1]).upper() if found else ""


def _is_repo(repo: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, not marked so

    try:
        validate_repo_id(repo)
    except HFValidationError:
        return False
    return True


def _named(file: RemoteFile, files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    if _has(file, PICKLES):
        raise Unsupported.of("repo", f"{file.name!r} is a pickle file; only .gguf and .safetensors are fetched")
    if not _has(file, (".gguf", ".safetensors")):
        raise Unsupported.of("repo", f"{file.name!r} is not a model file; only .gguf and .safetensors are fetched")
    return _whole(file, files)


def _by_quant(wanted: Wanted, ggufs: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    by_quant: dict[str, list[RemoteFile]] = defaultdict(list)
    for file in ggufs:
        by_quant[quant_of(file.path)].append(file)
    asked = wanted.choice.upper().removeprefix("UD-")
    if asked and asked not in by_quant:
        raise InvalidValue.of("repo", f"{wanted.repo} has no {wanted.choice[:80]!r}; it has {_listed(by_quant)}")
    quant = asked or _nearest(by_quant)
    models = {_group(file) for file in by_quant[quant]}
    if len(models) > 1:
        shown = _listed(file.path for file in by_quant[quant])
        raise InvalidValue.of("repo", f"{wanted.repo} has several models; name a file after the colon: {shown}")
    return _whole(by_quant[quant][0], ggufs)


def _nearest(quants: Iterable[str]) -> str:
    target = QUANT_BITS[DEFAULT_QUANT]
    return min(quants, key=lambda quant: (quant != DEFAULT_QUANT, abs(QUANT_BITS.get(quant, 64.0) - target), quant))


def _single_file(wanted: Wanted, files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    single = [file for file in files if _has(file, (".safetensors",)) and "/" not in file.path and not _is_part(file)]
    if wanted.choice:
        shown = _listed(file.path for file in single)
        raise InvalidValue.of("repo", f"{wanted.repo} has no file {wanted.choice[:80]!r}; it has {shown}")
    if len(single) == 1:
        return (single[0],)
    if single:
        shown = _listed(file.path for file in single)
        raise InvalidValue.of("repo", f"{wanted.repo} has several models; name one after the colon: {shown}")
    if any(_has(file, PICKLES) for file in files):
        raise Unsupported.of("repo", f"{wanted.repo} has only pickle files; only .gguf and .safetensors are fetched")
    raise Unsupported.of("repo", f"{wanted.repo} has neither GGUF files nor a single-file .safetensors model")


def _whole(file: RemoteFile, files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Return all parts of the model that a file belongs to."""
    match = _PART.match(file.stem)
    if match is None:
        return (file,)
    if not _has(file, (".gguf",)):
        raise Unsupported.of("repo", f"{file.name!r} is one of several parts; a single-file model is needed")
    parts = sorted((other for other in files if _group(other) == _group(file)), key=lambda other: other.path)
    if len(parts) != int(match["parts"]):
        raise CannotServe(f"the repository has {len(parts)} of the {int(match['parts'])} parts of {match['stem']!r}")
    return tuple(parts)


def _group(file: RemoteFile) -> str:
    folder = file.path.rpartition("/")[0]
    match = _PART.match(file.stem)
    return f"{folder}/{match['stem']}-of-{match['parts']}" if match else file.path


def _is_part(file: RemoteFile) -> bool:
    return _PART.match(file.stem) is not None


def _is_extra(file: RemoteFile) -> bool:
    return any(word in file.name.casefold() for word in _NOT_A_MODEL)


def _has(file: RemoteFile, extensions: tuple[str, ...]) -> bool:
    return file.path.lower().endswith(extensions)


def _listed(names: Iterable[str]) -> str:
    shown = sorted({name or "(unnamed)" for name in names})
    return ", ".join(shown[:20]) + (", ..." if len(shown) > 20 else "") if shown else "nothing"
