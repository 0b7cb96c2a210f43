from typing import Any

import pytest

from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from compat.a1111.upscalers import upscalers
from server.core.image import HiresPass, Size, UpscalerRef
from server.core.models import ModelKind
from server.core.prompt import Span
from tests.compat.a1111.asked import context, part, planned


def hires(**fields: Any) -> HiresPass:
    found = planned(None, enable_hr=True, **{"denoising_strength": 0.7} | fields).work.hires
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "size", "scale_to"),
    [
        ({"hr_scale": 2}, (128, 192), (128, 192)),
        ({"hr_scale": "1.5"}, (96, 144), (96, 144)),
        ({"hr_resize_x": 100}, (100, 150), (100, 150)),
        ({"hr_resize_y": 144}, (96, 144), (96, 144)),
        ({"hr_resize_x": 128, "hr_resize_y": 128}, (128, 128), (128, 192)),
        ({"hr_resize_x": 64, "hr_resize_y": 192}, (64, 192), (128, 192)),
    ],
)
def test_the_target(fields: dict[str, Any], size: tuple[int, int], scale_to: tuple[int, int]) -> None:
    found = hires(width=64, height=96, **fields)
    assert (found.size, found.scale_to) == (Size(*size), Size(*scale_to))


def test_the_old_first_phase_fields_are_the_first_passs_size() -> None:
    plan = planned(None, width=512, height=512, firstphase_width=64, firstphase_height=96)
    assert (plan.work.size, plan.size) == (Size(64, 96), Size(64, 96))


@pytest.mark.parametrize(
    ("asked", "id"),
    [
        (None, "latent"),
        ("Latent", "latent"),
        ("Latent (bicubic antialiased)", "latent_bicubic_antialiased"),
        ("Latent (nearest-exact)", "latent_nearest_exact"),
        ("Lanczos", "lanczos"),
        ("Nearest", "nearest"),
        ("None", "none"),
    ],
)
def test_upscalers(asked: str | None, id: str) -> None:
    assert hires(hr_upscaler=asked).upscaler == id


@pytest.mark.parametrize("name", ["ESRGAN_4x", "ESRGAN"])
def test_an_upscaler_with_a_file(name: str) -> None:
    there = upscalers((part("ESRGAN/ESRGAN.pth", ModelKind.UPSCALER),))
    options = OptionValues({"ESRGAN_tile": 256.0, "ESRGAN_tile_overlap": "16"})
    found = planned(context(upscalers=there, options=options), enable_hr=True, hr_upscaler=name).work.hires
    assert found is not None
    assert found.upscaler == "none"
    assert found.upscaler_file == UpscalerRef(name="ESRGAN_4x", path="/models/ESRGAN/ESRGAN.pth", tile=256, overlap=16)


def test_an_upscaler_that_is_not_there() -> None:
    with pytest.raises(Refused, match="could not find upscaler named nope"):
        planned(None, enable_hr=True, hr_upscaler="nope")


def test_an_upscaler_does_not_matter_without_hires() -> None:
    assert planned(None, hr_upscaler="ESRGAN_4x", hr_sampler_name="nope").work.hires is None


@pytest.mark.parametrize(
    ("fields", "sampler", "schedule", "steps"),
    [
        ({}, "euler", "karras", 10),
        ({"hr_sampler_name": "Use same sampler", "hr_scheduler": "Use same scheduler"}, "euler", "karras", 10),
        ({"hr_sampler_name": "", "hr_scheduler": ""}, "euler", "uniform", 10),
        ({"hr_sampler_name": "DPM++ 2M", "hr_second_pass_steps": 5.0}, "dpmpp_2m", "karras", 5),
        ({"hr_scheduler": "Exponential"}, "euler", "exponential", 10),
    ],
)
def test_sampling(fields: dict[str, Any], sampler: str, schedule: str, steps: int) -> None:
    denoise = hires(sampler_name="Euler", scheduler="Karras", steps=10, cfg_scale=3, **fields).denoise
    assert (denoise.sampler, denoise.schedule, denoise.steps, denoise.cfg_scale) == (sampler, schedule, steps, 3.0)


@pytest.mark.parametrize(("asked", "strength"), [(0.3, 0.3), (0, 0.0), (2, 1.0), (None, 0.7)])
def test_strength(asked: float | None, strength: float) -> None:
    assert hires(denoising_strength=asked).strength == strength


def test_prompts_are_the_first_passs_unless_given_and_count_on() -> None:
    found = hires(prompt="[a:b:1.5]", negative_prompt="n", steps=10, hr_second_pass_steps=4)
    assert [text.until for text in found.prompt.parts[0].texts] == [2, 4]
    assert found.negative.parts[0].texts[0].pieces == (Span("n"),)
    other = hires(prompt="a", hr_prompt="b # note", hr_negative_prompt="m")
    assert other.prompt.parts[0].texts[0].pieces == (Span("b"),)
    assert other.negative.parts[0].texts[0].pieces == (Span("m"),)
