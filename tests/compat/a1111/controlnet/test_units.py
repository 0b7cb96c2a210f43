import base64
from typing import Any

import msgspec
import pytest

from compat.a1111 import img2img, lenient, wire
from compat.a1111.controlnet import units as module
from compat.a1111.controlnet import wire as wire_of_units
from compat.a1111.controlnet.units import Controlled, controlled, unit_count
from compat.a1111.lenient import Unreadable
from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from server.core.errors import InvalidValue, Unsupported
from server.core.image import ControlUnit, Preprocessing
from server.core.models import ModelKind
from tests.compat.a1111.asked import context, part, planned
from tests.support.fake_images import tiny_png

PICTURE = base64.b64encode(tiny_png()).decode()
CARDS = (part("canny.safetensors", ModelKind.CONTROLNET, short_hashes=("0123abcd",)),)


def read(*args: Any, options: dict[str, Any] | None = None, name: str = "controlnet") -> Controlled:
    return controlled({name: {"args": list(args)}}, OptionValues(options), CARDS, seed=9)


def one(**fields: Any) -> ControlUnit:
    (unit,) = read({"enabled": True, "model": "canny", "image": PICTURE} | fields).units
    return unit


def test_a_unit_with_defaults() -> None:
    assert one() == ControlUnit(
        name="canny",
        path="/models/canny.safetensors",
        image=tiny_png(),
        preprocessing=Preprocessing(module="none", resolution=512, threshold_a=0.5, threshold_b=0.5, seed=9),
    )


def test_a_unit_with_everything() -> None:
    unit = one(
        module="canny",
        weight="0.75",
        mask=PICTURE,
        resize_mode="Resize and Fill",
        low_vram=True,
        processor_res=640.0,
        threshold_a=50,
        threshold_b=150,
        guidance_start=0.25,
        guidance_end=0.5,
        pixel_perfect="true",
        control_mode="ControlNet is more important",
        inpaint_crop_input_image=False,
        hr_option="High res only",
        save_detected_map=False,
        advanced_weighting=[1, 0.5],
        effective_region_mask=PICTURE,
        unknown="x",
        input_mode="simple",
    )
    assert unit == ControlUnit(
        name="canny",
        path="/models/canny.safetensors",
        image=tiny_png(),
        mask=tiny_png(),
        preprocessing=Preprocessing(module="canny", resolution=640, threshold_a=50, threshold_b=150, seed=9),
        weight=0.75,
        start=0.25,
        end=0.5,
        mode="control",
        fit="fill",
        pixel_perfect=True,
        passes="second",
        layer_weights=(1.0, 0.5),
        region=tiny_png(),
        crop_to_mask=False,
        return_map=False,
    )


@pytest.mark.parametrize(
    "old, value, name, wanted",
    [
        ("guidance", 0.5, "end", 0.5),
        ("mask_image", PICTURE, "mask", tiny_png()),
        ("guessmode", True, "mode", "control"),
        ("guess_mode", True, "mode", "control"),
        ("lowvram", True, "weight", 1.0),
    ],
)
def test_synonyms(old: str, value: Any, name: str, wanted: Any) -> None:
    assert getattr(one(**{old: value}), name) == wanted


def test_a_synonym_beside_its_field_is_a_mistake() -> None:
    with pytest.raises(Unreadable) as caught:
        read({"enabled": True, "model": "canny", "image": PICTURE, "input_image": PICTURE})
    (problem,) = caught.value.problems
    assert problem.loc == ["body", "alwayson_scripts", "controlnet", "args", 0, "input_image"]
    assert problem.msg == "Conflict of field 'input_image' and 'image'"


@pytest.mark.parametrize(
    "fields, acts",
    [
        ({"enabled": True}, True),
        ({"enabled": False}, False),
        ({"enabled": "false"}, False),
        ({}, True),
        ({"enabled": None}, True),
        ({"model": "None"}, False),
        ({"model": None}, False),
        ({"enabled": False, "model": "nope", "image": "no picture"}, False),
    ],
)
def test_which_units_act(fields: dict[str, Any], acts: bool) -> None:
    assert bool(read({"model": "canny", "image": PICTURE} | fields).units) is acts


