"""What a worker of pictures can do before its model is known: import everything, and have each library do its first.

The first product of matrices starts the threads, the first module of each kind imports what its library puts off.
"""

import gc

import torch

from server.core.models import Runtime
from server.engines.base import WarmLoader
from server.engines.image.clip.tokenizer import load_tokenizer
from server.engines.image.diffusion import DiffusionLoader
from server.engines.image.ready_memory import ReadyMemory
from server.engines.meminfo import process_bytes


def warm(room: int) -> WarmLoader:
    """Import the engine, do the first small pieces of work, and have so many bytes ready for weights."""
    load_tokenizer()
    with torch.inference_mode():
        picture = torch.zeros(1, 8, 16, 16)
        torch.nn.functional.conv2d(picture, torch.zeros(8, 8, 3, 3), padding=1)
        torch.nn.functional.linear(picture, torch.zeros(8, 16))
    # The garbage collector would look through all that the libraries made, again and again while a model is built.
    gc.collect()
    gc.freeze()
    held = process_bytes() + room
    return WarmLoader(Runtime.DIFFUSION, DiffusionLoader(ReadyMemory(room)), held)
