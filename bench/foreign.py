"""Programs to compare with, built outside this repository from the source that their Python packages bring.

Builds go to `$HEARTH_BENCH_CACHE` (default `~/.cache/hearth-bench`), once.
"""

import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path


def place(package: str, version: str) -> Path:
    """Return the folder for a package's source and what is built of it."""
    cache = Path(os.environ.get("HEARTH_BENCH_CACHE", "~/.cache/hearth-bench")).expanduser()
    return cache / f"{package}-{version}"


def source(package: str, version: str, vendor: str) -> Path:
    """Return the folder `vendor` of a package's source distribution; fetches it if need be."""
    folder = place(package, version)
    pattern = f"{package.replace('-', '_')}-*/{vendor}"
    if not list(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", str(folder)]
        subprocess.run([*fetch, f"{package}=={version}"], check=True)
        with tarfile.open(next(folder.glob("*.tar.gz"))) as packed:
            packed.extractall(folder, filter="data")
    return next(folder.glob(pattern))


def build(where: Path, build_folder: Path, flags: Sequence[str], target: str) -> Path:
    """Return the program `target`, built with cmake from the source in `where` unless it is there."""
    made = build_folder / "bin" / target
    if not made.exists():
        subprocess.run(["cmake", "-S", str(where), "-B", str(build_folder), *flags], check=True)
        cores = str(os.cpu_count() or 2)
        subprocess.run(["cmake", "--build", str(build_folder), "--target", target, "-j", cores], check=True)
    return made
