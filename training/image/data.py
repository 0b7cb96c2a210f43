"""Scenes as the UNet is taught: latents and captions as token ids, each step's from its own seed."""

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from server.engines.image.clip.tokenizer import load_tokenizer
from training.image.averages import latents
from training.image.captions import phrase
from training.image.drawing import pixels, render
from training.image.evaluation import held_out
from training.image.scenes import random_scene

LENGTH = 77
LEFT_OUT = 0.1
"""Part of the captions that are left out, so guidance works."""


class Lesson(NamedTuple):
    """Latents [n, 4, 16, 16] float32 and token ids [n, 77]."""

    latents: torch.Tensor
    tokens: torch.Tensor


def lesson(count: int, dice: random.Random) -> Lesson:
    """Draw scenes and name them, each in a random phrasing that is none of the evaluation's; some are not named."""
    pictures, tokens = [], []
    while len(pictures) < count:
        scene = random_scene(dice)
        words = phrase(scene, dice).words
        if is_forbidden(words):
            continue
        if dice.random() < LEFT_OUT:
            words = ""
        pictures.append(latents(pixels(render(scene, dice))))
        tokens.append(token_ids(words))
    return Lesson(torch.from_numpy(np.stack(pictures)), torch.tensor(tokens))


@lru_cache(maxsize=50_000)
def token_ids(words: str) -> Sequence[int]:
    """Return a caption as the engine packs it: start, words, end, and ends up to 77."""
    tokenizer = load_tokenizer()
    ids = [tokenizer.start, *tokenizer.ids(words)][: LENGTH - 1]
    return ids + [tokenizer.end] * (LENGTH - len(ids))


def is_forbidden(words: str) -> bool:
    """Tell whether the evaluation asks for that."""
    return words in _forbidden()


@lru_cache(maxsize=1)
def _forbidden() -> frozenset[str]:
    return held_out()