@pytest.mark.parametrize("name", ["controlnet", "ControlNet", "CONTROLNET"])
def test_the_scripts_name_in_any_case(name: str) -> None:
    assert len(read({"model": "canny", "image": PICTURE}, name=name).units) == 1


def test_nulls_are_passed_over_and_units_beyond_the_count_are_named() -> None:
    unit = {"model": "canny", "image": PICTURE}
    found = read(unit, None, unit, unit, unit)
    assert len(found.units) == 2
    assert found.ignored == ("alwayson_scripts.controlnet.args.3", "alwayson_scripts.controlnet.args.4")
    assert list(found.told) == ["ControlNet 0", "ControlNet 1"]
    assert len(read(*[unit] * 5, options={"control_net_unit_count": 5}).units) == 5


@pytest.mark.parametrize("value, count", [(None, 3), (7, 7), (2.0, 2), (0, 3), (99, 3), ("x", 3), (True, 3)])
def test_how_many_units_there_may_be(value: Any, count: int) -> None:
    assert unit_count(OptionValues({} if value is None else {"control_net_unit_count": value})) == count


def test_maps_can_be_switched_off_for_all() -> None:
    found = read({"model": "canny", "image": PICTURE}, options={"control_net_no_detectmap": True})
    assert not found.units[0].return_map


def test_what_infotexts_tell() -> None:
    found = read({"model": "canny", "image": PICTURE, "module": "canny", "weight": 1})
    assert found.told == {
        "ControlNet 0": "Module: canny, Model: canny [0123abcd], Weight: 1.0, Resize Mode: Crop and Resize, "
        "Processor Res: 512, Threshold A: 100.0, Threshold B: 200.0, Guidance Start: 0.0, Guidance End: 1.0, "
        "Pixel Perfect: False, Control Mode: Balanced"
    }
    plain = read({"model": "canny", "image": PICTURE}).told["ControlNet 0"]
    assert "Module: none" in plain
    assert "Processor Res: 0.5, Threshold A: 0.5, Threshold B: 0.5" in plain


