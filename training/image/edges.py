"""Scenes as edges and as prompts that name nothing but colours: what the control model is taught and judged with."""

import numpy as np
from PIL import Image

from server.engines.image.preprocess.canny import canny
from training.image.scenes import Scene

LOW, HIGH = 100, 200
"""Thresholds of the edges, as clients ask for them."""


def edges(image: Image.Image) -> np.ndarray:
    """Return a picture's edges as float32 [3, height, width], 0 or 1, as the server's own preprocessor finds them."""
    found = canny(np.asarray(image), LOW, HIGH)
    return np.repeat(found[None].astype(np.float32) / 255, 3, axis=0)


def colours_of(scene: Scene) -> str:
    """Return a prompt that names a scene's colours and nothing else."""
    if scene.style == "sketch":
        return "a sketch"
    colour = " and ".join(dict.fromkeys(thing.colour for thing in scene.things))
    paper = "at night" if scene.style == "night" else f"on a {scene.background} background"
    return f"a {colour} picture {paper}"
