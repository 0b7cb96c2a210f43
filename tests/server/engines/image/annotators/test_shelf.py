"""The drawing networks on random weights: published names of weights, sizes, ranges, the same map twice."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compat.a1111.controlnet.networks import WANTED
from server.core.errors import Broken, InvalidValue, LoadFailed
from server.core.image import Preprocessing
from server.core.models import ImageSettings
from server.engines.image import placement
from server.engines.image.annotators.anime_lines import AnimeLines, AnimeLinesNet
from server.engines.image.annotators.base import Annotator, grey
from server.engines.image.annotators.body_net import BodyNet
from server.engines.image.annotators.body_pose import BodyPose
from server.engines.image.annotators.hed import Hed, HedNet, strokes
from server.engines.image.annotators.shelf import KINDS, Annotators
from server.engines.image.annotators.sketch import Sketch, SketchNet
from tests.support.picture_files import noise_image
from tests.support.tiny_annotators import seeded, write_network

pytestmark = pytest.mark.torch

PUBLISHED: list[tuple[Callable[[], nn.Module], dict[str, tuple[int, ...]], int]] = [
    (
        HedNet,
        {
            "norm": (1, 3, 1, 1),
            "block1.convs.0.weight": (64, 3, 3, 3),
            "block3.convs.2.bias": (256,),
            "block5.projection.weight": (1, 512, 1, 1),
        },
        37,
    ),
    (
        SketchNet,
        {
            "model0.1.weight": (64, 3, 7, 7),
            "model1.3.weight": (256, 128, 3, 3),
            "model2.2.conv_block.5.weight": (256, 256, 3, 3),
            "model3.3.weight": (128, 64, 3, 3),
            "model4.1.weight": (1, 64, 7, 7),
        },
        24,
    ),
    (
        AnimeLinesNet,
        {
            "model.model.0.weight": (64, 3, 4, 4),
            "model.model.1.model.1.weight": (128, 64, 4, 4),
            "model.model.1.model.3.model.5.weight": (512, 128, 4, 4),
            "model.model.3.weight": (128, 1, 4, 4),
        },
        32,
    ),
    (
        BodyNet,
        {
            "conv1_1.weight": (64, 3, 3, 3),
            "conv4_3_CPM.weight": (256, 512, 3, 3),
            "conv5_5_CPM_L1.weight": (38, 512, 1, 1),
            "Mconv1_stage2_L2.weight": (128, 185, 7, 7),
            "Mconv7_stage6_L2.bias": (19,),
        },
        184,
    ),
]

DRAWERS = [
    (Hed, HedNet, "hed"),
    (Hed, HedNet, "hed_safe"),
    (Hed, HedNet, "scribble_hed"),
    (Sketch, SketchNet, "lineart"),
    (AnimeLines, AnimeLinesNet, "lineart_anime"),
    (BodyPose, BodyNet, "openpose"),
]


@pytest.mark.parametrize("build, shapes, count", PUBLISHED)
def test_weights_have_their_published_names(
    build: Callable[[], nn.Module], shapes: dict[str, tuple[int, ...]], count: int
) -> None:
    with torch.device("meta"):
        state = build().state_dict()
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert len(state) == count


@pytest.mark.parametrize("draws, build, module", DRAWERS)
def test_a_map_has_its_pictures_size_and_is_the_same_twice(
    draws: Callable[[nn.Module], Annotator], build: Callable[[], nn.Module], module: str
) -> None:
    drawer = draws(seeded(build()))
    for width, height in ((75, 53), (9, 21)):
        pixels = np.asarray(noise_image(width, height))
        asked = Preprocessing(module=module)
        made = drawer.draw(pixels, asked)
        assert (made.shape, made.dtype) == ((height, width, 3), np.uint8)
        assert np.array_equal(made, drawer.draw(pixels, asked))


def test_edges_follow_the_weights_and_safe_ones_have_three_levels() -> None:
    pixels = np.asarray(noise_image(64, 48))
    drawer = Hed(seeded(HedNet()))
    soft = drawer.draw(pixels, Preprocessing(module="hed"))
    safe = drawer.draw(pixels, Preprocessing(module="hed_safe"))
    assert len(np.unique(soft)) > 16
    assert set(np.unique(safe)) <= {0, 127, 255}
    flat = HedNet()
    for parameter in flat.parameters():
        nn.init.zeros_(parameter)
    assert (Hed(flat).draw(pixels, Preprocessing(module="hed")) == 127).all(), "the sigmoid of nothing is a half"


def test_ridges_become_strokes() -> None:
    drawn = np.zeros((40, 40, 3), dtype=np.uint8)
    drawn[:, 12:29] = 255
    made = strokes(drawn)
    assert set(np.unique(made)) == {0, 255}
    assert (made[20, 20] == 255).all(), "the ridge"
    assert (made[20, 0] == 0).all()


def test_lines_are_white_on_black() -> None:
    paper = SketchNet()
    for parameter in paper.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(paper.model4[1].bias, 20.0)
    assert (Sketch(paper).draw(np.zeros((16, 16, 3), np.uint8), Preprocessing()) == 0).all()


def test_numbers_that_are_none_are_told() -> None:
    with pytest.raises(Broken):
        grey(torch.tensor([[0.0, float("nan")]]))


def test_the_shelf_reads_files_and_keeps_the_last(tmp_path: Path) -> None:
    place = placement.choose(ImageSettings(device="cpu"))
    shelf = Annotators(place, allow_pickle=False)
    file = str(write_network(tmp_path / "sk_model.safetensors", seeded(SketchNet())))
    first = shelf.lend("lineart", file)
    assert shelf.lend("lineart_coarse", file) is first
    assert shelf.draw(np.zeros((20, 24, 3), np.uint8), Preprocessing(module="lineart", file=file)).shape == (20, 24, 3)
    with pytest.raises(InvalidValue, match="does not hold this network"):
        shelf.lend("hed", file)
    with pytest.raises(InvalidValue, match="no network is known"):
        shelf.lend("canny", file)
    shelf.clear()
    assert shelf.lend("lineart", file) is not first


def test_pickles_need_to_be_allowed(tmp_path: Path) -> None:
    file = write_network(tmp_path / "sk_model.pth", seeded(SketchNet()))
    assert Sketch.load(file, allow_pickle=True)
    with pytest.raises(LoadFailed, match="pickle"):
        Sketch.load(file, allow_pickle=False)


def test_every_kind_tells_what_is_no_file_of_its_own(tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nothing of the kind")
    for load in set(KINDS.values()):
        with pytest.raises(LoadFailed):
            load(bad, allow_pickle=True)


def test_what_the_door_offers_is_what_draws_here() -> None:
    assert set(WANTED) == set(KINDS)