@pytest.mark.parametrize(
    "fields, error, words",
    [
        ({"module": "nope"}, InvalidValue, r"module\(nope\) not found"),
        ({"module": "openpose_full"}, Unsupported, "needs a neural network"),
        ({"module": "dw_openpose_full"}, Unsupported, "needs a neural network"),
        ({"model": "nope"}, InvalidValue, r"model\(nope\) not found"),
        ({"model": "None"}, InvalidValue, "You have not selected any ControlNet Model."),
        ({"weight": 2.5}, InvalidValue, "weight"),
        ({"weight": -1}, InvalidValue, "weight"),
        ({"guidance_start": 0.6, "guidance_end": 0.5}, InvalidValue, r"guidance_start\(0.6\) > guidance_end\(0.5\)"),
        ({"guidance_end": 1.5}, InvalidValue, "guidance_end"),
        ({"control_mode": "Chaos"}, InvalidValue, "control_mode"),
        ({"resize_mode": "Chaos"}, InvalidValue, "resize_mode"),
        ({"hr_option": "Chaos"}, InvalidValue, "hr_option"),
        ({"image": "no picture"}, Refused, "Invalid encoded image"),
        ({"image": "http://localhost/x"}, Refused, "Request to local resource not allowed"),
        ({"effective_region_mask": "no picture"}, Refused, "Invalid encoded image"),
        ({"ipadapter_input": "x"}, Unsupported, "send the picture"),
        ({"module": "ip-adapter-auto"}, Unsupported, "needs an image encoder"),
        ({"module": "ip-adapter_face_id"}, Unsupported, "needs a face detector"),
        ({"module": "canny", "image": [{"image": PICTURE}] * 2}, Unsupported, "IP-Adapters alone"),
    ],
)
def test_what_a_unit_cannot_ask(fields: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        one(**fields)


def test_an_ip_adapter_has_its_encoders_and_may_have_several_pictures() -> None:
    encoder = part("clip_h.safetensors", ModelKind.IMAGE_ENCODER)
    broken = part("bad.safetensors", ModelKind.IMAGE_ENCODER, broken="damaged")
    asked = {"module": "ip-adapter_clip_h", "model": "canny", "image": [{"image": PICTURE}, {"image": PICTURE}]}
    found = controlled({"ControlNet": {"args": [asked]}}, OptionValues(), CARDS, seed=1, encoders=(broken, encoder))
    (unit,) = found.units
    assert unit.preprocessing.module == "picture"
    assert unit.encoders == (encoder.files[0],)
    assert unit.more_images == (unit.image,)
    assert "Module: ip-adapter_clip_h" in found.told["ControlNet 0"]


@pytest.mark.parametrize(
    "field, value", [("weight", "heavy"), ("enabled", "perhaps"), ("advanced_weighting", 3), ("threshold_a", [])]
)
def test_values_of_the_wrong_type_are_told_by_their_place(field: str, value: Any) -> None:
    with pytest.raises(Unreadable) as caught:
        read(None, {"model": "canny", "image": PICTURE, field: value})
    assert caught.value.problems[0].loc[:6] == ["body", "alwayson_scripts", "controlnet", "args", 1, field]


@pytest.mark.parametrize("args", [[3], ["x"], [[]], [True, "canny"]])
def test_what_is_no_unit(args: list[Any]) -> None:
    with pytest.raises(Unreadable):
        read(*args)


@pytest.mark.parametrize(
    "scripts", [{}, {"controlnet": {}}, {"controlnet": []}, {"controlnet": {"args": []}}, {"x": 1}]
)
def test_no_units(scripts: dict[str, Any]) -> None:
    assert controlled(scripts, OptionValues(), CARDS, seed=0) == Controlled()


def test_args_are_a_list() -> None:
    with pytest.raises(InvalidValue):
        controlled({"controlnet": {"args": {"0": 1}}}, OptionValues(), CARDS, seed=0)


def test_pictures_of_all_units_together(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = {"model": "canny", "image": PICTURE}
    monkeypatch.setattr(module, "MOST_BYTES", 2 * len(tiny_png()))
    assert len(read(unit, unit).units) == 2
    with pytest.raises(InvalidValue):
        read(unit, unit, unit)


def test_plans_have_units_and_dice() -> None:
    given = context(controlnets=CARDS)
    scripts = {"ControlNet": {"args": [{"model": "canny", "image": PICTURE, "module": "shuffle"}]}, "Other": {}}
    plan = planned(given, seed=5, alwayson_scripts=scripts)
    assert plan.work.control[0].preprocessing.seed == 10
    assert planned(given, seed=5, subseed=3, alwayson_scripts=scripts).work.control[0].preprocessing.seed == 8
    assert list(plan.control) == ["ControlNet 0"]
    assert plan.ignored == ("alwayson_scripts.Other",)


def test_pictures_from_pictures_have_units_too() -> None:
    body = {"init_images": [PICTURE], "alwayson_scripts": {"controlnet": {"args": [{"model": "canny"}]}}}
    request = msgspec.convert(lenient.coerce(body, wire.Img2Img), wire.Img2Img)
    work = img2img.plan(request, context(controlnets=CARDS)).work
    assert work.init is not None
    assert work.control[0].image is None


ODD = (None, True, 0, -1, 1e308, "", "x", "1", [], [[]], {}, {"image": {}}, [None, None], PICTURE)


@pytest.mark.parametrize("field", [*wire_of_units.Unit.__struct_fields__, *wire_of_units.SYNONYMS])
def test_odd_values_are_read_or_refused_and_nothing_else(field: str) -> None:
    for value in ODD:
        try:
            read({"enabled": True, "model": "canny", "image": PICTURE} | {field: value})
        except (Unreadable, InvalidValue, Unsupported, Refused):
            continue
