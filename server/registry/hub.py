"""Fetch a model from the hub into a models folder: `hearth pull REPO[:QUANT]`.

The listing comes first and says names, sizes and checksums; a choice is made; the files arrive in a hidden folder of
the models folder, are verified, looked at as any model file is, and only then get their name where the server sees
them. What was fetched, and of which commit, is noted in a small hidden JSON beside it.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from server.core.errors import CannotServe, InvalidValue, NotNow
from server.core.memory import readable
from server.core.models import ModelKind
from server.registry.folders import KINDS
from server.registry.hashes import HashCache
from server.registry.hub_choice import (
    RemoteFile,
    Wanted,
    choose,
    choose_projector,
    parse_name,
    projector_name,
)
from server.registry.hub_transfer import HUB, HubClient, HubSource, Pause, Progress
from server.registry.probe.base import BrokenModel, NotMine
from server.registry.probe.identify import identify
from server.registry.probe.parts import recognise
from server.registry.probe.safetensors import read_safetensors
from server.registry.probe.source import open_regular
from server.registry.statefile import read_state, write_state

logger = logging.getLogger(__name__)

PARTIALS = ".hearth-partial"
LEFTOVER_S = 24 * 3600.0
RESERVE = 1.05  # free space to be there, as a multiple of what is still to come

FOLDERS: Mapping[ModelKind, str] = {
    ModelKind.TEXT: "text",
    ModelKind.CHECKPOINT: "Stable-diffusion",
    ModelKind.VAE: "VAE",
    ModelKind.LORA: "Lora",
    ModelKind.EMBEDDING: "embeddings",
    ModelKind.CONTROLNET: "ControlNet",
    ModelKind.UPSCALER: "ESRGAN",
}
GENERIC_NAMES = ("model", "diffusion_pytorch_model", "pytorch_model", "pytorch_lora_weights", "ggml-model")


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """What a pull did. `fresh` files are new; kept ones were there. `notes` tell what a person should know."""

    repo: str
    commit: str
    files: tuple[Path, ...]
    fresh: tuple[Path, ...]
    notes: tuple[str, ...] = ()


class PullNote(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside a fetched file: where it came from."""

    repo: str
    path: str
    commit: str
    sha256: str


class _Sibling(msgspec.Struct):
    rfilename: str
    size: int | None = None
    blob_id: str | None = msgspec.field(default=None, name="blobId")
    lfs: dict[str, Any] | None = None


class _Info(msgspec.Struct):
    sha: str = "main"
    siblings: list[_Sibling] = []


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a repository at one commit."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]


def hub_source(environment: Mapping[str, str] = os.environ) -> HubSource:
    """Return the hub that `HF_ENDPOINT` names, with the token of `HF_TOKEN`; no other place is searched for a token."""
    return HubSource(environment.get("HF_ENDPOINT") or HUB, environment.get("HF_TOKEN") or None)


def no_progress(done: int, total: int, name: str) -> None:
    """Show nothing."""


def pull(
    name: str,
    models: Path,
    source: HubSource,
    *,
    kind: ModelKind | None = None,
    projector: bool = True,
    progress: Progress = no_progress,
    hashes: HashCache | None = None,
    pause: Pause = time.sleep,
) -> Pulled:
    """Fetch what `REPO[:QUANT]` names into its place below `models`. Blocks until it is there, verified.

    `kind` overrides what the content says, for files that do not say it. A text model comes with its projector, if the
    repository has one and `projector` is not False. A file that is there already is kept, also when the hub has a newer
    one. After a break the same call goes on where it ended.

    Raises:
        InvalidValue, UnknownModel, Unsupported: no such thing, or nothing that is fetched; the text says what there is.
        NotNow: the hub cannot be reached, or the same file is being fetched.
        CannotServe: the hub's answer is wrong or hostile, the content is damaged, or there is no room.
    """
    if kind is not None and kind not in FOLDERS:
        raise InvalidValue.of("kind", f"{kind} models cannot be fetched; choose from {', '.join(FOLDERS)}")
    client = HubClient(source, pause=pause)
    wanted = parse_name(name)
    listing = list_files(client, wanted)
    chosen = [_complete(client, listing, file) for file in choose(wanted, listing.files)]
    work = _Work(client, listing, models, kind, progress, hashes)
    eyes = choose_projector(chosen[0], listing.files) if projector and kind in (None, ModelKind.TEXT) else None
    if eyes is not None:
        chosen.insert(0, _complete(client, listing, eyes))
        work.takes_along(chosen[0], chosen[1])
    partials = models / PARTIALS
    _tidy(partials)
    missing = [file for file in chosen if not work.is_there(file)]
    _make_room(models, missing, partials, listing.repo)
    for file in missing:
        client.fetch(work.url(file), file, _partial(partials, listing.repo, file), progress)
    for file in missing:  # a model in parts appears when all of them are there, and its projector
        work.put_up(file, _partial(partials, listing.repo, file))
    return work.result()


