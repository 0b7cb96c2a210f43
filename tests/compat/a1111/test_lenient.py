import json
from typing import Any

import pytest

from compat.a1111 import lenient, wire


@pytest.mark.parametrize(
    ("field", "sent", "read"),
    [
        ("steps", "20", 20),
        ("steps", 12.7, 12),
        ("steps", True, 1),
        ("steps", None, None),
        ("seed", 2**64 - 1, 2**64 - 1),
        ("hr_second_pass_steps", 0.0, 0),
        ("hr_scale", "2", 2.0),
        ("cfg_scale", "7", 7.0),
        ("cfg_scale", 7, 7.0),
        ("cfg_scale", True, 1.0),
        ("tiling", 1, True),
        ("tiling", 0, False),
        ("tiling", "true", True),
        ("tiling", "ON", True),
        ("tiling", "f", False),
        ("prompt", 5, "5"),
        ("prompt", 1.5, "1.5"),
        ("styles", [1, "a"], ["1", "a"]),
        ("styles", None, None),
        ("override_settings", [], {}),
        ("override_settings", {"a": [1]}, {"a": [1]}),
        ("script_args", [None, {"a": 1}], [None, {"a": 1}]),
    ],
)
def test_coercions(field: str, sent: Any, read: Any) -> None:
    got = lenient.read(json.dumps({field: sent}).encode(), wire.Txt2Img)
    assert got == {field: read}
    assert type(got[field]) is type(read)


@pytest.mark.parametrize(
    ("field", "sent", "message", "kind"),
    [
        ("steps", "many", "value is not a valid integer", "type_error.integer"),
        ("steps", "", "value is not a valid integer", "type_error.integer"),
        ("steps", [1], "value is not a valid integer", "type_error.integer"),
        ("seed", 2**64, "ensure this value is less than or equal to 18446744073709551615", "value_error.number.not_le"),
        ("cfg_scale", "x", "value is not a valid float", "type_error.float"),
        ("cfg_scale", "nan", "value is not a valid float", "type_error.float"),
        ("cfg_scale", {}, "value is not a valid float", "type_error.float"),
        ("tiling", "", "value could not be parsed to a boolean", "type_error.bool"),
        ("tiling", 2, "value could not be parsed to a boolean", "type_error.bool"),
        ("tiling", [], "value could not be parsed to a boolean", "type_error.bool"),
        ("prompt", ["a"], "str type expected", "type_error.str"),
        ("prompt", True, "str type expected", "type_error.str"),
        ("styles", "a", "value is not a valid list", "type_error.list"),
        ("styles", {}, "value is not a valid list", "type_error.list"),
        ("override_settings", "a", "value is not a valid dict", "type_error.dict"),
        ("sampler_index", None, "none is not an allowed value", "type_error.none.not_allowed"),
        ("send_images", None, "none is not an allowed value", "type_error.none.not_allowed"),
        ("alwayson_scripts", None, "none is not an allowed value", "type_error.none.not_allowed"),
    ],
)
def test_what_no_coercion_helps(field: str, sent: Any, message: str, kind: str) -> None:
    with pytest.raises(lenient.Unreadable) as caught:
        lenient.read(json.dumps({field: sent}).encode(), wire.Txt2Img)
    (problem,) = caught.value.problems
    assert (problem.loc, problem.msg, problem.type) == (["body", field], message, kind)


def test_every_problem_is_told_with_its_place() -> None:
    body = {"steps": "x", "styles": ["a", None], "width": "y", "prompt": "fine"}
    with pytest.raises(lenient.Unreadable) as caught:
        lenient.read(json.dumps(body).encode(), wire.Txt2Img)
    assert {tuple(problem.loc) for problem in caught.value.problems} == {
        ("body", "steps"),
        ("body", "styles", 1),
        ("body", "width"),
    }


@pytest.mark.parametrize(
    ("body", "message", "kind"),
    [
        (b"", "field required", "value_error.missing"),
        (b"  ", "field required", "value_error.missing"),
        (b"[1, 2]", "value is not a valid dict", "type_error.dict"),
        (b'"a"', "value is not a valid dict", "type_error.dict"),
        (b'{"a":', "Expecting value: line 1 column 6 (char 5)", "value_error.jsondecode"),
        (b"\xff{}", "the body is not UTF-8", "value_error.jsondecode"),
        (b'{"prompt": "\\ud800"}', "the body is not UTF-8", "value_error.jsondecode"),
        (b"[" * 100_000, "the body is out of bounds", "value_error"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "the body is out of bounds", "value_error"),
        (b'{"cfg_scale": NaN}', "the body is out of bounds", "value_error"),
    ],
)
def test_bodies_that_are_no_object(body: bytes, message: str, kind: str) -> None:
    with pytest.raises(lenient.Unreadable) as caught:
        lenient.read(body, wire.Txt2Img)
    (problem,) = caught.value.problems
    assert (problem.msg, problem.type) == (message, kind)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(lenient.Unreadable) as caught:
        lenient.read(b"{}", wire.PngInfoRequest)
    assert caught.value.problems[0].loc == ["body", "image"]


def test_unknown_fields_are_dropped_and_an_empty_list_is_an_empty_object() -> None:
    assert lenient.read(b'{"url": "x", "auth": ":"}', wire.Txt2Img) == {}
    assert lenient.read(b"[]", wire.Txt2Img) == {}
    assert lenient.read(b'{"any": [1]}', None) == {"any": [1]}
