"""From one checkpoint to another: what a client waits for, over HTTP, beside the bare load of the same file.

Two names of one file of Stable Diffusion 1.5's size, in the page cache. A switch is `load` of the model that is not
there, from the request to its answer: with a spare worker that has imported everything and has memory ready, without
one (a new process imports first), and to a model that is still in memory. The bare load is a process that has imported
torch and reads the file into the same modules, in memory that an earlier load has left behind. Beside the seconds
stand those of all processors that the server and its workers have used for it: they tell more on a busy machine.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx

from bench.compare import spread
from bench.house import House

READY_S = 120.0
STEADY_S = 1.0
"""Time in which a spare that has all its memory takes no more."""
NAMES = ("first", "second")

Pair = tuple[float, float]
"""Seconds by the clock and by the processors."""

BARE = """
import sys, time
from pathlib import Path
import torch
from server.engines.image import checkpoint
from server.engines.image.placement import Precision
full = Precision(model=torch.float32, vae=torch.float32)
for _ in range(2):
    began, worked = time.perf_counter(), time.process_time()
    made = checkpoint.load(Path(sys.argv[1]), precision=full, vae_path=None, allow_pickle=False, report=lambda _: None)
    print(time.perf_counter() - began, time.process_time() - worked)
    del made
"""


def switch(place: Path, rounds: int, file: Path | None = None) -> None:
    """Print how long switches take. Without a file a checkpoint with random weights is made in `place`."""
    folder = place / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    if file is None:
        from bench.checkpoint import write_checkpoint  # torch is slow to import

        file = place / "bench.safetensors"
        write_checkpoint(file)
    for name in NAMES:
        os.link(file, folder / f"{name}.safetensors")
    config = "[image]\ndtype = 'float32'\nwarm = {}\n"
    titles = ("first ever", "into the spare", "still in memory", "no spare", "bare load")
    found: dict[str, list[Pair]] = {title: [] for title in titles}

    def note(title: str, pair: Pair) -> None:
        found[title].append(pair)

    state = place / "state"
    for number in range(rounds + 1):
        with House(place / "models", state, config=config.format("true")) as house:
            for count, name in enumerate(NAMES, start=1):
                _wait_for_spare(state / "server.log", count)
                note("into the spare" if number else "first ever", _load(house, name))
            note("still in memory", _load(house, NAMES[0]))
        if not number:
            continue
        with House(place / "models", state, config=config.format("false")) as house:
            note("no spare", _load(house, NAMES[0]))
        note("bare load", _bare(file))
    for title, pairs in found.items():
        seconds, worked = zip(*pairs, strict=True)
        print(f"switch, {title:16} {spread(seconds)} s, {spread(worked)} s of processors", flush=True)


def _load(house: House, model: str) -> Pair:
    with httpx.Client(timeout=600, trust_env=False) as client:
        began, worked = time.perf_counter(), _worked(house.pid)
        client.post(f"{house.url}/hearth/v1/models/load", json={"model": model}).raise_for_status()
        return time.perf_counter() - began, _worked(house.pid) - worked


def _worked(server: int) -> float:
    """Return the processor seconds of a process and of its children that live."""
    ticks = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if server in (int(status.parent.name), int(fields[1])):
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _wait_for_spare(log: Path, count: int) -> None:
    """Wait until the server has told so many times that a spare is ready, and the last one has touched its memory."""
    until = time.monotonic() + READY_S
    while len(found := re.findall(r"the spare worker is ready:.* pid=(\d+)", log.read_text(errors="replace"))) < count:
        if time.monotonic() > until:
            raise RuntimeError(f"no spare worker within {READY_S:.0f} s: {log.read_text()[-1000:]}")
        time.sleep(0.05)
    statm, before = Path(f"/proc/{found[-1]}/statm"), ""
    while (now := statm.read_text().split()[1]) != before and time.monotonic() < until:
        before = now
        time.sleep(STEADY_S)


def _bare(file: Path) -> Pair:
    """Return the seconds of the second load of a process that has loaded the file before."""
    environment = os.environ | {"THP_MEM_ALLOC_ENABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(file)], check=True, capture_output=True, text=True, env=environment
    )
    seconds, worked = done.stdout.split()[-2:]
    return float(seconds), float(worked)
