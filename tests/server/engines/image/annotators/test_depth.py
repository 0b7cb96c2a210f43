"""Depth from folders of transformers: sizes, ranges, what a folder says of itself."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from server.core.errors import LoadFailed
from server.core.image import Preprocessing
from server.engines.image.annotators.depth import Depth, Seeing, inner_size, nearness, seeing_of
from tests.support.picture_files import noise_image
from tests.support.tiny_annotators import tiny_depth_anything, tiny_dpt, write_folder

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("kind", ["dpt", "depth_anything"])
def test_a_map_spans_the_whole_range_and_is_the_same_twice(tmp_path: Path, kind: str) -> None:
    model = tiny_dpt() if kind == "dpt" else tiny_depth_anything()
    file = write_folder(tmp_path / "m", model, json.dumps({"size": {"height": 32, "width": 32}}))
    depth = Depth.load(file, allow_pickle=False)
    pixels = np.asarray(noise_image(75, 53))
    made = depth.draw(pixels, Preprocessing(module="depth"))
    assert (made.shape, made.dtype) == ((53, 75, 3), np.uint8)
    assert (made.min(), made.max()) == (0, 255)
    assert np.array_equal(made, depth.draw(pixels, Preprocessing(module="depth")))


def test_it_is_what_the_model_says(tmp_path: Path) -> None:
    """At the model's own size nothing is resized, so the map is the model's plane, stretched to the whole range."""
    told = {"size": 32, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    model = tiny_dpt()
    depth = Depth.load(write_folder(tmp_path / "m", model, json.dumps(told)), allow_pickle=False)
    image = noise_image(32, 32, seed=2)
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    shown = (values - torch.tensor([0.1, 0.2, 0.3])[None, :, None, None]) / torch.tensor([0.4, 0.5, 0.6])[
        None, :, None, None
    ]
    with torch.inference_mode():
        plane = model(shown).predicted_depth[0]
    wanted = ((plane - plane.min()) / (plane.max() - plane.min()) * 255).numpy()
    made = depth.draw(np.asarray(image), Preprocessing(module="depth"))[:, :, 0]
    assert np.abs(made - wanted).max() <= 1.001


def test_metres_grow_away_and_a_flat_wall_is_black() -> None:
    far = torch.linspace(1.0, 9.0, 100)[None]
    made = nearness(far, metres=True).clamp(0, 1)
    assert made[0, 0] == 1
    assert (made[0, 86:] == 0).all()
    assert nearness(far, metres=False)[0, -1] == 1
    assert (nearness(torch.full((3, 3), 2.0), metres=False) == 0).all()


@pytest.mark.parametrize(
    "size, inner",
    [((518, 518), (518, 518)), ((1036, 518), (518, 1036)), ((10, 10_000), (2044, 518)), ((1, 1), (518, 518))],
)
def test_sizes_are_in_proportion_and_bounded(size: tuple[int, int], inner: tuple[int, int]) -> None:
    assert inner_size(*size, Seeing(kind="depth_anything", side=518, multiple=14)) == inner


def test_a_folder_says_how_it_wants_to_see(tmp_path: Path) -> None:
    write_folder(tmp_path, tiny_dpt())
    assert seeing_of(tmp_path) == Seeing(kind="dpt", side=384, multiple=32)
    for nonsense in ('{"size": -1, "image_mean": [1], "image_std": [0, 0, 0]}', '{"size": true}', "[]"):
        (tmp_path / "preprocessor_config.json").write_text(nonsense)
        assert seeing_of(tmp_path).side == 384


def test_folders_that_are_none(tmp_path: Path) -> None:
    file = write_folder(tmp_path / "m", tiny_dpt())
    with pytest.raises(LoadFailed, match="safetensors files alone"):
        Depth.load(file.with_suffix(".bin"), allow_pickle=True)
    file.write_bytes(b"nothing")
    with pytest.raises(LoadFailed, match="no model of depth that can be read"):
        Depth.load(file, allow_pickle=True)
    (tmp_path / "m" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(LoadFailed, match="known are dpt"):
        Depth.load(file, allow_pickle=True)
    (tmp_path / "m" / "config.json").write_text("{")
    with pytest.raises(LoadFailed, match="cannot be read"):
        Depth.load(file, allow_pickle=True)
