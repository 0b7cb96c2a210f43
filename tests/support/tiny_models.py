"""A models folder with tiny complete models of random weights: real engines load them, no download is needed."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

needs_llama = pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_models(
    folder: Path,
    *,
    text: Sequence[str] = (),
    checkpoints: Sequence[str] = (),
    template: str | None = CHATML,
    context: int = 512,
    width: int = 32,
) -> Path:
    """Write `text/NAME.gguf` and `Stable-diffusion/NAME.safetensors`, each with weights of its own; return the folder.

    A checkpoint answers wrongly placed weights with noise of another colour, a text model with other words.
    """
    (folder / "text").mkdir(parents=True, exist_ok=True)
    (folder / "Stable-diffusion").mkdir(exist_ok=True)
    for number, name in enumerate(text):
        add_text(folder, name, template=template, context=context, width=width, seed=number)
    for number, name in enumerate(checkpoints):
        add_checkpoint(folder, name, seed=number)
    return folder


def add_text(
    folder: Path, name: str, *, template: str | None = CHATML, context: int = 512, width: int = 32, seed: int = 0
) -> None:
    """Write one more text model."""
    from tests.support.tiny_gguf import tiny_gguf

    tiny_gguf(folder / "text" / f"{name}.gguf", template=template, context=context, seed=seed, width=width)


def add_checkpoint(folder: Path, name: str, *, seed: int = 0) -> None:
    """Write one more checkpoint, in float16."""
    from tests.support.tiny_checkpoint import write_tiny_checkpoint

    write_tiny_checkpoint(folder / "Stable-diffusion" / f"{name}.safetensors", seed=seed)
