"""Caches of slots that are kept in files, taken back, or forgotten, between two steps of the engine.

A sequence is not a slot: the engine puts prompts where it is best for all, and moves replies. So a slot is found by the
number that a request gave, see `Caches.of_slot`. What was taken back is a prefix like any other: the next prompt that
begins alike inherits it.
"""

import errno
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from server.core.adapters import AdapterSet, chosen_set
from server.core.errors import CannotServe, InvalidValue, NotNow, ServerError, Unsupported
from server.core.jobs import JobDone, JobEvent, JobFailed, JobId, Outcome
from server.core.models import AdapterFacts
from server.core.slots import SLOTS_OFF, SlotDone, SlotRequest, is_file_name
from server.core.text import AdapterScale
from server.engines.text import slot_files
from server.engines.text.caches import Caches
from server.engines.text.identity import Identity
from server.engines.text.native import Context
from server.engines.text.prefix import Scope
from server.engines.text.sequences import CachedSequence
from server.engines.text.slot_files import Label

logger = logging.getLogger(__name__)


class Slots:
    """What is to be done with caches; it waits while they are in use. `folder` is where files are, None = nowhere."""

    def __init__(
        self,
        context: Context,
        caches: Caches,
        identity: Identity,
        *,
        folder: Path | None,
        adapters: Sequence[AdapterFacts] = (),
    ) -> None:
        self._context = context
        self._caches = caches
        self._identity = identity
        self._folder = folder
        self._adapters = tuple(adapters)
        self._waiting: dict[JobId, SlotRequest] = {}

    def __contains__(self, job: JobId) -> bool:
        return job in self._waiting

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def submit(self, job: JobId, work: SlotRequest) -> None:
        """Check and queue work.

        Raises:
            Unsupported: no folder is set.
            InvalidValue: there is no such slot, or that is no name of a file.
        """
        if self._folder is None:
            raise Unsupported.of("action", SLOTS_OFF)
        if not 0 <= work.slot < len(self._caches.sequences):
            raise InvalidValue.of("id_slot", "Invalid slot ID")
        if work.action != "erase" and not is_file_name(work.filename):
            raise InvalidValue.of("filename", "Invalid filename")
        self._waiting[job] = work

    def cancel(self, job: JobId) -> None:
        """Forget work that waits."""
        self._waiting.pop(job, None)

    def step(self) -> list[Outcome]:
        """Do what can be done now, one job at most; blocks while a file is written or read."""
        for job, work in self._waiting.items():
            sequence = self._sequence(work)
            if sequence is not None and sequence.reply is not None:
                continue  # its turn comes when the reply in it has ended
            if sequence is None and work.action == "restore":
                continue  # all sequences are in use
            del self._waiting[job]
            return self._answer(job, work, sequence)
        return []

    def _sequence(self, work: SlotRequest) -> CachedSequence | None:
        """Return the sequence that work is about; for a restore, one that may be overwritten."""
        found = self._caches.of_slot(work.slot, work.scope)
        if work.action == "restore" and (found is None or found.reply is not None):
            return self._caches.least_wanted()
        return found

    def _answer(self, job: JobId, work: SlotRequest, sequence: CachedSequence | None) -> list[Outcome]:
        began = time.perf_counter()
        try:
            tokens, size = self._do(work, sequence)
        except ServerError as error:
            return [JobFailed(job, error.to_data())]
        except OSError as error:
            return [JobFailed(job, _told(error, work).to_data())]
        took = 1000 * (time.perf_counter() - began)
        return [JobEvent(job, SlotDone(slot=work.slot, tokens=tokens, bytes=size, took_ms=took)), JobDone(job)]

    def _do(self, work: SlotRequest, sequence: CachedSequence | None) -> tuple[int, int]:
        """Return how many tokens it was about and how many bytes of a file."""
        if sequence is None or (work.action == "save" and not sequence.length):
            if work.action == "save":
                raise InvalidValue.of("id_slot", f"slot {work.slot} holds nothing that could be saved")
            return 0, 0
        tokens = sequence.length
        match work.action:
            case "save":
                return tokens, self._save(work, sequence)
            case "restore":
                return self._restore(work, sequence)
            case "erase":
                self._caches.empty(sequence)
                return tokens, 0

    def _save(self, work: SlotRequest, sequence: CachedSequence) -> int:
        path = self._path(work)
        scope = slot_files.scope_digest(work.scope)
        there = slot_files.label_of(path)
        if there is not None and there.scope != scope:
            raise InvalidValue.of("filename", "Invalid filename: there is a file of that name of another owner")
        acting = sequence.scope.adapters
        label = Label(
            identity=self._identity.of(acting),
            scope=scope,
            tokens=sequence.length,
            adapters=tuple((self._adapters[number].name, scale) for number, scale in acting),
        )
        tokens = sequence.tokens
        return slot_files.write(path, label, lambda name: self._context.save(sequence.id, tokens, name))

    def _restore(self, work: SlotRequest, sequence: CachedSequence) -> tuple[int, int]:
        with slot_files.checked(self._path(work)) as (name, label, size):
            acting = self._checked(label, work)
            room = self._caches.length
            if label.tokens > room:
                raise _refused(f"it holds {label.tokens} tokens, and a slot has room for {room}")
            self._caches.empty(sequence)
            tokens = self._context.restore(sequence.id, name, room)
            if tokens is None or len(tokens) != label.tokens:
                self._caches.empty(sequence)
                raise _refused("llama.cpp could not take it; was it saved under other settings?")
        self._caches.fill(sequence, tokens, Scope(work.scope, acting), work.slot)
        return len(tokens), size

    def _checked(self, label: Label, work: SlotRequest) -> AdapterSet:
        """Return the adapters under which a cache was computed; raise InvalidValue when it is of no use here."""
        if label.scope != slot_files.scope_digest(work.scope):
            raise _missing()
        acting = chosen_set(
            [AdapterScale(adapter=name, scale=scale, param="filename") for name, scale in label.adapters],
            self._adapters,
        )
        if label.identity != self._identity.of(acting):
            raise _refused("it was saved for another model, or for one that was loaded with other settings")
        return acting

    def _path(self, work: SlotRequest) -> Path:
        if self._folder is None:
            raise Unsupported.of("action", SLOTS_OFF)
        return self._folder / work.filename


def _refused(why: str) -> InvalidValue:
    return InvalidValue.of("filename", f"Unable to restore slot: {why}")


def _missing() -> InvalidValue:
    return _refused("there is no file of that name")


def _told(error: OSError, work: SlotRequest) -> ServerError:
    """Return what is told of a failure without the name of the folder; the log has it all."""
    logger.warning("slot %d, %s of %r: %s", work.slot, work.action, work.filename, error)
    if work.action == "restore":
        return _missing() if isinstance(error, FileNotFoundError) else _refused("the file cannot be read")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotNow("Unable to save slot: the disk is full", retry_after=60)
    return CannotServe("Unable to save slot: the file cannot be written; the log has the details")
