import msgspec
import pytest

from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from compat.a1111.upscalers import Upscaler, find, named, upscalers
from server.core.models import ModelCard, ModelKind
from server.core.pixels import BUILT_IN
from tests.compat.a1111.asked import part


def card(path: str, **fields: object) -> ModelCard:
    return msgspec.structs.replace(
        part(path.rsplit("/", 1)[-1], ModelKind.UPSCALER), files=(f"/models/{path}",), **fields
    )


CARDS = (
    card("ESRGAN/4x-UltraSharp.pth"),
    card("ESRGAN/ESRGAN.pth"),
    card("RealESRGAN/RealESRGAN_x4plus.pth"),
    card("RealESRGAN/RealESRGAN_x2plus.pth"),
    card("DAT/deep/DAT_x3.pth"),
    card("SwinIR/big.safetensors"),
)


def by_name(name: str) -> Upscaler:
    found = find(name, upscalers(CARDS))
    assert found is not None
    return found


def test_the_three_without_files_come_first_then_names() -> None:
    names = [one.name for one in upscalers(CARDS)]
    assert names == [
        "None",
        "Lanczos",
        "Nearest",
        "4x-UltraSharp",
        "big",
        "DAT x3",
        "ESRGAN_4x",
        "R-ESRGAN 2x+",
        "R-ESRGAN 4x+",
    ]


def test_a_file_answers_to_its_own_name_too() -> None:
    assert by_name("RealESRGAN_x4plus") == by_name("R-ESRGAN 4x+")
    assert find("nope", upscalers(CARDS)) is None
    with pytest.raises(Refused, match="could not find upscaler named nope"):
        named("nope", upscalers(CARDS))


def test_what_cannot_be_used_is_not_there() -> None:
    assert [one.name for one in upscalers([card("ESRGAN/x.pth", broken="a pickle")])] == ["None", "Lanczos", "Nearest"]


@pytest.mark.parametrize(
    ("name", "scale"),
    [("4x-UltraSharp", 4), ("R-ESRGAN 2x+", 2), ("DAT x3", 3), ("big", 4), ("ESRGAN_4x", 4), ("Lanczos", 4)],
)
def test_the_scale_is_what_names_tell(name: str, scale: float) -> None:
    assert by_name(name).scale == scale


@pytest.mark.parametrize(
    ("stem", "scale"), [("2xModel", 2), ("x2_thing", 2), ("model-8x", 8), ("3x", 3), ("max4", 4), ("1x_clean", 1)]
)
def test_scales_in_names(stem: str, scale: float) -> None:
    assert Upscaler(name="x", card=card(f"ESRGAN/{stem}.pth")).scale == scale


def test_each_folder_has_its_tiles() -> None:
    options = OptionValues({"DAT_tile": 128, "DAT_tile_overlap": 4, "ESRGAN_tile": 100, "ESRGAN_tile_overlap": 99})
    assert by_name("DAT x3").tiles(options) == (128, 4)
    assert by_name("big").tiles(options) == (100, 50), "an option that is not there"
    assert by_name("ESRGAN_4x").tiles(options) == (100, 50), "an overlap is half a tile at most"
    assert by_name("R-ESRGAN 4x+").tiles(OptionValues()) == (192, 8)


def test_models_and_files() -> None:
    assert by_name("Lanczos").model == BUILT_IN
    assert by_name("Lanczos").reference(OptionValues()) is None
    assert by_name("big").model == "big"
    ref = by_name("big").reference(OptionValues())
    assert ref is not None
    assert (ref.name, ref.path) == ("big", "/models/SwinIR/big.safetensors")