def list_files(client: HubClient, wanted: Wanted) -> Listing:
    """Return the files of a repository with sizes and checksums.

    Raises:
        UnknownModel, NotNow, CannotServe: as the hub answers.
    """
    raw = client.json(f"/api/models/{quote(wanted.repo)}?blobs=true")
    try:
        info = msgspec.convert(raw, _Info)
    except msgspec.ValidationError as error:
        raise CannotServe(f"the hub's listing of {wanted.repo} is not understood: {error}") from error
    files = tuple(_remote(sibling) for sibling in info.siblings)
    return Listing(repo=wanted.repo, commit=info.sha, files=files)


class _Work:
    """One pull: knows what is there, puts files up, and collects what to tell."""

    def __init__(
        self,
        client: HubClient,
        listing: Listing,
        models: Path,
        kind: ModelKind | None,
        progress: Progress,
        hashes: HashCache | None,
    ) -> None:
        self._client = client
        self._listing = listing
        self._models = models
        self._kind = kind
        self._progress = progress
        self._hashes = hashes
        self._files: list[Path] = []
        self._fresh: list[Path] = []
        self._notes: list[str] = []
        self._along: dict[str, str] = {}

    def takes_along(self, projector: RemoteFile, model: RemoteFile) -> None:
        """Note that one file is the projector of another: it gets a name that says so."""
        stem = Path(_local_name(self._listing.repo, model)).stem
        self._along[projector.path] = projector_name(projector, stem)

    def url(self, file: RemoteFile) -> str:
        return _url(self._client, self._listing, file)

    def is_there(self, file: RemoteFile) -> bool:
        """Tell whether an earlier pull has put the file up; say so when the hub has another one now."""
        name = self._name(file)
        for kind in (self._kind,) if self._kind else tuple(FOLDERS):
            target = _folder(self._models, kind) / name
            note = read_state(_note_file(target), PullNote) if target.is_file() else None
            if note is None or (note.repo, note.path) != (self._listing.repo, file.path):
                continue
            if note.sha256 != (file.sha256 or note.sha256):
                self._notes.append(
                    f"{target} is kept; {note.repo} has another file since commit {self._listing.commit[:12]} "
                    f"(yours is of {note.commit[:12]}); delete it and pull again to have the new one"
                )
            self._files.append(target)
            self._progress(target.stat().st_size, target.stat().st_size, file.name)
            return True
        return False

    def put_up(self, file: RemoteFile, partial: Path) -> None:
        """Give a verified file its place and name. A projector that cannot have them is left out, and that is told."""
        try:
            self._put_up(file, partial)
        except CannotServe as error:
            if file.path not in self._along:
                raise
            partial.unlink(missing_ok=True)
            self._notes.append(f"the model comes without its projector: {error.message}")

    def _put_up(self, file: RemoteFile, partial: Path) -> None:
        kind = _kind_of(partial, file, self._kind)
        target = _folder(self._models, kind) / self._name(file)
        sha256 = file.sha256 or _sha256(partial)
        if target.exists():
            self._keep(target, sha256, partial)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(target)
            self._fresh.append(target)
        note = PullNote(repo=self._listing.repo, path=file.path, commit=self._listing.commit, sha256=sha256)
        write_state(_note_file(target), note)
        if self._hashes is not None:
            status = target.stat()
            self._hashes.remember(str(target.absolute()), status.st_size, status.st_mtime_ns, sha256)
        self._files.append(target)

    def _name(self, file: RemoteFile) -> str:
        return self._along.get(file.path) or _local_name(self._listing.repo, file)

    def result(self) -> Pulled:
        return Pulled(
            repo=self._listing.repo,
            commit=self._listing.commit,
            files=tuple(self._files),
            fresh=tuple(self._fresh),
            notes=tuple(self._notes),
        )

    def _keep(self, target: Path, sha256: str, partial: Path) -> None:
        """Leave a file of that name that somebody else put there, if it is the same; refuse otherwise."""
        if _sha256(target) != sha256:
            raise CannotServe(f"{target} exists and is another file; move it away and pull again")
        partial.unlink(missing_ok=True)


