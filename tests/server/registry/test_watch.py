"""The watcher scans when a change has come to rest, and only then."""

import asyncio

import pytest

from server.registry.watch import watch

TICK_S = 0.001


class Folders:
    """A catalog whose fingerprints are a script; after its end the last one stays."""

    def __init__(self, *prints):
        self._prints = list(prints)
        self._now = 0
        self.scanned = 0
        self.scans = []
        self.looked = 0
        self.over = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def fingerprint(self):
        self.looked += 1
        if self._prints:
            self._now = self._prints.pop(0)
        else:
            self._loop.call_soon_threadsafe(self.over.set)
        return self._now

    def scan(self):
        self.scanned = self._now
        self.scans.append(self._now)


async def run(*prints):
    folders = Folders(*prints)
    async with asyncio.timeout(10):
        task = asyncio.create_task(watch(folders, TICK_S))
        await folders.over.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    return folders.scans


@pytest.mark.parametrize(
    ("prints", "scans"),
    [((0, 0, 0), []), ((0, 1, 1, 1), [1]), ((1, 2, 3, 4, 4), [4]), ((1, 1, 2, 2), [1, 2]), ((1, 0, 0), [])],
)
def test_a_change_is_scanned_once_when_it_stands_still(prints, scans):
    assert asyncio.run(run(*prints)) == scans


def test_no_interval_means_no_watching():
    async def off():
        folders = Folders(1, 1, 1)
        await watch(folders, 0)
        return folders.looked

    assert asyncio.run(off()) == 0
