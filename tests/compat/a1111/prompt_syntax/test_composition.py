import pytest

from compat.a1111.prompt_syntax.composition import split_parts
from compat.a1111.prompt_syntax.limits import PARTS
from server.core.errors import InvalidValue
from tests.support.shared import golden, needs_shared


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("", [("", 1.0)]),
        ("a:1.2 AND b:-1", [("a", 1.2), (" b", -1.0)]),
        ("a AND b :0.5", [("a", 1.0), (" b", 0.5)]),
        ("a ANDb", [("a ANDb", 1.0)]),
        ("(a AND b:1.2)", [("(a", 1.0), (" b:1.2)", 1.0)]),
        ("wallpaper 16:9", [("wallpaper 16", 9.0)]),
        ("AND", [("", 1.0), ("", 1.0)]),
        ("a:1:2", [("a:1", 2.0)]),
        ("a : .5  ", [("a", 0.5)]),
        ("a:+2.", [("a", 2.0)]),
        ("a:1e3", [("a:1e3", 1.0)]),
        ("a:", [("a:", 1.0)]),
    ],
)
def test_parts_and_weights(written: str, parts: list[tuple[str, float]]) -> None:
    assert split_parts(written, "prompt") == parts


@pytest.mark.parametrize("written", [" AND ".join("a" * (PARTS + 1)), "a:" + "9" * 400])
def test_too_much_is_refused_by_the_fields_name(written: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        split_parts(written, "hr_prompt")
    assert caught.value.fact("param") == "hr_prompt"


@needs_shared
@pytest.mark.golden
def test_recorded_compositions() -> None:
    for case in golden("prompts.json")["prompts"]:
        flat = case["and"]["flat"]
        wanted = [(flat[index], weight) for index, weight in case["and"]["parts"][0]]
        assert split_parts(case["prompt"], "prompt") == wanted, case["prompt"]
