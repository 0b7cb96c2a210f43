from typing import Any

import pytest

from compat.a1111 import wire
from compat.a1111.convert import plan
from compat.a1111.scripts.menu import Menu
from compat.a1111.scripts.xyz_axes import AXES, Axis, axes_of
from compat.a1111.workshop import Asked
from server.core.errors import InvalidValue, Unsupported
from server.core.models import ModelKind
from tests.compat.a1111.asked import context, part
from tests.support.shared import golden, needs_shared

MENU = Menu(
    checkpoints=(part("sub/one.safetensors", ModelKind.CHECKPOINT, sha256="ab" * 32),),
    upscalers=("None", "Lanczos"),
    vaes=("fine.pt",),
    styles=("winter",),
)


def axis(label: str) -> Axis:
    return next(one for one in AXES if one.label == label)


def changed(label: str, text: str, request: Asked | None = None, at: int = 0) -> Asked:
    one = axis(label)
    values = one.values(text, [], as_text=False, menu=MENU)
    assert one.change is not None
    return one.change(request or wire.Txt2Img(prompt="a red house", negative_prompt="dog"), values[at], values)


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("route", ["txt2img", "img2img"])
def test_the_list_is_the_originals(route: str) -> None:
    rows = golden("a1111-get/get-script-info.json")["body"]
    plot = next(row for row in rows if row["name"] == "x/y/z plot" and row["is_img2img"] == (route == "img2img"))
    assert [one.label for one in axes_of(route)] == plot["args"][0]["choices"]


@pytest.mark.parametrize(
    ("label", "text", "field", "value"),
    [
        ("Seed", "5", "seed", 5),
        ("Var. strength", "0.5", "subseed_strength", 0.5),
        ("Steps", "7", "steps", 7),
        ("CFG Scale", "3.5", "cfg_scale", 3.5),
        ("Sampler", "euler A", "sampler_name", "Euler a"),
        ("Schedule type", "Karras", "scheduler", "Karras"),
        ("Denoising", "0.25", "denoising_strength", 0.25),
        ("Hires upscaler", "Latent", "hr_upscaler", "Latent"),
        ("Hires steps", "3", "hr_second_pass_steps", 3),
        ("Eta", "0.1", "eta", 0.1),
        ("Sigma Churn", "2", "s_churn", 2.0),
        ("Negative Guidance minimum sigma", "1", "s_min_uncond", 1.0),
        ("Prompt S/R", "red, blue", "prompt", "a red house"),
        ("Prompt order", "red, house", "prompt", "a red house"),
        ("Styles", "winter", "styles", ["winter"]),
        ("Clip skip", "2", "override_settings", {"CLIP_stop_at_last_layers": 2}),
        ("VAE", "fine.pt", "override_settings", {"sd_vae": "fine.pt"}),
        ("RNG source", "NV", "override_settings", {"randn_source": "NV"}),
        ("Schedule max sigma", "9", "override_settings", {"sigma_max": 9.0}),
        ("Always discard next-to-last sigma", "true", "override_settings", {"always_discard_next_to_last_sigma": True}),
        ("Checkpoint name", "one", "override_settings", {"sd_model_checkpoint": "one"}),
        ("Checkpoint name", f"{'ab' * 5}", "override_settings", {"sd_model_checkpoint": "ab" * 5}),
    ],
)
def test_what_an_axis_changes(label: str, text: str, field: str, value: Any) -> None:
    assert getattr(changed(label, text), field) == value


def test_search_and_replace() -> None:
    assert changed("Prompt S/R", "red, blue", at=1).prompt == "a blue house"
    assert changed("Prompt S/R", "dog, cat", at=1).negative_prompt == "cat"
    with pytest.raises(InvalidValue, match="did not find green"):
        changed("Prompt S/R", "green, blue")


def test_sizes() -> None:
    made = changed("Size", "64x80")
    assert (made.width, made.height) == (64, 80)
    for wrong in ("64", "axb", "1x2x3"):
        with pytest.raises(InvalidValue):
            changed("Size", wrong)


