from typing import Any

import pytest

from compat.a1111 import wire
from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.prompts_from_file import DEFAULTS, OPTIONS, cells, line_options
from server.core.errors import InvalidValue


def asked(text: str, *arguments: Any, **fields: Any) -> list[wire.Txt2Img]:
    sent = [*arguments, *DEFAULTS[len(arguments) : 3], text]
    found = cells(wire.Txt2Img(**fields), Arguments(sent, DEFAULTS))
    return [one for one in found if isinstance(one, wire.Txt2Img)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a cat", {"prompt": "a cat"}),
        ('--prompt "a cat" --steps 5', {"prompt": "a cat", "steps": 5}),
        ("--prompt a cat in snow --cfg_scale 2.5", {"prompt": "a cat in snow", "cfg_scale": 2.5}),
        ('--negative_prompt dog --sampler_name "Euler a"', {"negative_prompt": "dog", "sampler_name": "Euler a"}),
        ("--tiling true --width 64", {"tiling": True, "width": 64}),
        ("--outpath_samples /etc --steps 2", {"steps": 2}),
        ("--nope 3", {"prompt": "--nope 3"}),
        ("--steps many", {"prompt": "--steps many"}),
        ("--steps", {"prompt": "--steps"}),
        ('--prompt "unfinished', {"prompt": '--prompt "unfinished'}),
        ("a -- b", {"prompt": "a -- b"}),
    ],
)
def test_lines(line: str, said: dict[str, Any]) -> None:
    assert line_options(line) == said


def test_blank_lines_do_not_count() -> None:
    assert [one.prompt for one in asked("a\n\n  b  \n")] == ["a", "b"]
    assert asked("") == []


def test_where_the_own_prompt_stands() -> None:
    assert [one.prompt for one in asked("x", prompt="own")] == ["x own"]
    assert [one.prompt for one in asked("x", False, False, "end", prompt="own")] == ["own x"]
    assert asked("--negative_prompt x", negative_prompt="own")[0].negative_prompt == "x own"


def test_seeds() -> None:
    assert [one.seed for one in asked("a\nb")] == [-1, -1]
    same = asked("a\nb", False, True)
    assert same[0].seed == same[1].seed != -1
    counted = asked("a\nb\nc", True, False, seed=5, batch_size=2, n_iter=3)
    assert [one.seed for one in counted] == [5, 11, 17]


def test_another_checkpoint() -> None:
    (made,) = asked("--sd_model other --prompt x", override_settings={"eta_ddim": 1})
    assert made.override_settings == {"eta_ddim": 1, "sd_model_checkpoint": "other"}


def test_too_many_lines() -> None:
    with pytest.raises(InvalidValue):
        asked("x\n" * 2000)


def test_options_are_fields_of_the_wire() -> None:
    assert set(OPTIONS) - {"sd_model"} <= set(wire.Txt2Img.__struct_fields__)
