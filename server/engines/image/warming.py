"""What a worker of pictures can do before its model is known: import everything, and have each library do its first.

The first product of matrices starts the threads, the first module of each kind imports what its library puts off.
"""

import torch

from server.engines.image.clip.tokenizer import load_tokenizer
from server.engines.image.diffusion import DiffusionLoader


def warm() -> None:
    """Import the engine and do the first small pieces of work."""
    DiffusionLoader()
    load_tokenizer()
    with torch.inference_mode():
        picture = torch.zeros(1, 8, 16, 16)
        torch.nn.functional.conv2d(picture, torch.zeros(8, 8, 3, 3), padding=1)
        torch.nn.functional.linear(picture, torch.zeros(8, 16))