def _remote(sibling: _Sibling) -> RemoteFile:
    lfs = sibling.lfs or {}
    sha256, size = lfs.get("sha256") or lfs.get("oid"), lfs.get("size", sibling.size)
    return RemoteFile(
        path=sibling.rfilename,
        size=size if isinstance(size, int) else None,
        sha256=_hexadecimal(sha256, 64),
        blob="" if sha256 else _hexadecimal(sibling.blob_id, 40),
    )


def _complete(client: HubClient, listing: Listing, file: RemoteFile) -> RemoteFile:
    """Ask for size and checksum of a file whose listing lacks them."""
    if file.size is not None and (file.sha256 or file.blob):
        return file
    facts = client.facts(_url(client, listing, file))
    size = facts.get("x-linked-size") or facts.get("content-length") or ""
    tag = (facts.get("x-linked-etag") or facts.get("etag") or "").removeprefix("W/").strip('"')
    if not size.isdigit():
        raise CannotServe(f"the hub does not say how large {file.path!r} is")
    return RemoteFile(path=file.path, size=int(size), sha256=_hexadecimal(tag, 64), blob=_hexadecimal(tag, 40))


def _hexadecimal(text: object, length: int) -> str:
    if (
        not isinstance(text, str)
        or len(text) != length
        or not all(digit in "0123456789abcdef" for digit in text.lower())
    ):
        return ""
    return text.lower()


def _url(client: HubClient, listing: Listing, file: RemoteFile) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(listing.repo, file.path, revision=listing.commit, endpoint=client.endpoint)


def _kind_of(partial: Path, file: RemoteFile, kind: ModelKind | None) -> ModelKind:
    """Return what a file is, by its content and what was asked; raise CannotServe when it cannot be used."""
    try:
        if kind is None:
            kind = ModelKind.TEXT if file.name.lower().endswith(".gguf") else _recognised(partial)
        finding = identify(partial, kind, allow_pickle=False)
    except (NotMine, BrokenModel) as error:
        raise CannotServe(f"{file.path!r} is not put up: {error}") from error
    if finding.broken is not None:
        raise CannotServe(f"{file.path!r} is not put up: {finding.broken}")
    return kind


def _recognised(partial: Path) -> ModelKind:
    with open_regular(partial) as (content, status):
        kind = recognise(read_safetensors(content, status.st_size).tensors)
    if kind is None:
        raise NotMine("its content does not say what it is for; name a kind")
    return kind


def _folder(models: Path, kind: ModelKind) -> Path:
    """Return the folder of a kind, the one that is there if its name differs in case."""
    wanted = FOLDERS[kind]
    try:
        names = sorted(entry.name for entry in models.iterdir() if entry.is_dir())
    except OSError:
        names = []
    same = [name for name in names if name.casefold() == wanted.casefold() and KINDS[wanted.casefold()][0] is kind]
    return models / (same[0] if same and wanted not in same else wanted)


def _local_name(repo: str, file: RemoteFile) -> str:
    """Return the name that a file gets here: its own without folders, told apart when it is one that all use."""
    if file.stem.casefold().startswith(GENERIC_NAMES):
        return f"{repo.rsplit('/', 1)[-1]}-{file.name}"
    return file.name


def _note_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.pulled.json")


def _partial(partials: Path, repo: str, file: RemoteFile) -> Path:
    """Return where a file arrives: another content of the same name is another file."""
    key = f"{repo}\n{file.path}\n{file.sha256 or file.blob}\n{file.size}"
    suffix = Path(file.name).suffix.lower()
    return partials / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{suffix}"


def _make_room(models: Path, missing: Sequence[RemoteFile], partials: Path, repo: str) -> None:
    """Raise CannotServe when the disk cannot hold what is to come."""
    try:
        models.mkdir(parents=True, exist_ok=True)
        to_come = sum(max(0, (file.size or 0) - _there(_partial(partials, repo, file))) for file in missing)
        free = shutil.disk_usage(models).free
    except OSError as error:
        raise CannotServe(f"{models} cannot be used: {error.strerror}") from error
    if to_come * RESERVE > free:
        raise CannotServe(f"{models} has {readable(free)} free; {readable(to_come)} are to come")


def _there(partial: Path) -> int:
    try:
        return partial.stat().st_size
    except OSError:
        return 0


def _tidy(partials: Path, now: Callable[[], float] = time.time) -> None:
    """Remove what broken pulls left more than a day ago."""
    try:
        for leftover in partials.iterdir():
            if leftover.is_file() and now() - leftover.stat().st_mtime > LEFTOVER_S:
                leftover.unlink()
    except OSError:
        return


def _sha256(file: Path) -> str:
    digest = HashCache().compute_now(str(file))
    if digest is None:
        raise NotNow(f"{file} cannot be read now", retry_after=60)
    return digest
