"""From one checkpoint to another: what a client waits for, over HTTP, beside the bare load of the same file.

Two names of one file of Stable Diffusion 1.5's size, in the page cache. A switch is `load` of the model that is not
there, from the request to its answer: with a spare worker that has imported everything, without one (a new process
imports first), and to a model that is still in memory. The first load ever of a file waits for its hash. The bare load
is a process that has imported torch and reads the file into the same modules.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from bench.compare import spread
from bench.house import House

READY_S = 120.0
NAMES = ("first", "second")

BARE = """
import sys, time
from pathlib import Path
import torch
from server.engines.image import checkpoint
from server.engines.image.placement import Precision
full = Precision(model=torch.float32, vae=torch.float32)
for _ in range(2):
    began = time.perf_counter()
    made = checkpoint.load(Path(sys.argv[1]), precision=full, vae_path=None, allow_pickle=False, report=lambda _: None)
    print(time.perf_counter() - began)
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
    found: dict[str, list[float]] = {title: [] for title in titles}
    state = place / "state"
    for number in range(rounds + 1):
        with House(place / "models", state, config=config.format("true")) as house:
            for count, name in enumerate(NAMES, start=1):
                _wait_for_spare(state / "server.log", count)
                found["into the spare" if number else "first ever"].append(_load(house, name))
            found["still in memory"].append(_load(house, NAMES[0]))
        if not number:
            continue
        with House(place / "models", state, config=config.format("false")) as house:
            found["no spare"].append(_load(house, NAMES[0]))
        found["bare load"].append(_bare(file))
    for title, seconds in found.items():
        print(f"switch, {title:16} {spread(seconds)} s", flush=True)


def _load(house: House, model: str) -> float:
    with httpx.Client(timeout=600, trust_env=False) as client:
        began = time.perf_counter()
        client.post(f"{house.url}/hearth/v1/models/load", json={"model": model}).raise_for_status()
        return time.perf_counter() - began


def _wait_for_spare(log: Path, count: int) -> None:
    """Wait until the server has told so many times that a spare is ready."""
    until = time.monotonic() + READY_S
    while log.read_text(errors="replace").count("the spare worker is ready") < count:
        if time.monotonic() > until:
            raise RuntimeError(f"no spare worker within {READY_S:.0f} s: {log.read_text()[-1000:]}")
        time.sleep(0.05)


def _bare(file: Path) -> float:
    """Return the seconds of the second load of a process that has loaded the file before."""
    environment = os.environ | {"THP_MEM_ALLOC_ENABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(file)], check=True, capture_output=True, text=True, env=environment
    )
    return float(done.stdout.split()[-1])
