"""Prompt order, an axis of X/Y/Z plot: some words of a prompt change places.

reordered("a red, big, old house", ("old", "red", "big"))  ->  "a old, red, big house"
"""

from collections.abc import Sequence


def reordered(prompt: str, words: Sequence[str]) -> str:
    """Return the prompt with `words`, where they first stand, in this order; those it lacks are left out. Pure."""
    places = sorted((prompt.find(word), word) for word in words if word in prompt)
    pieces: list[str] = []
    done = 0
    fitting = [word for word in words if word in prompt]
    for (_, old), new in zip(places, fitting, strict=True):
        place = prompt.find(old, done)
        if place < 0:
            continue  # it stood within a word before it
        pieces += [prompt[done:place], new]
        done = place + len(old)
    return "".join(pieces) + prompt[done:]
