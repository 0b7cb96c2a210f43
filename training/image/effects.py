"""What weights in prompts, a negative prompt, a second pass, the LoRA and the control model do, in numbers."""

import random
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image

from server.starter.companions import CANNY, PIXEL_ART
from training.image.drawing import render
from training.image.edges import HIGH, LOW, colours_of
from training.image.evaluation import Asked
from training.image.judge import faults, main_colour, silhouette
from training.image.pixel_art import flatness
from training.image.scenes import Scene
from training.image.studio import SIDE, Studio, sent

BARE = "a big circle on a white background"
"""A prompt that leaves the colour open."""

FIRST, SECOND = "a big (red:1.5) blue circle on a white background", "a big red (blue:1.5) circle on a white background"

TWICE: dict[str, Any] = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.5}
"""The part of a request that asks for a second pass at twice the size."""

PINNED = "a big red circle on a white background"
"""Painted with seed 5 for the mean of its colours, which another program of the same weights has to meet."""

PINNED_ROW = f"mean red, green and blue of `{PINNED}`, seed 5"

Row = tuple[str, str]


def rows(studio: Studio, questions: list[Asked], seeds: int) -> list[Row]:
    """Return what was measured and its value in words, on some held-out prompts and with so many seeds."""
    found = [_negative(studio, seeds), _emphasis(studio, seeds), _second_pass(studio, questions)]
    found.append((PINNED_ROW, ", ".join(f"{value:.1f}" for value in mean_colour(studio.painted(PINNED, 5)))))
    if PIXEL_ART in studio.loras():
        found.append(_lora(studio, questions))
    if CANNY in studio.control_models():
        found.append(_control(studio, [question.scene for question in questions]))
    return found


def edges_of(scene: Scene) -> dict[str, Any]:
    """Return the part of a request that lets a picture follow the edges of a drawn scene."""
    unit = {
        "module": "canny",
        "model": CANNY,
        "image": sent(render(scene, random.Random(1))),
        "processor_res": SIDE,
        "threshold_a": LOW,
        "threshold_b": HIGH,
    }
    return {"alwayson_scripts": {"controlnet": {"args": [unit]}}}


def overlap(picture: Image.Image, scene: Scene) -> float:
    """Return how far what stands on the paper overlaps with a drawn scene's (intersection over union)."""
    seen, right = silhouette(picture), silhouette(render(scene, random.Random(1)))
    return float((seen & right).sum() / max(1, (seen | right).sum()))


def mean_colour(picture: Image.Image) -> list[float]:
    """Return the mean red, green and blue of a picture, of 255."""
    return [float(value) for value in np.asarray(picture, dtype=np.float64).mean(axis=(0, 1))]


def redness(picture: Image.Image) -> float:
    """Return by how much what stands on the paper is more red than blue, of 255, on average."""
    values = np.asarray(picture, dtype=np.float32)[silhouette(picture)]
    return float((values[:, 0] - values[:, 2]).mean()) if len(values) else 0.0


def _negative(studio: Studio, seeds: int) -> Row:
    plain = Counter(main_colour(studio.painted(BARE, seed)) for seed in range(seeds))
    colour = next(name for name, _ in plain.most_common() if name is not None)
    unwanted = f"a big {colour} circle on a white background"
    without = [main_colour(studio.painted(BARE, seed, negative_prompt=unwanted)) for seed in range(seeds)]
    told = f"{plain[colour]} of {seeds} without, {without.count(colour)} with it as negative prompt"
    return f"{colour} circles where no colour is asked for", told


def _emphasis(studio: Studio, seeds: int) -> Row:
    first, second = (
        sum(redness(studio.painted(prompt, seed)) for seed in range(seeds)) / seeds for prompt in (FIRST, SECOND)
    )
    return "red minus blue of a `(red:1.5) blue` and of a `red (blue:1.5)` circle", f"{first:+.0f} and {second:+.0f}"


def _second_pass(studio: Studio, questions: list[Asked]) -> Row:
    right = 0
    for number, question in enumerate(questions):
        large = studio.painted(question.prompt, number, **TWICE)
        right += large.size == (2 * SIDE, 2 * SIDE) and not faults(large.reduce(2), question.scene)
    return "right after a second pass at 256 x 256", f"{right} of {len(questions)}"


def _lora(studio: Studio, questions: list[Asked]) -> Row:
    before = [flatness(studio.painted(question.prompt, number)) for number, question in enumerate(questions)]
    wish = f" <lora:{PIXEL_ART}:1>"
    after = [flatness(studio.painted(question.prompt + wish, number)) for number, question in enumerate(questions)]
    told = f"{np.mean(after):.2f} with {PIXEL_ART}, {np.mean(before):.2f} without"
    return "blocks of one colour, of those that a thing touches", told


def _control(studio: Studio, scenes: list[Scene]) -> Row:
    free, bound = [], []
    for number, scene in enumerate(scenes):
        prompt = colours_of(scene)
        free.append(overlap(studio.painted(prompt, number), scene))
        bound.append(overlap(studio.painted(prompt, number, **edges_of(scene)), scene))
    told = f"{np.mean(bound):.2f} with {CANNY}, {np.mean(free):.2f} without"
    return "overlap with the scene whose edges are shown, when only its colours are asked for", told
