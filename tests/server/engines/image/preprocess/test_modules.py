import numpy as np
import pytest

from server.core.errors import InvalidValue
from server.core.image import Preprocessing
from server.engines.image.preprocess.modules import INPAINTING, MODULES, OWN_SIZE, check, map_of, shown
from tests.support.drawn_pixels import formula_picture

PICTURE = formula_picture(50, 70)


def asked(module: str, **fields: object) -> Preprocessing:
    return Preprocessing(**{"module": module, "resolution": 64, "threshold_a": 2.0, "threshold_b": 4.0} | fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_makes_a_map(module: str) -> None:
    made = map_of(PICTURE, None, asked(module))
    assert made.dtype == np.uint8
    if module == "tile_resample":
        assert made.shape == (25, 35, 3)
    elif module in OWN_SIZE:
        assert made.shape == (50, 70, 4 if module in INPAINTING else 3)
    else:
        assert made.shape == (64, 90, 3)
    assert module in ("none", "picture", *INPAINTING) or not np.array_equal(made, PICTURE)


def test_every_module_has_a_row_in_the_table() -> None:
    import server.engines.image.preprocess.modules as module

    assert all(f"`{name}`" in (module.__doc__ or "") for name in MODULES)


def test_canny_sees_what_is_beyond_the_edge_repeated() -> None:
    pixels = np.zeros((64, 70, 3), dtype=np.uint8)
    pixels[:, 35:] = 255
    made = map_of(pixels, None, asked("canny", threshold_a=100, threshold_b=200))
    assert set(np.unique(made)) == {0, 255}
    assert (made[:, 30:40] > 0).any(axis=(1, 2)).all()
    assert not made[:, 60:].any()


def test_colours_come_in_squares_of_one_colour() -> None:
    made = map_of(formula_picture(128, 192), None, asked("color", resolution=128))
    squares = made.reshape(2, 64, 3, 64, 3)
    assert (squares == squares[:, :1, :, :1]).all()
    assert len(np.unique(made.reshape(-1, 3), axis=0)) == 6


def test_the_mask_is_the_fourth_channel() -> None:
    mask = np.zeros((50, 70), dtype=np.uint8)
    mask[:10] = 255
    made = map_of(PICTURE, mask, asked("inpaint"))
    assert np.array_equal(made[:, :, :3], PICTURE)
    assert np.array_equal(made[:, :, 3], mask)
    assert np.asarray(shown(made))[0, 0, 3] == 128
    assert shown(PICTURE).mode == "RGB"


@pytest.mark.parametrize(
    "wrong",
    [
        asked("openpose"),
        asked("canny", resolution=0),
        asked("canny", resolution=5000),
        asked("canny", threshold_a=float("nan")),
        asked("blur_gaussian", threshold_a=1e6),
        asked("recolor_intensity", threshold_a=0.0),
    ],
)
def test_what_no_module_does(wrong: Preprocessing) -> None:
    with pytest.raises(InvalidValue):
        check(wrong)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_thin_pictures(size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 99, dtype=np.uint8)
    for module in MODULES:
        assert map_of(pixels, None, asked(module, resolution=8)).size
