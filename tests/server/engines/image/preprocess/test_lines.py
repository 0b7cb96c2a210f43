import numpy as np

from server.engines.image.preprocess.lines import binarised, drawn, inverted, scribbled, softened


def sheet(line: int = 40, paper: int = 220) -> np.ndarray:
    """A dark vertical line of two pixels on bright paper."""
    pixels = np.full((40, 60, 3), paper, dtype=np.uint8)
    pixels[:, 29:31] = line
    return pixels


def test_the_negative() -> None:
    assert np.array_equal(inverted(sheet()), sheet(255 - 40, 255 - 220))


def test_white_needs_all_channels_above_the_threshold() -> None:
    pixels = np.array([[[128, 255, 255], [127, 255, 255]]], dtype=np.uint8)
    assert binarised(pixels, 127).tolist() == [[[255] * 3, [0] * 3]]


def test_strokes_are_found_where_the_picture_is_darker_than_around() -> None:
    made = scribbled(sheet(), 32)
    assert (made[:, 29:31] == 255).all()
    assert not made[:, :20].any()
    assert not scribbled(sheet(line=215), 32).any()


def test_a_drawing_becomes_white_on_black() -> None:
    made = drawn(sheet())
    assert (made[10:30, 29:31] > 100).all()
    assert not made[:, :5].any()


def test_soft_edges_are_white_where_it_is_steepest() -> None:
    made = softened(sheet())[:, :, 0]
    assert made.max() == 255
    assert (made[10:30, 27:33].max(axis=1) > 200).all()
    assert not made[:, :15].any()
    ramp = np.repeat(np.linspace(0, 120, 60, dtype=np.float32)[None, :, None], 40, axis=0).repeat(3, axis=2)
    ramp[:, 30:] += 100
    steep = softened(ramp.astype(np.uint8))[20, :, 0]
    assert steep[29] > 3 * steep[10] > 0, "gentle slopes are grey"
    assert not softened(np.full((9, 9, 3), 90, dtype=np.uint8)).any()


def test_faint_lines_do_not_count_as_usual() -> None:
    assert drawn(sheet(line=216)).max() < 60
    assert not drawn(np.full((9, 9, 3), 90, dtype=np.uint8)).any()
