"""The short hashes by which infotexts name networks. Reading files takes time: call `Fingerprints.of` in a thread."""

import hashlib
import struct
from pathlib import Path
from threading import Lock

from server.core.models import ModelCard, ModelKind

DIGITS = 12
_KNOWN = 4096


class Fingerprints:
    """Hashes of network files, kept as long as the file stays the same. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], str] = {}
        self._lock = Lock()

    def of(self, card: ModelCard) -> str | None:
        """Return the card's 12 hex digits, None when its file cannot be read.

        A LoRA says its own in its metadata, or has that of the file without its header, so that edited metadata does
        not change it; any other file that of the whole.
        """
        told = card.metadata.get("sshs_model_hash") if card.kind is ModelKind.LORA else None
        if told:
            return told[:DIGITS]
        try:
            path = Path(card.files[0])
            stat = path.stat()
            key = (card.files[0], stat.st_size, stat.st_mtime_ns)
            with self._lock:
                known = self._known.get(key)
            if known is None:
                known = _digest(path, skip_header=card.kind is ModelKind.LORA and path.suffix == ".safetensors")
                with self._lock:
                    if len(self._known) >= _KNOWN:
                        self._known.clear()
                    self._known[key] = known
        except (OSError, IndexError, struct.error):
            return None
        return known


def _digest(path: Path, *, skip_header: bool) -> str:
    with path.open("rb") as file:
        if skip_header:
            (length,) = struct.unpack("<Q", file.read(8))
            file.seek(8 + min(length, 2**40))
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]
