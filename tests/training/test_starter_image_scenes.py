import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.tiny_models import needs_torch
from training.image.captions import NUMBERS, caption
from training.image.drawing import render
from training.image.evaluation import COUNT, asked, held_out
from training.image.judge import faults, main_colour
from training.image.scenes import BACKGROUNDS, KINDS, PALETTE, Scene, Thing, is_visible, random_scene

SCENES = 150


def scenes(count: int = SCENES, seed: int = 8) -> list[Scene]:
    dice = random.Random(seed)
    return [random_scene(dice) for _ in range(count)]


def test_a_caption_says_what_is_in_the_scene() -> None:
    dice = random.Random(4)
    for scene in scenes():
        words = caption(scene, dice)
        for thing in scene.things:
            assert thing.kind in words or (thing.kind == "circle" and "disc" in words)
            assert thing.count == 1 or NUMBERS[thing.count] in words
            if thing.place and len(scene.things) == 1:
                assert thing.place in words or (thing.place in ("top", "bottom") and "part" in words)
        if scene.style == "" and scene.background != "white":
            assert scene.background in words
        assert scene.style in words


def test_what_is_drawn_can_be_seen() -> None:
    for scene in scenes():
        assert all(is_visible(thing.colour, scene.background) for thing in scene.things if not scene.style)


def test_the_judge_finds_drawn_scenes_right() -> None:
    dice = random.Random(5)
    wrong = [scene for scene in scenes() if faults(render(scene, dice), scene)]
    assert len(wrong) <= 0.02 * SCENES, wrong


OTHERWISE: dict[str, Callable[[Scene], Scene]] = {
    "colour": lambda scene: changed(scene, colour="purple" if scene.things[0].colour != "purple" else "green"),
    "kind": lambda scene: changed(scene, kind="heart" if scene.things[0].kind != "heart" else "square"),
    "count": lambda scene: changed(scene, count=scene.things[0].count % 3 + 1),
    "place": lambda scene: changed(scene, place="left" if scene.things[0].place != "left" else "right"),
    "size": lambda scene: changed(scene, size="small" if scene.things[0].size != "small" else "big"),
    "background": lambda scene: replace(scene, background="pink" if scene.background != "pink" else "white"),
}


def changed(scene: Scene, **how: object) -> Scene:
    return replace(scene, things=(replace(scene.things[0], **how), *scene.things[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize("what", list(OTHERWISE))
def test_the_judge_sees_what_is_otherwise(what: str) -> None:
    dice = random.Random(6)
    alone = [scene for scene in scenes() if len(scene.things) == 1 and not scene.style]
    if what in ("place", "size"):
        alone = [scene for scene in alone if scene.things[0].count == 1 and scene.things[0].size != ""]
    missed = [scene for scene in alone if not faults(render(scene, dice), OTHERWISE[what](scene))]
    assert len(missed) <= 0.02 * len(alone), missed


def test_the_judge_finds_nothing_on_empty_paper() -> None:
    empty = render(Scene(()), random.Random(0))
    assert main_colour(empty) is None
    assert faults(empty, Scene((Thing("circle", "red"),)))


@pytest.mark.parametrize("colour", list(PALETTE))
def test_the_main_colour_is_that_of_the_thing(colour: str) -> None:
    paper = next(name for name in BACKGROUNDS if is_visible(colour, name))
    assert main_colour(render(Scene((Thing("star", colour),), paper), random.Random(0))) == colour


def test_the_evaluation_asks_different_things_of_every_kind() -> None:
    questions = asked()
    assert len({question.prompt for question in questions}) == COUNT
    assert {thing.kind for question in questions for thing in question.scene.things} == set(KINDS)


@pytest.mark.torch
@needs_torch
def test_training_never_sees_a_prompt_of_the_evaluation() -> None:
    from training.image.data import lesson, token_ids

    forbidden = {tuple(token_ids(prompt)) for prompt in held_out()}
    learnt = {tuple(row.tolist()) for row in lesson(1500, random.Random(1)).tokens}
    assert len(learnt) > 1000
    assert learnt & forbidden == set()


@pytest.mark.torch
@needs_torch
def test_captions_tell_factors_and_hints_tell_few() -> None:
    from training.image.captions import FACTORS, factors, phrase
    from training.image.train_text import classes

    dice = random.Random(6)
    seen = set()
    for _ in range(400):
        scene = random_scene(dice)
        caption = phrase(scene, dice)
        unnamed = {name for name, number in zip(FACTORS, classes(caption), strict=True) if number == len(FACTORS[name])}
        assert unnamed == FACTORS.keys() - caption.factors.keys()
        assert caption.factors.items() <= factors(scene).items()
        seen.add(len(caption.factors))
    assert {1, 2, 7, 9} == seen


@pytest.mark.torch
@needs_torch
def test_all_places_behind_the_end_are_read_and_no_others() -> None:
    import torch

    from training.image.data import token_ids
    from training.image.train_text import after_end

    tokens = torch.tensor([token_ids("a red circle"), token_ids("")])
    places = torch.arange(2 * 77).view(2, 77, 1)
    read, wanted = after_end(places, tokens, torch.tensor([[0], [1]]))
    assert read.flatten().tolist() == [*range(4, 77), *range(77 + 1, 154)]
    assert wanted.flatten().tolist() == [0] * 73 + [1] * 76
