"""Hashes are computed once, survive a restart, and never outlive a change of the file."""

import asyncio
import hashlib
import os

from server.registry.hashes import HashCache

DATA = b"weights" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


def put(path, data=DATA):
    path.write_bytes(data)
    return path


def test_a_hash_is_unknown_until_computed_and_then_survives_a_restart(tmp_path):
    model, state = put(tmp_path / "m.safetensors"), tmp_path / "state" / "hashes.json"
    cache = HashCache(state)
    assert cache.known(model) is None
    assert asyncio.run(cache.compute(model)) == SHA
    assert cache.known(model) == SHA
    assert HashCache(state).known(model) == SHA
    assert [path.name for path in state.parent.iterdir()] == ["hashes.json"]


def test_a_changed_file_is_unknown_again(tmp_path):
    model = put(tmp_path / "m.safetensors")
    cache = HashCache()
    cache.compute_now(str(model))
    os.utime(model, ns=(1, 1))
    assert cache.known(model) is None


def test_two_who_ask_at_once_share_one_reading(tmp_path, monkeypatch):
    model = put(tmp_path / "m.safetensors")
    cache = HashCache()
    read = []
    whole = cache.compute_now
    monkeypatch.setattr(cache, "compute_now", lambda path: read.append(path) or whole(path))

    async def both():
        return await asyncio.gather(cache.compute(model), cache.compute(model))

    assert asyncio.run(both()) == [SHA, SHA]
    assert read == [str(model)]
    assert cache.version == 1


def test_a_damaged_state_file_is_ignored_and_replaced(tmp_path):
    model, state = put(tmp_path / "m.safetensors"), put(tmp_path / "hashes.json", b'{"x": [')
    cache = HashCache(state)
    assert cache.compute_now(str(model)) == SHA
    assert HashCache(state).known(model) == SHA


def test_a_state_folder_that_cannot_be_written_is_no_error(tmp_path):
    model = put(tmp_path / "m.safetensors")
    cache = HashCache(put(tmp_path / "file") / "hashes.json")
    assert cache.compute_now(str(model)) == SHA
    assert cache.known(model) == SHA


def test_a_file_that_cannot_be_read_has_no_hash(tmp_path):
    assert asyncio.run(HashCache().compute(tmp_path / "nothing")) is None


def test_after_close_nothing_is_read_to_its_end(tmp_path):
    model = put(tmp_path / "m.safetensors")
    cache = HashCache()
    cache.close()
    assert asyncio.run(cache.compute(model)) is None
    assert cache.known(model) is None
