"""The other side for pictures: stable-diffusion.cpp's command, from the source in stable-diffusion-cpp-python's sdist.

It is built once, in some ten minutes on two cores; a ready binary is taken from `$HEARTH_BENCH_SD_CLI`. Each call is a
process of its own; what counts are the seconds that it reports for sampling and decoding, loading left out.
"""

import os
import re
import subprocess
from pathlib import Path

from bench import foreign

PACKAGE, VERSION = "stable-diffusion-cpp-python", "0.4.7"
FLAGS = ("-DCMAKE_BUILD_TYPE=Release", "-DSD_BUILD_EXAMPLES=ON")


def binary() -> Path:
    """Return `sd-cli`; builds it if need be."""
    if given := os.environ.get("HEARTH_BENCH_SD_CLI"):
        return Path(given)
    where = foreign.source(PACKAGE, VERSION, "vendor/stable-diffusion.cpp")
    return foreign.build(where, foreign.place(PACKAGE, VERSION) / "build", FLAGS, "sd-cli")


class StableDiffusionCpp:
    """`sd-cli` at its defaults on one checkpoint; called, it makes a picture and says what it took."""

    def __init__(self, file: Path, place: Path, *, side: int, steps: int, guidance: float, threads: int) -> None:
        command = [str(binary()), "-m", str(file), "-p", "a cat", "-o", str(place / "theirs.png"), "-s", "1"]
        command += ["-W", str(side), "-H", str(side), "--steps", str(steps), "--cfg-scale", str(guidance)]
        self._command = [*command, "--sampling-method", "euler", "-t", str(threads)]
        self._steps = steps

    def __call__(self) -> dict[str, float]:
        """Return `step_s` and `decode_s`.

        Raises:
            RuntimeError: if it fails or reports no times.
        """
        done = subprocess.run(self._command, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        sampling = re.search(r"sampling completed, taking ([\d.]+)s", said)
        decoding = re.search(r"decode_first_stage completed, taking ([\d.]+)s", said)
        if done.returncode or sampling is None or decoding is None:
            raise RuntimeError(said[-2000:])
        return {"step_s": float(sampling[1]) / self._steps, "decode_s": float(decoding[1])}
