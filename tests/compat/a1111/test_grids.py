import pytest

from compat.a1111.grids import rows_of
from compat.a1111.options import OptionValues


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 1), (3, 2), (4, 2), (6, 2), (7, 3), (9, 3), (12, 3), (13, 4)])
def test_as_many_rows_as_the_root(count: int, rows: int) -> None:
    assert rows_of(OptionValues(), count, 4) == rows


def test_rows_by_option() -> None:
    assert rows_of(OptionValues({"n_rows": 3.0}), 9, 1) == 3
    assert rows_of(OptionValues({"n_rows": 30}), 9, 1) == 9
    assert rows_of(OptionValues({"n_rows": 0}), 9, 4) == 4


@pytest.mark.parametrize(("count", "rows"), [(6, 2), (7, 1), (12, 3), (16, 4)])
def test_without_empty_spots(count: int, rows: int) -> None:
    assert rows_of(OptionValues({"grid_prevent_empty_spots": True}), count, 1) == rows
