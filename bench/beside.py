"""The text table beside llama-server: unrelated prompts, a shared prefix, a long prompt that arrives in a stream.

`repeat` is beside ourselves: answers that repeat and answers that do not, with and without speculation.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from bench.compare import Compared, interleave
from bench.house import House
from bench.llama_server import LlamaServer
from bench.load import Load, run, stream

SLOTS = 16
CONTEXT = 1536
FIGURES = (
    ("tokens_per_s", "tokens/s", "tok/s", "more"),
    ("first_ms", "time to first token", "ms", "less"),
    ("gap_ms", "between tokens", "ms", "less"),
)


def beside(file: Path, models: Path, place: Path, rounds: int, parts: list[str]) -> None:
    """Run the chosen parts (`unrelated`, `shared`, `stall`) with both servers up, one load at a time.

    Without speculation, which llama-server does not do by itself: random weights repeat themselves more than answers.
    """
    threads = len(os.sched_getaffinity(0))
    config = f"[text]\nslots = {SLOTS}\ncontext = {CONTEXT}\nspeculation = false\n"
    place.mkdir(parents=True, exist_ok=True)
    with (
        House(models, place / "ours", config=config) as ours,
        LlamaServer(file, place, slots=SLOTS, context=CONTEXT, threads=threads) as theirs,
    ):
        seeds = itertools.count(1)
        for url in (ours.url, theirs.url):
            run(url, "bench", Load(clients=1, new_tokens=2), seed=0)
        for clients in (1, 4, 8, 16) if "unrelated" in parts else ():
            _table(f"{clients} clients", Load(clients=clients), ours.url, theirs.url, rounds, seeds)
        if "shared" in parts:
            load = Load(clients=16, prompt_tokens=1040, new_tokens=32, shared=1024)
            _table("16 cold, 1024 shared", load, ours.url, theirs.url, rounds, seeds)
            _warm(load, ours.url, theirs.url, rounds, seeds)
        if "stall" in parts:
            _stalls(ours.url, theirs.url, rounds, seeds)


def _table(name: str, load: Load, ours: str, theirs: str, rounds: int, seeds: Iterator[int]) -> None:
    mine, other = interleave(
        rounds,
        lambda: run(ours, "bench", load, seed=next(seeds)),
        lambda: run(theirs, "bench", load, seed=next(seeds)),
    )
    _print(name, mine, other)


def _warm(load: Load, ours: str, theirs: str, rounds: int, seeds: Iterator[int]) -> None:
    def measured(url: str) -> dict[str, float]:
        seed = next(seeds)
        run(url, "bench", Load(clients=1, prompt_tokens=1040, new_tokens=1, shared=1024), seed=seed)
        return run(url, "bench", load, seed=seed)

    mine, other = interleave(rounds, lambda: measured(ours), lambda: measured(theirs))
    _print("16, one request had the 1024", mine, other)


def _stalls(ours: str, theirs: str, rounds: int, seeds: Iterator[int]) -> None:
    def measured(url: str) -> Callable[[], dict[str, float]]:
        return lambda: asyncio.run(_stall(url, next(seeds)))

    mine, other = interleave(rounds, measured(ours), measured(theirs))
    for key, name in (("gap_ms", "largest gap in the stream"), ("first_ms", "new request's first token")):
        compared = Compared(
            f"1024 tokens arrive: {name}", "ms", [m[key] for m in mine], [o[key] for o in other], "less"
        )
        print(compared.line(), flush=True)


def repeat(models: Path, place: Path, rounds: int) -> None:
    """Compare speculation with none, one client: answers that repeat themselves, such as a pattern says, others."""
    config = f"[text]\nslots = 1\ncontext = {CONTEXT}\n"
    place.mkdir(parents=True, exist_ok=True)
    with (
        House(models, place / "with", config=config + "speculation = true\n") as ours,
        House(models, place / "without", config=config + "speculation = false\n") as other,
    ):
        seeds = itertools.count(1)
        for url in (ours.url, other.url):
            run(url, "bench", Load(clients=1, new_tokens=2), seed=0)
        loops = Load(clients=1, new_tokens=192, repeat_penalty=0.5)
        _table("answer repeats", loops, ours.url, other.url, rounds, seeds)
        words = " ".join(f"w{number}" for number in range(1000, 1080))
        _table("answer is prescribed", Load(clients=1, pattern=words), ours.url, other.url, rounds, seeds)
        news = Load(clients=1, new_tokens=96, repeat_penalty=1.3)
        _table("answer is new", news, ours.url, other.url, rounds, seeds)


async def _stall(url: str, seed: int) -> dict[str, float]:
    """Start a stream, send a long prompt after its tenth token, and return the stream's largest gap after that."""
    [short] = Load(clients=1, prompt_tokens=32).prompts(seed)
    [long] = Load(clients=1, prompt_tokens=1024).prompts(seed + 100_000)
    async with httpx.AsyncClient(timeout=600, trust_env=False) as client:
        running = asyncio.Event()
        moments: list[float] = []

        async def stream_on() -> None:
            async for moment in stream(client, url, "bench", short, 200):
                moments.append(moment)
                if len(moments) == 10:
                    running.set()

        task = asyncio.create_task(stream_on())
        await running.wait()
        sent = time.perf_counter()
        first = None
        async for moment in stream(client, url, "bench", long, 4):
            first = first or moment
        end = time.perf_counter()
        await task
    during = [moment for moment in moments if sent - 1 <= moment <= end]
    gaps = [b - a for a, b in itertools.pairwise(during)]
    return {"gap_ms": max(gaps) * 1000, "first_ms": ((first or end) - sent) * 1000}


def _print(name: str, mine: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    for key, figure, unit, better in FIGURES:
        compared = Compared(f"{name}: {figure}", unit, [m[key] for m in mine], [o[key] for o in other], better)
        print(compared.line(), flush=True)
