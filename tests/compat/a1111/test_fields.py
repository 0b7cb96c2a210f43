import inspect

from compat.a1111 import (
    answer,
    checks,
    companions,
    convert,
    denoise,
    door,
    extras,
    fields,
    hires,
    pasting,
    wire,
    workshop,
)
from compat.a1111.option_defaults import OPTION_DEFAULTS

PARTS = (answer, checks, companions, convert, denoise, door, extras, hires, pasting, workshop)
SOURCE = "".join(inspect.getsource(module) for module in PARTS)


def test_every_field_of_the_wire_has_a_fate() -> None:
    assert tuple(fields.TXT2IMG) == wire.Txt2Img.__struct_fields__


def test_honoured_and_refused_fields_are_read_and_echoed_ones_are_not_decided_on() -> None:
    for name, fate in fields.TXT2IMG.items():
        read = f"request.{name}" in SOURCE or f'"{name}"' in SOURCE or name in ("force_task_id",)
        if fate != "echoed":
            assert read, f"{name} is {fate} but nothing reads it"


def test_options_that_are_not_offered_exist() -> None:
    for name in (*fields.NOT_OFFERED, *fields.NOT_OFFERED_HIRES):
        assert name in OPTION_DEFAULTS


def test_script_names_are_lower_case() -> None:
    assert all(name == name.lower() for name in (*fields.SELECTABLE_SCRIPTS, *fields.IDLE_SCRIPTS))
