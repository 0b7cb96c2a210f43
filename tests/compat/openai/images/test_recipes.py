import pytest

from compat.openai.images.recipes import CONSISTENCY, DISTILLED, PLAIN, Recipe, effort_of, fitted, recipe_of, side_of
from server.core.image import Size
from tests.compat.openai.images.sent import card
from tests.support.fake_service import image_card


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("deliberate_v2", PLAIN),
        ("sdxl-turbo-fp16", DISTILLED),
        ("sub/dreamshaperXL_v21TurboDPMSDE", PLAIN),  # no word of its own: camel case is one word
        ("sdxl_lightning_4step", DISTILLED),
        ("Hyper-SD15", DISTILLED),
        ("hyperrealism_v3", PLAIN),
        ("LCM-dreamshaper-v7", CONSISTENCY),
        ("turbo/deliberate", PLAIN),
    ],
)
def test_distilled_checkpoints_are_known_by_a_word_of_their_name(name: str, recipe: Recipe) -> None:
    assert recipe_of(image_card(name)) == recipe


def test_every_recipe_does_more_steps_for_more_effort() -> None:
    for recipe in (PLAIN, DISTILLED, CONSISTENCY):
        steps = [recipe.steps[effort] for effort in ("low", "medium", "high", "xhigh", "max")]
        assert steps == sorted(set(steps))


def test_qualities() -> None:
    assert {effort_of(word) for word in (None, "", "auto", "standard", "MEDIUM")} == {"medium"}
    assert effort_of("hd") == effort_of("high") == "high"
    assert effort_of("ultra") is None


def test_the_side_of_a_family() -> None:
    assert [side_of(card(family=family)) for family in ("sd1", "sd2", "", "sdxl", "sdxl_refiner")] == [
        512, 512, 512, 1024, 1024,
    ]  # fmt: skip
    assert side_of(image_card()) == 512


@pytest.mark.parametrize("side", [512, 1024])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (640, 480), (480, 640), (4000, 3000), (1, 500), (65535, 1)])
def test_a_fitted_size_has_the_shape_and_the_pixels(width: int, height: int, side: int) -> None:
    size = fitted(width, height, side)
    assert size.width % 64 == size.height % 64 == 0
    assert abs(size.width * size.height / side**2 - 1) < 0.15
    ratio = min(max(width / height, 0.25), 4)
    assert abs(size.width / size.height / ratio - 1) < 0.2


def test_a_square_stays_one() -> None:
    assert fitted(300, 300, 512) == Size(512, 512)
