"""Two hundred prompts with the scenes that they mean, held out of training by their words."""

import random
from dataclasses import dataclass

from training.image.captions import caption
from training.image.scenes import Scene, random_scene

COUNT = 200
SEED = 424_242


@dataclass(frozen=True)
class Asked:
    """A prompt and the scene that would be a right answer."""

    prompt: str
    scene: Scene


def asked(count: int = COUNT, seed: int = SEED) -> list[Asked]:
    """Return different prompts from their own seed."""
    dice = random.Random(seed)
    found: dict[str, Scene] = {}
    while len(found) < count:
        scene = random_scene(dice)
        found.setdefault(caption(scene, dice), scene)
    return [Asked(prompt, scene) for prompt, scene in found.items()]


def held_out() -> frozenset[str]:
    """Return the words that training must not see."""
    return frozenset(each.prompt for each in asked())
