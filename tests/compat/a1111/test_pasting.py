from typing import Any

import msgspec
import pytest

from compat.a1111 import lenient, wire
from compat.a1111.lenient import Unreadable
from compat.a1111.options import OptionValues
from compat.a1111.pasting import fill
from compat.a1111.styles import Style

TEXT = """a cat, in snow
Negative prompt: dog
Steps: 12, Sampler: Euler a, Schedule type: Karras, CFG scale: 5.5, Seed: 77, Size: 64x80, Model hash: 0123456789, \
Variation seed: 5, Variation seed strength: 0.25, Seed resize from: 32x48, Clip skip: 2, ENSD: 31337, RNG: CPU, \
Version: v1.10.1"""


def filled(text: str = TEXT, *, stored: OptionValues | None = None, **sent: Any) -> wire.Txt2Img:
    request = msgspec.convert(sent | {"infotext": text}, wire.Txt2Img)
    made = fill(request, {*sent, "infotext"}, stored or OptionValues())
    assert isinstance(made, wire.Txt2Img)
    return made


def test_fields_that_were_not_sent_are_filled() -> None:
    made = filled()
    assert (made.prompt, made.negative_prompt) == ("a cat, in snow", "dog")
    assert (made.steps, made.sampler_name, made.scheduler, made.cfg_scale) == (12, "Euler a", "Karras", 5.5)
    assert (made.seed, made.width, made.height) == (77, 64, 80)
    assert (made.subseed, made.subseed_strength) == (5, 0.25)
    assert (made.seed_resize_from_h, made.seed_resize_from_w) == (32, 48), "the original swaps them"
    assert made.enable_hr is False


def test_fields_that_were_sent_stay() -> None:
    made = filled(prompt="", steps=3, width=512)
    assert (made.prompt, made.steps, made.width, made.height) == ("", 3, 512, 80)


def test_options_that_differ_become_overrides() -> None:
    made = filled(override_settings={"eta_noise_seed_delta": 1})
    assert made.override_settings == {
        "CLIP_stop_at_last_layers": 2,
        "randn_source": "CPU",
        "eta_noise_seed_delta": 1,
    }
    same = filled(
        stored=OptionValues({"CLIP_stop_at_last_layers": 2.0, "randn_source": "CPU", "eta_noise_seed_delta": 31337})
    )
    assert same.override_settings is None


def test_the_checkpoint_only_when_that_is_wanted() -> None:
    made = filled(stored=OptionValues({"disable_weights_auto_swap": False}))
    assert (made.override_settings or {})["sd_model_checkpoint"] == "0123456789"
    assert "sd_model_checkpoint" not in (filled().override_settings or {})


@pytest.mark.parametrize(
    ("extra", "hires"),
    [
        ("Denoising strength: 0.4, Hires upscale: 2, Hires upscaler: Lanczos, Hires steps: 3", True),
        ("Denoising strength: 0.4", True),  # the reader adds a hires size, as the original's does
        ("Hires upscale: 2", False),
    ],
)
def test_hires(extra: str, hires: bool) -> None:
    made = filled(f"x\nSteps: 2, Seed: 1, Size: 64x64, {extra}")
    assert made.enable_hr is hires
    if "Lanczos" in extra:
        assert (made.hr_scale, made.hr_upscaler, made.hr_second_pass_steps, made.denoising_strength) == (
            2.0,
            "Lanczos",
            3,
            0.4,
        )


def test_what_is_not_to_be_pasted() -> None:
    made = filled(stored=OptionValues({"infotext_skip_pasting": ["Seed", "Clip skip"]}))
    assert made.seed == -1
    assert "CLIP_stop_at_last_layers" not in (made.override_settings or {})


def test_styles_are_taken_out_of_the_prompt() -> None:
    request = msgspec.convert({"infotext": TEXT}, wire.Txt2Img)
    made = fill(request, {"infotext"}, OptionValues(), [Style("winter", "in snow", "")])
    assert (made.prompt, made.styles) == ("a cat", ["winter"])


def test_img2img_takes_what_scripts_read() -> None:
    request = msgspec.convert({"infotext": TEXT}, wire.Img2Img)
    made = fill(request, {"infotext"}, OptionValues())
    assert (made.prompt, made.width) == ("", 512)
    assert (made.steps, made.seed, made.sampler_name) == (12, 77, "Euler a")


def test_a_value_that_cannot_be() -> None:
    with pytest.raises(Unreadable) as caught:
        filled("x\nSteps: many, Seed: 1, Size: 8x8")
    assert caught.value.problems[0].loc == ["body", "steps"]


def test_a_text_of_nothing_but_a_prompt() -> None:
    made = filled("just words")
    assert (made.prompt, made.steps) == ("just words", 50)
    assert filled("").infotext == ""


def test_the_names_of_fields_are_the_wires() -> None:
    from compat.a1111 import pasting

    assert set(pasting.PAGE_FIELDS) | set(pasting.SCRIPT_FIELDS) <= set(wire.Txt2Img.__struct_fields__)
    assert set(pasting.SCRIPT_FIELDS) <= set(wire.Img2Img.__struct_fields__)
    assert all(OptionValues().get(option) is not None for option in pasting.OPTIONS.values())
    assert lenient.coerce({"steps": "3"}, wire.Img2Img) == {"steps": 3}


def test_the_number_of_a_distilled_model_is_read_back() -> None:
    text = "a cat\nSteps: 4, CFG scale: 1.0, Distilled CFG Scale: 3.5, Seed: 1, Size: 64x64"
    assert filled(text).distilled_cfg_scale == 3.5
    assert filled(text, distilled_cfg_scale=2.0).distilled_cfg_scale == 2.0
