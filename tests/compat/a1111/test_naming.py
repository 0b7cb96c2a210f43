import re
import time
from typing import Any

import pytest

from compat.a1111.naming import LONGEST, Facts, Place, filled, of_grid, of_sample, safe
from compat.a1111.options import OptionValues

FACTS = Facts(
    seed=1234,
    prompt="a cat, (big:1.2) <lora:x:1>",
    index=1,
    width=64,
    height=80,
    steps=20,
    cfg_scale=7.0,
    sampler="DPM++ 2M",
    schedule="Karras",
    model_name="tiny",
    model_hash="0123456789",
    styles=("one", "two"),
    batch_size=2,
    clip_skip=2,
    denoising=0.5,
    at=0.0,
)
TODAY = time.strftime("%Y-%m-%d", time.localtime(0))


def sample(**options: Any) -> Place:
    return of_sample(OptionValues(options), "txt2img", FACTS)


def test_a1111s_own_names() -> None:
    place = sample()
    assert place.folder == ("txt2img-images", TODAY)
    assert place.name(0) == "00000-1234"
    assert place.name(12) == "00012-1234"
    assert of_sample(OptionValues(), "img2img", FACTS).folder[0] == "img2img-images"


def test_grids() -> None:
    place = of_grid(OptionValues(), "txt2img", FACTS)
    assert place.folder == ("txt2img-grids", TODAY)
    assert place.name(3) == "grid-0003"
    assert of_grid(OptionValues({"grid_extended_filename": True}), "txt2img", FACTS).name(3) == "grid-0003-1234"
    assert of_grid(OptionValues({"grid_save_to_dirs": False}), "img2img", FACTS, "xyz_grid").folder == (
        "img2img-grids",
    )


def test_without_folders_by_date_the_prompt_stands_in_the_name() -> None:
    place = sample(save_to_dirs=False)
    assert place.folder == ("txt2img-images",)
    assert place.name(0) == "00000-1234-a cat, (big_1.2) _lora_x_1_"


def test_without_a_number() -> None:
    place = sample(save_images_add_number=False)
    assert (place.name(0), place.name(2)) == ("1234", "1234-2")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("[seed]-[steps]-[cfg]", "1234-20-7.0"),
        ("[width]x[height]", "64x80"),
        ("[sampler] [scheduler]", "DPM++ 2M Karras"),
        ("[model_name] [model_hash]", "tiny 0123456789"),
        ("[styles]", "one, two"),
        ("[prompt_words<2>]", "a cat"),
        ("[prompt_words]", "a cat big 1 2 lora x 1"),
        ("[seed_first] [batch_number] [generation_number]", "1233 2 2"),
        ("[clip_skip] [denoising]", "2 0.5"),
        ("[hasprompt<cat><dog|none>]", "catnone"),
        ("[unknown] [SEED]", "[unknown] 1234"),
        ("[none]x", "x"),
        ("[datetime<%Y>]", time.strftime("%Y", time.localtime(0))),
    ],
)
def test_patterns(pattern: str, name: str) -> None:
    assert filled(pattern, FACTS) == name


def test_a_hash_of_the_prompt_is_as_long_as_asked_for() -> None:
    assert re.fullmatch("[0-9a-f]{8}", filled("[prompt_hash]", FACTS))
    assert re.fullmatch("[0-9a-f]{12}", filled("[prompt_hash<12>]", FACTS))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("...", ""),
        (".hidden", "hidden"),
        ("a\0b\nc", "a_b_c"),
        ("name. .", "name"),
        ("ünï 字", "ünï 字"),
        ("CON:$(x)`y`", "CON__(x)_y_"),
    ],
)
def test_names_are_safe(text: str, name: str) -> None:
    assert safe(text) == name


def test_names_are_not_too_long_and_whole_letters() -> None:
    assert len(safe("x" * 500).encode()) == LONGEST
    long = safe("字" * 500)
    assert len(long.encode()) <= LONGEST
    assert set(long) == {"字"}


@pytest.mark.parametrize(
    ("folder", "parts"),
    [
        ("/etc/cron.d", ("etc", "cron.d")),
        ("../../..", ()),
        ("outputs/../../x", ("x",)),
        ("C:\\Windows\\x", ("C_", "Windows", "x")),
        ("outputs", ()),
        ("", ("txt2img-images",)),
        ("~/x", ("x",)),
    ],
)
def test_folders_lie_below_the_output_folder(folder: str, parts: tuple[str, ...]) -> None:
    option = {"outdir_samples": folder} if folder else {}
    found = sample(**option, save_to_dirs=False).folder
    assert tuple(part for part in found if part != "_") == parts


def test_a_folder_by_prompt_is_one_folder() -> None:
    place = of_sample(
        OptionValues({"directories_filename_pattern": "[prompt]"}),
        "txt2img",
        Facts(seed=1, prompt="../../a/b\\c"),
    )
    assert len(place.folder) == 2
    assert not any("/" in part or "\\" in part or part.startswith(".") for part in place.folder)
