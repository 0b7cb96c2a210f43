"""Scenes as the UNet is taught: latents in half precision and captions as token ids, from a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from server.engines.image.clip.tokenizer import load_tokenizer
from training.image.averages import latents
from training.image.captions import caption
from training.image.drawing import pixels, render
from training.image.evaluation import held_out
from training.image.scenes import random_scene

LENGTH = 77


@dataclass(frozen=True)
class Lessons:
    """Latents [n, 4, 16, 16] float16 and token ids [n, 77] int32."""

    latents: torch.Tensor
    tokens: torch.Tensor


def lessons(count: int, seed: int) -> Lessons:
    """Draw scenes and name them, each in a random phrasing that is none of the evaluation's."""
    dice = random.Random(seed)
    forbidden = held_out()
    pictures, tokens = [], []
    while len(pictures) < count:
        scene = random_scene(dice)
        words = caption(scene, dice)
        if words in forbidden:
            continue
        pictures.append(latents(pixels(render(scene, dice))).astype(np.float16))
        tokens.append(token_ids(words))
    return Lessons(torch.from_numpy(np.stack(pictures)), torch.tensor(tokens, dtype=torch.int32))


@cache
def token_ids(words: str) -> Sequence[int]:
    """Return a caption as the engine packs it: start, words, end, and ends up to 77."""
    tokenizer = load_tokenizer()
    ids = [tokenizer.start, *tokenizer.ids(words)][: LENGTH - 1]
    return ids + [tokenizer.end] * (LENGTH - len(ids))