def test_overrides_of_the_request_stay() -> None:
    made = changed("Clip skip", "2", wire.Txt2Img(override_settings={"eta_ddim": 1}))
    assert made.override_settings == {"eta_ddim": 1, "CLIP_stop_at_last_layers": 2}


@pytest.mark.parametrize("text", ["Nope", "k_euler"])
def test_words_that_are_not_on_the_list(text: str) -> None:
    with pytest.raises(InvalidValue, match="Unknown"):
        axis("Sampler").values(text, [], as_text=False, menu=MENU)
    with pytest.raises(InvalidValue, match="Unknown checkpoint name"):
        axis("Checkpoint name").values(text, [], as_text=False, menu=MENU)


def test_lists_are_read_from_the_dropdown_unless_text_is_wanted() -> None:
    sampler = axis("Sampler")
    assert sampler.values("Heun", ["Euler", "LMS"], as_text=False, menu=MENU) == ["Euler", "LMS"]
    assert sampler.values("Heun", ["Euler", "LMS"], as_text=True, menu=MENU) == ["Heun"]
    assert sampler.values("Heun", [], as_text=False, menu=MENU) == ["Heun"]
    assert axis("Steps").values("3", ["9"], as_text=False, menu=MENU) == [3]


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("FP8 mode", "Enable"),
        ("Face restore", "CodeFormer"),
        ("UniPC Order", "2"),
        ("Token merging ratio", "0.5"),
    ],
)
def test_values_that_would_change_the_picture_and_are_not_offered_are_refused(label: str, text: str) -> None:
    (value,) = axis(label).values(text, [], as_text=False, menu=MENU)
    change = axis(label).change
    assert change is not None
    request = change(wire.Txt2Img(), value, [value])
    assert isinstance(request, wire.Txt2Img)
    with pytest.raises(Unsupported):
        plan(request, context())


@pytest.mark.parametrize(("label", "text"), [("FP8 mode", "Disable"), ("Face restore", "off"), ("UniPC Order", "3")])
def test_those_that_leave_it_alone_are_taken(label: str, text: str) -> None:
    (value,) = axis(label).values(text, [], as_text=False, menu=MENU)
    change = axis(label).change
    assert change is not None
    request = change(wire.Txt2Img(), value, [value])
    assert isinstance(request, wire.Txt2Img)
    assert plan(request, context()).work.model == "tiny"


def test_the_factor_on_the_first_noise_is_for_requests_with_a_picture() -> None:
    change = axis("Initial noise multiplier").change
    assert change is not None
    assert change(wire.Img2Img(), 0.5, [0.5]).initial_noise_multiplier == 0.5  # type: ignore[union-attr]
    assert change(wire.Txt2Img(), 0.5, [0.5]) == wire.Txt2Img()


def test_refiners_may_be_named_loosely_or_be_none() -> None:
    refiner = axis("Refiner checkpoint")
    assert refiner.values("None, one", [], as_text=False, menu=MENU) == ["None", "one"]
    with pytest.raises(InvalidValue, match="Unknown refiner checkpoint: nope"):
        refiner.values("nope", [], as_text=False, menu=MENU)


def test_no_values() -> None:
    assert axis("Nothing").values("", [], as_text=False, menu=MENU) == [0]
    with pytest.raises(InvalidValue, match="no values"):
        axis("Steps").values(" ", [], as_text=False, menu=MENU)


@pytest.mark.parametrize(
    ("label", "value", "title"),
    [
        ("Steps", 3, "Steps: 3"),
        ("CFG Scale", 0.1 + 0.2, "CFG Scale: 0.3"),
        ("Sampler", "Euler", "Euler"),
        ("Prompt order", ("a", "b"), "a, b"),
        ("Checkpoint name", "sub/one.safetensors [abababab]", "one.safetensors [abababab]"),
        ("Nothing", 0, ""),
    ],
)
def test_titles(label: str, value: Any, title: str) -> None:
    assert axis(label).title(value) == title
