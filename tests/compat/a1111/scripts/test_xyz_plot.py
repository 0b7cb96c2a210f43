from typing import Any

import pytest

from compat.a1111 import wire
from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.xyz_axes import axes_of
from compat.a1111.scripts.xyz_plot import DEFAULTS, Plot, cell_request, entries, plot_of
from server.core.errors import InvalidValue
from tests.compat.a1111.scripts.test_xyz_axes import MENU

LABELS = [axis.label for axis in axes_of("txt2img")]


def plot(
    x: tuple[Any, str], y: tuple[Any, str] = ("Nothing", ""), z: tuple[Any, str] = ("Nothing", ""), **at: Any
) -> Plot:
    sent = list(DEFAULTS)
    for place, (kind, text) in zip((0, 3, 6), (x, y, z), strict=True):
        sent[place], sent[place + 1] = kind, text
    for place, value in at.items():
        sent[int(place.removeprefix("at"))] = value
    return plot_of(Arguments(sent, DEFAULTS), "txt2img", MENU, lambda: 7)


def test_types_are_numbers_or_names() -> None:
    by_number = plot((LABELS.index("Steps"), "1-3"), (LABELS.index("CFG Scale"), "1, 2"))
    by_name = plot(("steps", "1-3"), ("CFG scale", "1, 2"))
    assert by_number == by_name
    assert (by_number.sizes, by_number.values[2]) == ((3, 2, 1), [0])


def test_cells_in_rows() -> None:
    found = plot(("Steps", "1, 2"), ("Seed", "5, 6, 7"), ("Size", "64x64, 8x8"))
    places = [(x, y, z) for z in range(2) for y in range(3) for x in range(2)]
    assert [found.index(place) for place in places] == list(range(12))
    made = cell_request(wire.Txt2Img(), found, (1, 2, 0))
    assert (made.steps, made.seed, made.width) == (2, 7, 64)


def test_the_dearest_axis_changes_least_often() -> None:
    found = plot(("Checkpoint name", "one, one"), ("Steps", "1, 2, 3"))
    assert [place[0] for place in found.order()] == [0, 0, 0, 1, 1, 1]
    other = plot(("Steps", "1, 2, 3"), ("Checkpoint name", "one, one"))
    assert [place[1] for place in other.order()] == [0, 0, 0, 1, 1, 1]
    assert sorted(other.order()) == sorted((x, y, 0) for x in range(3) for y in range(2))


def test_open_seeds_are_drawn_once() -> None:
    assert plot(("Seed", "-1, 3")).values[0] == [7, 3]
    assert plot(("Seed", "-1, 3"), at12=True).values[0] == [-1, 3]


def test_seeds_that_vary_along_axes() -> None:
    found = plot(("Steps", "1-3"), ("CFG Scale", "1-2"), ("Eta", "0, 1"), at13=True, at15=True)
    seeds = [cell_request(wire.Txt2Img(seed=100), found, place).seed for place in ((0, 0, 0), (2, 1, 0), (1, 0, 1))]
    assert seeds == [100, 102, 104]


def test_what_the_grid_says() -> None:
    found = plot(("Seed", "-1, 3"), ("Sampler", "Euler, Heun"))
    assert entries(found) == {
        "Script": "X/Y/Z plot",
        "X Type": "Seed",
        "X Values": "-1, 3",
        "Fixed X Values": "7, 3",
        "Y Type": "Sampler",
        "Y Values": "Euler, Heun",
    }
    assert "Fixed X Values" not in entries(plot(("Seed", "1"), at12=True))


def test_the_dropdown() -> None:
    found = plot(("Sampler", ""), at2=["Euler", "LMS"])
    assert found.values[0] == ["Euler", "LMS"]
    assert found.written[0] == "Euler, LMS"


@pytest.mark.parametrize(
    ("x", "y"), [(("Nope", "1"), ("Nothing", "")), ((99, "1"), ("Nothing", "")), (("Steps", "1-40"), ("Seed", "1-40"))]
)
def test_plots_that_cannot_be(x: tuple[Any, str], y: tuple[Any, str]) -> None:
    with pytest.raises(InvalidValue):
        plot(x, y)
