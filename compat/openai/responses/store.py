"""Finished responses in an SQLite file, so that `previous_response_id` goes on after a restart.

A response is stored with its own input; the conversation before it is found through its predecessors. Continuing one
makes all of these used again, so that what is thrown away first (the least recently used) is no part of a living
conversation. Every call opens the file anew and blocks: call from a thread. Responses belong to the key that made them.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

DAY_S = 86_400
LONGEST_CHAIN = 2_000
_BUSY_S = 10.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, previous TEXT, used REAL NOT NULL,
    size INTEGER NOT NULL, input BLOB NOT NULL, response BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS responses_by_use ON responses (used DESC, number DESC);
CREATE TABLE IF NOT EXISTS items (
    id TEXT NOT NULL, response TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE, PRIMARY KEY (id, response)
);
CREATE INDEX IF NOT EXISTS items_by_response ON items (response);
"""
_CHAIN = """
WITH RECURSIVE chain (id, previous, depth) AS (
    SELECT id, previous, 0 FROM responses WHERE id = :id AND owner = :owner
    UNION ALL
    SELECT r.id, r.previous, depth + 1 FROM responses r JOIN chain ON r.id = chain.previous
    WHERE r.owner = :owner AND depth < :longest
)
SELECT r.id, r.owner, r.previous, r.input, r.response FROM chain JOIN responses r ON r.id = chain.id ORDER BY depth DESC
"""
_OVERFLOW = """
DELETE FROM responses WHERE id IN (
    SELECT id FROM (
        SELECT id, ROW_NUMBER() OVER young AS place, SUM(size) OVER young AS total FROM responses
        WINDOW young AS (ORDER BY used DESC, number DESC)
    ) WHERE place > :kept OR total > :bytes
)
"""


class StoreFailed(Exception):
    """The file cannot be read or written."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept: that many responses, of that many bytes together, for so long since their last use."""

    kept: int
    bytes: int
    days: float


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A response with the items it was made from, both as JSON. `items` are the ids that can be referred to."""

    id: str
    owner: str
    previous: str | None
    input: bytes
    response: bytes
    items: tuple[str, ...] = ()


class ResponseStore:
    """The file and its bounds. Every method raises StoreFailed when the file cannot be used."""

    def __init__(self, file: Path, limits: Limits) -> None:
        self._file = file
        self._limits = limits

    def save(self, stored: Stored, now: float) -> None:
        """Store a response, and throw away what is too old or too much. `now` is in Unix seconds."""
        size = len(stored.input) + len(stored.response)
        row = (stored.id, stored.owner, stored.previous, now, size, stored.input, stored.response)
        with self._opened() as db:
            db.execute("INSERT OR REPLACE INTO responses VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)
            db.executemany("INSERT OR IGNORE INTO items VALUES (?, ?)", [(item, stored.id) for item in stored.items])
            db.execute("DELETE FROM responses WHERE used < ?", (now - self._limits.days * DAY_S,))
            db.execute(_OVERFLOW, {"kept": self._limits.kept, "bytes": self._limits.bytes})

    def find(self, response: str, owner: str) -> Stored | None:
        """Return a response of that owner."""
        with self._opened() as db:
            return _first(db.execute(_SELECT + "WHERE id = ? AND owner = ?", (response, owner)))

    def chain(self, response: str, owner: str, now: float) -> tuple[Stored, ...]:
        """Return a response behind all its predecessors, oldest first; nothing when one of them is missing."""
        wanted = {"id": response, "owner": owner, "longest": LONGEST_CHAIN}
        with self._opened() as db:
            found = tuple(map(_stored, db.execute(_CHAIN, wanted)))
            if not found or found[0].previous is not None:
                return ()
            db.executemany("UPDATE responses SET used = ? WHERE id = ?", [(now, one.id) for one in found])
        return found

    def holder(self, item: str, owner: str) -> Stored | None:
        """Return a response of that owner in which there is an item of this id."""
        query = _SELECT + "WHERE owner = ? AND id IN (SELECT response FROM items WHERE id = ?) LIMIT 1"
        with self._opened() as db:
            return _first(db.execute(query, (owner, item)))

    def delete(self, response: str, owner: str) -> bool:
        """Forget a response; False when that owner has none of this id."""
        with self._opened() as db:
            return db.execute("DELETE FROM responses WHERE id = ? AND owner = ?", (response, owner)).rowcount > 0

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            if not self._file.exists():
                self._file.touch(mode=0o600)  # conversations are nobody else's business
            with contextlib.closing(sqlite3.connect(self._file, timeout=_BUSY_S)) as db:
                db.execute("PRAGMA foreign_keys = ON")
                db.execute("PRAGMA synchronous = NORMAL")
                db.executescript(_SCHEMA)
                with db:
                    yield db
        except (sqlite3.Error, OSError) as error:
            raise StoreFailed(str(error)) from error


_SELECT = "SELECT id, owner, previous, input, response FROM responses "


def _first(rows: sqlite3.Cursor) -> Stored | None:
    row = rows.fetchone()
    return None if row is None else _stored(row)


def _stored(row: Sequence[Any]) -> Stored:
    identity, owner, previous, given, response = row
    return Stored(id=identity, owner=owner, previous=previous, input=given, response=response)
