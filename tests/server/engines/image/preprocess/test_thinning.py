import numpy as np

from server.engines.image.preprocess.thinning import is_thin, ridges, split, thinned


def test_thick_and_thin() -> None:
    plane = np.zeros((20, 20), dtype=np.uint8)
    plane[10] = 255
    assert is_thin(plane)
    plane[5:15, 5:15] = 255
    assert not is_thin(plane)


def test_a_bar_becomes_a_line() -> None:
    plane = np.zeros((15, 40), dtype=np.uint8)
    plane[6:9, 5:35] = 255
    made = thinned(plane, prune=False)
    assert set(np.unique(made)) == {0, 255}
    assert (made[:, 10:30] > 0).sum(axis=0).tolist() == [1] * 20


def test_a_thin_line_stays_and_its_ends_are_cut() -> None:
    plane = np.zeros((9, 20), dtype=np.uint8)
    plane[4, 3:17] = 255
    assert np.array_equal(thinned(plane, prune=False), plane)
    pruned = thinned(plane, prune=True)
    assert 0 < np.count_nonzero(pruned) < np.count_nonzero(plane)


def test_otsu_parts_between_two_heaps() -> None:
    plane = np.array([[10, 12, 14, 200, 205, 210]], dtype=np.uint8)
    assert split(plane).tolist() == [[0, 0, 0, 255, 255, 255]]
    assert len(np.unique(split(np.full((3, 3), 50, dtype=np.uint8)))) == 1


def test_only_ridges_are_kept() -> None:
    plane = np.tile(np.array([0, 50, 90, 50, 0], dtype=np.uint8), (5, 1))
    plane[2] = (0, 60, 99, 60, 0)
    made = ridges(plane)
    assert made[2, 2] == 99
    assert (made[:, 2] > 0).all()
    assert made[1, 1] == 0
