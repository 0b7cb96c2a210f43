"""`python -m bench`: the figures that the README may name.

    python -m bench [start] [text] [unrelated] [shared] [stall] [repeat] [--rounds N] [--model FILE]
    python -m bench sampling [--rounds N] [--vocabulary FILE]
    python -m bench pictures [--rounds N] [--side PIXELS] [--threads N] [--checkpoint FILE] [--cpp]
    python -m bench switch [--rounds N] [--checkpoint FILE]

`start`: seconds to listen and the parent's memory. `text`: tokens per second and time to first token at 1 and 8 clients
beside llama.cpp's bare decode loop on the same file, threads and context. `unrelated`, `shared` and `stall`: the table
beside llama-server (built on first use). `repeat`: the engine with speculation beside itself without. `sampling`: what
choosing a token costs beside llama.cpp's own samplers, what grammars cost, and the Python of a whole step. `switch`:
from one checkpoint to another, over HTTP, with a spare worker and without, beside the bare load of the file. Without a
file, a model of 0.5B size with random weights (Q4_0) is made in the temporary folder. Without parts: start and text.
"""

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.beside import beside, repeat
from bench.compare import Compared, interleave, spread
from bench.house import House
from bench.load import Load, run
from bench.model import write_model

CLIENTS = (1, 8)
NO_TEXT = {"start", "sampling", "pictures", "switch"}
"""Parts that need no text model."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        default=["start", "text"],
        metavar="PART",
        help="start, text, unrelated, shared, stall, repeat, sampling, pictures, switch",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, help="a GGUF file")
    parser.add_argument("--vocabulary", type=Path, help="a GGUF file whose vocabulary is taken, for sampling")
    parser.add_argument("--checkpoint", type=Path, help="a Stable Diffusion 1 checkpoint, for pictures")
    parser.add_argument("--side", type=int, default=256, help="width and height of pictures")
    parser.add_argument("--threads", type=int, default=0, help="threads for pictures; 0 = torch's choice")
    parser.add_argument(
        "--cpp", action="store_true", help="pictures beside stable-diffusion.cpp, too (built on first use)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hearth-bench-") as folder:
        place = Path(folder)
        if "start" in options.parts:
            start(place, options.rounds)
        models = place / "models"
        file = _model(models, options.model) if set(options.parts) - NO_TEXT else models
        if "text" in options.parts:
            text(place, models, file, options.rounds)
        if parts := [part for part in ("unrelated", "shared", "stall") if part in options.parts]:
            beside(file, models, place / "beside", options.rounds, parts)
        if "repeat" in options.parts:
            repeat(models, place / "repeat", options.rounds)
        if "sampling" in options.parts:
            from bench.masks import masks  # so are llama.cpp and llguidance
            from bench.sampling import sampling

            sampling(place, options.rounds)
            masks(options.vocabulary, options.rounds)
        if "switch" in options.parts:
            from bench.switch import switch

            switch(place / "switch", options.rounds, options.checkpoint)
        if "pictures" in options.parts:
            from bench.pictures import pictures  # torch is slow to import, and the other parts do without

            chosen = (options.side, options.threads, options.checkpoint)
            pictures(place / "pictures", options.rounds, *chosen, cpp=options.cpp)


def start(place: Path, rounds: int) -> None:
    """Print how long a start takes and what the parent holds."""
    models = place / "none"
    models.mkdir()
    seconds, mib = [], []
    for number in range(rounds):
        with House(models, place / f"start{number}") as house:
            seconds.append(house.seconds_to_listen)
            mib.append(house.parent_mib)
    print(f"seconds to listen   {spread(seconds)}")
    print(f"parent RSS in MiB   {spread(mib)}")


def _model(models: Path, given: Path | None) -> Path:
    (models / "text").mkdir(parents=True)
    file = models / "text" / "bench.gguf"
    if given is None:
        write_model(file)
    else:
        shutil.copy(given, file)
    return file


def text(place: Path, models: Path, file: Path, rounds: int) -> None:
    """Print the text engine's speed beside the bare loop."""
    for clients in CLIENTS:
        load = Load(clients=clients)
        context = load.prompt_tokens + load.new_tokens + 8
        with House(
            models, place / f"text{clients}", config=f"[text]\nslots = {clients}\ncontext = {context}\n"
        ) as house:
            run(house.url, "bench", Load(clients=1, new_tokens=2), seed=0)
            seeds = itertools.count(1)
            ours = partial(_served, house, load, seeds)
            mine, other = interleave(rounds, ours, partial(bare, file, load))
        for key, name, unit, better in (
            ("tokens_per_s", "tokens/s", "tok/s", "more"),
            ("first_ms", "time to first token", "ms", "less"),
            ("gap_ms", "between tokens", "ms", "less"),
        ):
            compared = Compared(
                f"{clients} clients: {name}", unit, [m[key] for m in mine], [o[key] for o in other], better
            )
            print(compared.line(), flush=True)


def _served(house: House, load: Load, seeds: Iterator[int]) -> dict[str, float]:
    return run(house.url, "bench", load, seed=next(seeds))


def bare(file: Path, load: Load, seed: int = 1) -> dict[str, float]:
    """Return the bare loop's figures, from a process of its own."""
    arguments = [str(n) for n in (load.clients, load.prompt_tokens, load.new_tokens, seed)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.bare", str(file), *arguments], check=True, capture_output=True, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
