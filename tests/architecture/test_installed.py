"""Skips must not hide a broken installation: tests of the engines skip where a library is missing, this one fails."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("library", ["llama_cpp", "llguidance", "torch", "diffusers", "transformers", "safetensors"])
def test_a_plain_dependency_can_be_imported(library: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {library}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
