import inspect

from compat.a1111 import answer, checks, convert, denoise, extras, given, img2img, wire, workshop
from compat.a1111.fields import FORGE
from compat.a1111.img2img_fields import IMG2IMG, NOT_OFFERED, OWN, SHARED
from compat.a1111.option_defaults import OPTION_DEFAULTS
from tests.support.shared import golden, needs_shared

MODULES = (answer, checks, convert, denoise, extras, given, img2img, workshop)
SOURCE = "".join(inspect.getsource(module) for module in MODULES)


def test_every_field_of_the_wire_has_a_fate() -> None:
    assert set(IMG2IMG) == set(wire.Img2Img.__struct_fields__)


def test_shared_fields_are_in_both_requests() -> None:
    assert set(SHARED) <= set(wire.Txt2Img.__struct_fields__)
    assert not set(OWN) & set(wire.Txt2Img.__struct_fields__)


def test_honoured_fields_are_read() -> None:
    for name, fate in OWN.items():
        assert fate == "echoed" or f"request.{name}" in SOURCE, name


def test_options_that_are_not_offered_exist() -> None:
    assert all(name in OPTION_DEFAULTS for name in NOT_OFFERED)


@needs_shared
def test_fields_and_defaults_are_those_of_the_original() -> None:
    """In the order in which the original repeats them."""
    body = golden("a1111-get/post-img2img-whole-response.json")["body"]["parameters"]
    assert list(body) == [name for name in wire.Img2Img.__struct_fields__ if name not in FORGE]
    sent = {"prompt": "x", "seed": 1, "steps": 3, "width": 64, "height": 64}
    plain = wire.Img2Img(**sent)
    assert {name: getattr(plain, name) for name in body} == body
