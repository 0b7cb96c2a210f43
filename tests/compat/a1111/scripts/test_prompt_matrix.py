import pytest

from compat.a1111 import wire
from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.prompt_matrix import DEFAULTS, cells, choices_of, prompts, titles
from server.core.errors import InvalidValue


def asked(*arguments: object, **fields: object) -> list[wire.Txt2Img]:
    request = wire.Txt2Img(**{"prompt": "a cat|in snow|at night", "seed": 5, "subseed": 9} | fields)
    found = cells(request, choices_of(Arguments(arguments, DEFAULTS)))
    return [one for one in found if isinstance(one, wire.Txt2Img)]


def test_every_choice_of_parts() -> None:
    assert [one.prompt for one in asked()] == ["a cat", "a cat, in snow", "a cat, at night", "a cat, in snow, at night"]


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        ((True,), "in snow, at night, a cat"),
        ((False, False, "positive", "space"), "a cat in snow at night"),
    ],
)
def test_where_and_how_they_are_joined(arguments: tuple[object, ...], last: str) -> None:
    assert asked(*arguments)[-1].prompt == last


def test_seeds() -> None:
    assert [one.seed for one in asked()] == [5, 5, 5, 5]
    assert [one.seed for one in asked(False, True)] == [5, 6, 7, 8]
    assert [one.subseed for one in asked()] == [9, 10, 11, 12]
    drawn = asked(seed=-1)
    assert len({one.seed for one in drawn}) == 1
    assert drawn[0].seed != -1


def test_the_negative_prompt() -> None:
    found = asked(False, False, "negative", negative_prompt="dog|bird")
    assert [one.negative_prompt for one in found] == ["dog", "dog, bird"]
    assert {one.prompt for one in found} == {"a cat|in snow|at night"}


def test_cells_are_single_pictures() -> None:
    assert {(one.batch_size, one.n_iter) for one in asked(batch_size=4, n_iter=3)} == {(1, 1)}


def test_blanks_and_commas_around_parts() -> None:
    assert prompts(["a ", " b, ", "c"], choices_of(Arguments((), DEFAULTS)))[-1] == "a , b, c"


def test_too_many_parts() -> None:
    with pytest.raises(InvalidValue):
        asked(prompt="|".join("abcdefghijklmnop"))


def test_titles_vary_across_and_down() -> None:
    columns, rows = titles(["a", "b", "c", "d"], 8)
    assert [[caption.text for caption in lines] for lines in columns] == [["b", "c"]] * 4
    assert [[caption.active for caption in lines] for lines in columns] == [
        [False, False],
        [True, False],
        [False, True],
        [True, True],
    ]
    assert [[caption.active for caption in lines] for lines in rows] == [[False], [True]]
