import os
import threading
from pathlib import Path

import pytest

from server.workers.prefetch import is_cached, prefetch, read_ahead


class Reader:
    """Notes which files were read, and in which thread."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.threads: set[threading.Thread] = set()

    def __call__(self, path: str) -> None:
        self.files.append(path)
        self.threads.add(threading.current_thread())


def file(folder: Path, name: str, size: int) -> str:
    path = folder / name
    path.write_bytes(bytes(size))
    return str(path)


def test_all_files_are_read_in_order_beside_the_caller(tmp_path: Path) -> None:
    files = [file(tmp_path, "a", 60), file(tmp_path, "b", 40)]
    reader = Reader()
    thread = prefetch(files, memory=200, read=reader, cached=lambda path: path.endswith("b"))
    assert thread is not None
    thread.join(10)
    assert reader.files == files
    assert reader.threads == {thread}
    assert thread.daemon


@pytest.mark.parametrize(("sizes", "memory"), [([60, 41], 200), ([], 200), ([0], 200), ([1], 0)])
def test_what_is_too_large_or_nothing_is_left_alone(tmp_path: Path, sizes: list[int], memory: int) -> None:
    files = [file(tmp_path, str(number), size) for number, size in enumerate(sizes)]
    assert prefetch(files, memory=memory, read=Reader(), cached=lambda _: False) is None


def test_a_missing_file_is_for_the_loader_to_report(tmp_path: Path) -> None:
    assert prefetch([str(tmp_path / "none")], memory=200, read=Reader()) is None
    read_ahead(str(tmp_path / "none"))
    read_ahead(str(tmp_path))


def test_this_machine_has_memory(tmp_path: Path) -> None:
    thread = prefetch([file(tmp_path, "a", 10)], read=read_ahead, cached=lambda _: False)
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()


def test_what_lies_in_the_page_cache_is_not_read_again(tmp_path: Path) -> None:
    written = file(tmp_path, "a", 300_000)
    assert prefetch([written], memory=10**6, read=Reader(), cached=lambda _: True) is None
    assert not is_cached(str(tmp_path / "none"))


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the page cache cannot be asked")
def test_the_page_cache_is_asked(tmp_path: Path) -> None:
    written = file(tmp_path, "a", 3_000_000)
    with Path(written).open("rb") as opened:
        os.fsync(opened.fileno())
        if not is_cached(written):
            pytest.skip("this file system does not tell")
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert not is_cached(written)
