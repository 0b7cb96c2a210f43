import time
from typing import Any

import pytest

from compat.a1111 import infotext
from compat.a1111.styles import Style
from tests.support.shared import golden, needs_shared


@pytest.mark.parametrize(
    ("prompt", "negative", "fields", "text"),
    [
        ("a", "", {"Steps": 20, "CFG scale": 7.0}, "a\nSteps: 20, CFG scale: 7.0"),
        ("a", "b", {"Steps": 20}, "a\nNegative prompt: b\nSteps: 20"),
        ("", "", {"Steps": 20}, "Steps: 20"),
        ("a", "", {"x": None, "Tiling": True}, "a\nTiling: True"),
        ("a", "", {"h": "x: 1, y: 2"}, 'a\nh: "x: 1, y: 2"'),
        ("a", "", {"h": "ü\n"}, 'a\nh: "ü\\n"'),
        ("a", "", {"Flag": "Flag"}, "a\nFlag"),
    ],
)
def test_writing(prompt: str, negative: str, fields: dict[str, Any], text: str) -> None:
    assert infotext.write(prompt, negative, fields) == text


def test_reading_what_was_written() -> None:
    fields = {"Steps": 20, "Sampler": "DPM++ 2M", "Size": "64x96", "Lora hashes": "x: 12ab, y: 34cd", "Seed": 5}
    got = infotext.read(infotext.write("a\nb <lora:x:1>", "c, d\ne", fields))
    assert got["Prompt"] == "a\nb <lora:x:1>"
    assert got["Negative prompt"] == "c, d\ne"
    assert (got["Steps"], got["Sampler"], got["Seed"]) == ("20", "DPM++ 2M", "5")
    assert (got["Size-1"], got["Size-2"]) == ("64", "96")
    assert got["Lora hashes"] == "x: 12ab, y: 34cd"


def test_fewer_than_three_fields_are_prompt() -> None:
    got = infotext.read("a cat\nSteps: 20, Seed: 1")
    assert got["Prompt"] == "a cat\nSteps: 20, Seed: 1"
    assert "Steps" not in got


def test_defaults_do_not_replace_what_is_told() -> None:
    got = infotext.read("(a)\nSteps: 1, Schedule type: Karras, Clip skip: 2")
    assert (got["Schedule type"], got["Clip skip"], got["Emphasis"]) == ("Karras", "2", "Original")
    assert "Emphasis" not in infotext.read("a")


@pytest.mark.parametrize(
    ("text", "prompt", "found"),
    [
        ("a cat, oil", "a cat", ["oil"]),
        ("old a cat, ink", "a cat", ["ink"]),
        ("oil", "", ["oil"]),
        ("a catoil", "a catoil", []),
    ],
)
def test_styles_are_found_again(text: str, prompt: str, found: list[str]) -> None:
    styles = [Style("oil", "oil"), Style("ink", "old {prompt}, ink"), Style("empty")]
    got = infotext.read(text, styles)
    assert (got["Prompt"], got.get("Styles array", [])) == (prompt, found)


@needs_shared
@pytest.mark.golden
def test_every_recorded_text_is_read_and_an_empty_one_as_the_original_does() -> None:
    for case in golden("manifest.json")["cases"]:
        for image in case["images"]:
            if image.get("infotext") and "info" in case:
                got = infotext.read(image["infotext"])
                assert got["Steps"] == str(case["info"]["steps"])
                assert got["Negative prompt"] == case["info"]["negative_prompt"]
    empty = next(case for case in golden("a1111-get/post-edge-cases.json") if case["name"] == "png-info-no-text")
    assert infotext.read("") == empty["response"]["parameters"]


@pytest.mark.parametrize(
    "hostile", ["a" * 500_000, "a: " * 100_000, '"' * 200_000, 'a: "' + "\\" * 100_000, " " * 500_000 + "x"]
)
def test_hostile_texts_cost_little_time(hostile: str) -> None:
    began = time.process_time()
    infotext.read(hostile)
    assert time.process_time() - began < 2
