"""Notice changes in the models folders and scan again."""

import asyncio
import logging
from typing import Protocol

logger = logging.getLogger(__name__)


class Watched(Protocol):
    """What the watcher asks of the catalog. `fingerprint` and `scan` block and run in a thread."""

    @property
    def scanned(self) -> int:
        """Return the fingerprint of the last scan."""
        ...

    def fingerprint(self) -> int:
        """Return a number that changes when a folder or file does."""
        ...

    def scan(self) -> object:
        """Read the folders again."""
        ...


async def watch(catalog: Watched, interval_s: float) -> None:
    """Look every `interval_s` seconds until cancelled; 0 or less ends at once (watching is switched off).

    A change is scanned when it has stood still for one interval, so that a file that is being copied is read once.
    """
    if interval_s <= 0:
        return
    seen = catalog.scanned
    while True:
        await asyncio.sleep(interval_s)
        now = await asyncio.to_thread(catalog.fingerprint)
        if now == seen and now != catalog.scanned:
            logger.info("the models folders have changed")
            await asyncio.to_thread(catalog.scan)
        seen = now
