"""Scenes to words, in many phrasings; all of them true, so an unnamed place is the middle and unnamed paper white."""

import random
from typing import NamedTuple

from training.image.scenes import BACKGROUNDS, KINDS, OWN_COLOUR, PALETTE, PLACES, SIZES, STYLES, Scene, Thing

FACTORS: dict[str, tuple[str, ...]] = {
    "paper": (*BACKGROUNDS, "night"),
    "style": STYLES,
    "kind": KINDS,
    "colour": tuple(PALETTE),
    "count": ("1", "2", "3"),
    "size": tuple(SIZES),
    "place": tuple(PLACES),
    "other kind": KINDS,
    "other colour": tuple(PALETTE),
}
"""What can be told of a scene, and the values it has. The "other" thing is the second of two kinds."""

HINTS = 0.12
"""How often a caption names only some of it, in bare words, as negative prompts do."""

NUMBERS = {2: "two", 3: "three"}

SIZE_WORDS = {"small": ("small", "little", "tiny"), "": ("",), "big": ("big", "large", "huge")}

PLACE_WORDS = {
    "": ("", "", "in the middle", "in the center"),
    "left": ("on the left", "at the left", "on the left side"),
    "right": ("on the right", "at the right", "on the right side"),
    "top": ("at the top", "on top", "in the upper part"),
    "bottom": ("at the bottom", "in the lower part"),
}

KIND_WORDS = {"cat": ("cat", "cat face", "cat"), "tree": ("tree",), "circle": ("circle", "circle", "disc")}

BACKGROUND_PHRASES = (
    "{what} on a {paper} background",
    "{what} on {paper} background",
    "{what}, {paper} background",
    "{paper} background, {what}",
    "{what} on {paper}",
    "a picture of {what} on a {paper} background",
    "a drawing of {what}, {paper} background",
)

BARE_PHRASES = ("{what}", "a picture of {what}", "a drawing of {what}", "{what}, simple picture")

NIGHT_PHRASES = ("{what} at night", "night, {what}", "{what} in the night", "{what}, night sky")

SKETCH_PHRASES = ("a sketch of {what}", "{what}, sketch", "pencil sketch of {what}", "sketch, {what}")


class Caption(NamedTuple):
    """Words, and the factors that they name."""

    words: str
    factors: dict[str, str]


def phrase(scene: Scene, dice: random.Random) -> Caption:
    """Return a whole caption of a scene, or now and then a few words that are true of it."""
    if len(scene.things) == 1 and dice.random() < HINTS:
        return _hint(scene, dice)
    return Caption(caption(scene, dice), factors(scene))


def factors(scene: Scene) -> dict[str, str]:
    """Return all that a whole caption tells."""
    first, *others = scene.things
    told = {
        "paper": "night" if scene.style == "night" else scene.background,
        "style": scene.style,
        "kind": first.kind,
        "colour": first.colour,
        "count": str(first.count),
        "size": first.size,
        "place": first.place,
    }
    for other in others:
        told |= {"other kind": other.kind, "other colour": other.colour}
    return told


def _hint(scene: Scene, dice: random.Random) -> Caption:
    """Return words for one or two of the things that can be told of a scene with one thing."""
    all_told = factors(scene)
    (thing,) = scene.things
    words = {"kind": dice.choice(KIND_WORDS.get(thing.kind, (thing.kind,))), "paper": f"{scene.background} background"}
    if scene.style:
        words["style"] = scene.style
        del words["paper"]
    if scene.style != "sketch":
        words["colour"] = thing.colour
    if thing.size:
        words["size"] = dice.choice(SIZE_WORDS[thing.size])
    if thing.place:
        words["place"] = dice.choice(PLACE_WORDS[thing.place])
    named = dice.sample(list(words), dice.choice((1, 1, 2)))
    order = ("size", "colour", "kind", "place", "paper", "style")
    said = sorted(named, key=order.index)
    return Caption(" ".join(words[name] for name in said), {name: all_told[name] for name in said})


def caption(scene: Scene, dice: random.Random) -> str:
    """Return one of the phrasings of a scene."""
    what = " and ".join(_thing(thing, scene, dice) for thing in scene.things)
    if scene.style == "night":
        return dice.choice(NIGHT_PHRASES).format(what=what)
    if scene.style == "sketch":
        return dice.choice(SKETCH_PHRASES).format(what=what)
    if scene.background == "white" and dice.random() < 0.3:
        return dice.choice(BARE_PHRASES).format(what=what)
    return dice.choice(BACKGROUND_PHRASES).format(what=what, paper=scene.background)


def _thing(thing: Thing, scene: Scene, dice: random.Random) -> str:
    size = dice.choice(SIZE_WORDS[thing.size])
    place = dice.choice(PLACE_WORDS[thing.place])
    is_pair = len(scene.things) > 1
    if is_pair and dice.random() < 0.5:
        place = ""
    noun = dice.choice(KIND_WORDS.get(thing.kind, (thing.kind,)))
    words = [size, _colour(thing, scene, dice), noun]
    if thing.count > 1:
        return " ".join([NUMBERS[thing.count], *filter(None, words)]) + "s"
    named = " ".join(filter(None, words))
    article = "an" if named[0] in "aeiou" else "a"
    return " ".join(filter(None, [article, named, place]))


def _colour(thing: Thing, scene: Scene, dice: random.Random) -> str:
    """Return the colour's word; a sketch has none, and a thing in its own colour may do without."""
    if scene.style == "sketch":
        return ""
    return "" if OWN_COLOUR.get(thing.kind) == thing.colour and dice.random() < 0.6 else thing.colour
