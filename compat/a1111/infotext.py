"""The text that goes with a picture: written as A1111 1.10.1 writes it, and read back.

a cat <lora:foo:0.8>
Negative prompt: dog
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.0, Seed: 1, Size: 512x512, Version: v1.10.1
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from compat.a1111.styles import Style

NEGATIVE = "Negative prompt:"
FEWEST_FIELDS = 3
LONGEST_TEXT = 1024 * 1024

_KEY_CHARACTER = re.compile(r"[\w \-/]")
_VALUE = re.compile(r'\s*("(?:\\.|[^\\"])+"(?=,|\Z)|[^,]*)(?:,|\Z)')
_PAIR = re.compile(r"(\d+)x(\d+)")


def write(prompt: str, negative: str, fields: Mapping[str, Any]) -> str:
    """Return the text; fields without a value are left out, one whose value is its name stands alone."""
    told = {key: value for key, value in fields.items() if value is not None}
    settings = ", ".join(key if key == value else f"{key}: {quoted(value)}" for key, value in told.items())
    middle = f"\n{NEGATIVE} {negative}" if negative else ""
    return f"{prompt}{middle}\n{settings}".strip()


def quoted(value: object) -> str:
    """Return a value as text, as a JSON string when it holds a separator."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text


def read(text: str, styles: Iterable[Style] = ()) -> dict[str, Any]:
    """Return the fields of an infotext, those left out with the defaults that A1111's reader adds.

    The last line counts as fields if it has three; the rest is prompt, from `Negative prompt:` on the negative one.
    Values are texts; `64x80` becomes two fields. Styles whose texts the prompts have are taken out of them.
    """
    *lines, last = text[:LONGEST_TEXT].strip().split("\n")
    pairs = _pairs(last)
    if len(pairs) < FEWEST_FIELDS:
        lines, pairs = [*lines, last], []
    prompt, negative = _prompts(lines)
    fields: dict[str, Any] = {}
    for key, value in pairs:
        fields |= _field(key, value)
    prompt, negative, found = _without_styles(prompt, negative, styles)
    if found:
        fields["Styles array"] = found
    fields["Prompt"] = prompt
    fields["Negative prompt"] = negative
    return fields | {key: value for key, value in _defaults(prompt, negative).items() if key not in fields}


def _pairs(line: str) -> list[tuple[str, str]]:
    """Return what stands as `key: value` in a line, values up to a comma or within quotes."""
    pairs: list[tuple[str, str]] = []
    begin = 0
    while (colon := line.find(":", begin)) != -1:
        start = colon
        while start > begin and _KEY_CHARACTER.match(line[start - 1]):
            start -= 1
        key = line[start:colon].lstrip(" -/")
        value = _VALUE.match(line, colon + 1) if len(key) > 1 else None
        if value is not None:
            pairs.append((key, value.group(1)))
        begin = colon + 1 if value is None else value.end()
    return pairs


def _prompts(lines: list[str]) -> tuple[str, str]:
    prompt: list[str] = []
    negative: list[str] = []
    part = prompt
    for line in lines:
        line = line.strip()
        if line.startswith(NEGATIVE):
            part = negative
            line = line[len(NEGATIVE) :].strip()
        part.append(line)
    return "\n".join(prompt), "\n".join(negative)


def _field(key: str, value: str) -> dict[str, str]:
    if value.startswith('"') and value.endswith('"'):
        try:
            value = str(json.loads(value))
        except ValueError:
            return {key: value}
    pair = _PAIR.match(value)
    if pair is not None:
        return {f"{key}-1": pair.group(1), f"{key}-2": pair.group(2)}
    return {key: value}


def _without_styles(prompt: str, negative: str, styles: Iterable[Style]) -> tuple[str, str, list[str]]:
    """Take styles off from the outside in; return what is left, and their names in the order they were put on."""
    left = list(styles)
    found: list[str] = []
    while True:
        for style in left:
            without = _without(style.prompt, prompt), _without(style.negative, negative)
            if (style.prompt or style.negative) and without[0] is not None and without[1] is not None:
                break
        else:
            return prompt, negative, found
        prompt, negative = without[0], without[1]
        left.remove(style)
        found.insert(0, style.name)


def _without(style: str, text: str) -> str | None:
    """Return the text that the style was put on, None when it was not."""
    if not style:
        return text
    style = style.strip()
    if "{prompt}" in style:
        left, _, right = style.partition("{prompt}")
        fits = len(text) >= len(left) + len(right) and text.startswith(left) and text.endswith(right)
        return text[len(left) : len(text) - len(right)] if fits else None
    if not text.endswith(style):
        return None
    rest = text[: len(text) - len(style)]
    if rest.endswith(", "):
        return rest[:-2]
    return rest if not rest else None


def _defaults(prompt: str, negative: str) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "Clip skip": "1",
        "Hires resize-1": 0,
        "Hires resize-2": 0,
        "Hires sampler": "Use same sampler",
        "Hires schedule type": "Use same scheduler",
        "Hires checkpoint": "Use same checkpoint",
        "Hires prompt": "",
        "Hires negative prompt": "",
        "Mask mode": "Inpaint masked",
        "Masked content": "original",
        "Inpaint area": "Whole picture",
        "Masked area padding": 32,
        "RNG": "GPU",
        "Schedule type": "Automatic",
        "Schedule max sigma": 0,
        "Schedule min sigma": 0,
        "Schedule rho": 0,
        "VAE Encoder": "Full",
        "VAE Decoder": "Full",
        "FP8 weight": "Disable",
    }
    if any(mark in text for text in (prompt, negative) for mark in "(["):
        defaults["Emphasis"] = "Original"
    return defaults | {"Refiner switch by sampling steps": False}
