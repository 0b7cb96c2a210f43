"""Text encoders of loaded checkpoints, as tests of prompts want them: on the CPU, without an engine around them."""

from pathlib import Path
from typing import Any

import torch

from server.engines.image.checkpoint import load
from server.engines.image.clip.tokenizer import load_tokenizer
from server.engines.image.loaded import Checkpoint
from server.engines.image.offload import Seats
from server.engines.image.placement import Precision
from server.engines.image.text_encoding import TextEncoder
from server.engines.image.text_stack import TextStack

CPU = torch.device("cpu")


def stack_of(checkpoint: Checkpoint) -> TextStack:
    """Return all encoders of a checkpoint as one."""
    return TextStack(checkpoint.texts, load_tokenizer(), checkpoint.family, Seats(CPU, "none"), CPU)


def encoder_of(checkpoint: Checkpoint, number: int = 0) -> TextEncoder:
    """Return one encoder of a checkpoint."""
    return TextEncoder(checkpoint.texts[number], load_tokenizer(), CPU)


def load_tiny(path: Path, **options: Any) -> Checkpoint:
    """Load a checkpoint in float32."""
    precision = Precision(model=torch.float32, vae=torch.float32)
    told = {"vae_path": None, "allow_pickle": False, "report": lambda fraction: None, **options}
    return load(path, precision=precision, **told)
