"""The LoRA and the control model: what they are taught, and that what is written is what the engine loads."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.tiny_models import needs_torch
from training.image.drawing import render
from training.image.edges import HIGH, LOW, colours_of, edges
from training.image.effects import overlap, redness
from training.image.icons import ICONS, SIDES, icon
from training.image.judge import main_colour
from training.image.pixel_art import flatness, render_blocks
from training.image.scenes import KINDS, PALETTE, Scene, Thing, random_scene

SCENES = 60


def scenes(count: int = SCENES) -> list[Scene]:
    dice = random.Random(21)
    return [random_scene(dice) for _ in range(count)]


def test_every_kind_has_an_icon_of_each_size() -> None:
    assert set(ICONS) == set(KINDS)
    for kind in KINDS:
        for side in SIDES:
            rows = icon(kind, side, PALETTE["pink"])
            assert [len(row) for row in rows] == [side] * side
            assert any(PALETTE["pink"] in row for row in rows), f"{kind} of {side} blocks has no colour"


def test_blocks_are_flat_and_plain_scenes_are_not() -> None:
    dice = random.Random(2)
    assert min(flatness(render_blocks(scene)) for scene in scenes()) == 1
    assert np.mean([flatness(render(scene, dice)) for scene in scenes()]) < 0.5
    assert flatness(Image.new("RGB", (128, 128), "white")) == 0


def test_a_thing_in_blocks_keeps_its_colour() -> None:
    for kind in ("circle", "star", "heart", "triangle"):
        for size in ("small", "", "big"):
            scene = Scene((Thing(kind, "purple", size=size),), "yellow")
            assert main_colour(render_blocks(scene)) == "purple"


def test_edges_are_those_of_the_preprocessor() -> None:
    from server.core.image import Preprocessing
    from server.engines.image.preprocess.modules import map_of

    image = render(scenes(1)[0], random.Random(1))
    asked = Preprocessing(module="canny", resolution=128, threshold_a=LOW, threshold_b=HIGH)
    found = edges(image)
    assert found.max() == 1
    assert np.array_equal(255 * found.transpose(1, 2, 0), map_of(np.asarray(image), None, asked))


def test_a_prompt_of_colours_names_no_thing() -> None:
    for scene in scenes():
        words = colours_of(scene).split()
        assert not set(words) & set(KINDS)
        assert scene.style == "sketch" or scene.things[0].colour in words


def test_silhouettes_overlap_with_themselves_most() -> None:
    circle, star = (Scene((Thing(kind, "red"),)) for kind in ("circle", "star"))
    assert overlap(render(circle, random.Random(1)), circle) == 1
    assert overlap(render(star, random.Random(1)), circle) < 0.9
    assert redness(render(circle, random.Random(1))) > 100


def painter_in(folder: Path) -> None:
    import torch

    from training.image.train_unet import STATE, Painter

    torch.manual_seed(6)
    torch.save({"mean": Painter().state_dict()}, folder / STATE)


def inputs() -> tuple[object, object, object]:
    import torch

    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(2, 4, 16, 16, generator=generator),
        torch.tensor([400]),
        torch.randn(2, 77, 32, generator=generator),
    )


@pytest.mark.torch
@needs_torch
def test_the_engine_merges_the_lora_that_was_trained(tmp_path: Path) -> None:
    import torch

    from server.engines.image.lora import Layer, read_groups
    from server.engines.image.lora_kinds import change
    from training.image.companion import restore
    from training.image.train_lora import STATE, Lora, export_lora, train_lora
    from training.image.train_unet import kept

    painter_in(tmp_path)
    train_lora(2, tmp_path, batch=2)
    path = export_lora(tmp_path, tmp_path / "lora.safetensors")
    assert path.stat().st_size < 1_000_000
    noisy, times, text = inputs()
    with torch.no_grad():
        plain = kept(tmp_path).unet
        before = plain(noisy, times, text).sample
        hung = kept(tmp_path).unet
        fresh = Lora(hung)
        assert torch.equal(hung(noisy, times, text).sample, before), "it begins as nothing"
        restore(fresh, tmp_path / STATE)
        trained = hung(noisy, times, text).sample
        layers = {"unet_" + name.replace(".", "_"): Layer(module, False) for name, module in plain.named_modules()}
        groups = read_groups(path, allow_pickle=False)
        assert len(groups) == len(fresh.names)
        for name, group in groups.items():
            found = change(group, layers[name].module.weight)
            assert found is not None and found.weight is not None, name
            layers[name].module.weight += found.weight
        merged = plain(noisy, times, text).sample
    assert (trained - before).abs().max() > 1e-4
    assert (merged - trained).abs().max() < 0.05 * (trained - before).abs().max()


@pytest.mark.torch
@needs_torch
def test_the_engine_loads_the_control_model_that_was_trained(tmp_path: Path) -> None:
    import torch

    from server.engines.image.control.networks import ControlNet, build, opened
    from training.image.companion import restore
    from training.image.train_control import STATE, export_control, fresh_control, train_control
    from training.image.train_unet import kept

    painter_in(tmp_path)
    train_control(3, tmp_path, batch=2)
    path = export_control(tmp_path, tmp_path / "control.safetensors")
    assert path.stat().st_size <= 4_000_000
    painter = kept(tmp_path)
    fresh = fresh_control(painter)
    noisy, times, text = inputs()
    hint = torch.from_numpy(np.stack([edges(render(scene, random.Random(1))) for scene in scenes(2)]))
    with opened(path, "control", allow_pickle=False) as tensors:
        network = build(tensors, "control", painter.unet, torch.float32)
    assert isinstance(network, ControlNet)
    with torch.no_grad():
        nothing = fresh(noisy, times, text, hint, return_dict=False)
        assert all(not each.any() for each in (*nothing[0], nothing[1]))
        restore(fresh, tmp_path / STATE)
        trained = fresh(noisy, times, text, hint, return_dict=False)
        loaded = network.module(noisy, times, text, hint, return_dict=False)
    for one, other in zip((*trained[0], trained[1]), (*loaded[0], loaded[1]), strict=True):
        assert one.any()
        assert (one - other).abs().max() < 0.02 * one.abs().max()


@pytest.mark.torch
@needs_torch
def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    import torch

    from training.image.train_lora import STATE, train_lora

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        painter_in(tmp_path / name)
    train_lora(4, tmp_path / "whole", batch=2)
    train_lora(4, tmp_path / "parts", batch=2, until=2)
    train_lora(4, tmp_path / "parts", batch=2)
    whole, parts = (torch.load(tmp_path / name / STATE, weights_only=True)["parts"] for name in ("whole", "parts"))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    assert any(tensor.any() for name, tensor in whole.items() if name.endswith("up.weight"))


@pytest.mark.torch
@needs_torch
def test_beside_a_checkpoint_that_was_trained_anew_it_begins_anew(tmp_path: Path) -> None:
    from training.image.train_lora import STATE, train_lora

    painter_in(tmp_path)
    train_lora(1, tmp_path, batch=2)
    state = tmp_path / STATE
    os.utime(state, ns=(0, 0))
    train_lora(1, tmp_path, batch=2)
    assert state.stat().st_mtime_ns > 0, "a finished training was taken for that of this checkpoint"
    written = state.stat().st_mtime_ns
    train_lora(1, tmp_path, batch=2)
    assert state.stat().st_mtime_ns == written, "it was trained once more"
