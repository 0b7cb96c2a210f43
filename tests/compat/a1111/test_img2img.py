import base64
import json
from typing import Any

import msgspec
import pytest

from compat.a1111 import lenient, wire
from compat.a1111.answer import Finished, infotexts
from compat.a1111.convert import Context, Plan
from compat.a1111.fields import FORGE
from compat.a1111.img2img import plan
from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from compat.a1111.upscalers import upscalers
from server.core.errors import InvalidValue, ServerError, Unsupported
from server.core.image import InitImages, Inpaint, SoftInpaint, UpscalerRef
from server.core.models import ImageFacts, ModelKind
from tests.compat.a1111.asked import answer_of, context, part
from tests.support.fake_images import ready, tiny_png
from tests.support.golden_images import img2img_cases, sent
from tests.support.shared import golden, needs_shared

FILE = tiny_png(1)
MASK = tiny_png(2)
PICTURE, MASKED = (base64.b64encode(file).decode() for file in (FILE, MASK))
MODEL = part("tiny.safetensors", ModelKind.CHECKPOINT, sha256="bcb9e564dd" + "0" * 54)
BASE = "Steps: 50, Sampler: Euler, Schedule type: Automatic, CFG scale: 7.0, Seed: 7, Size: 512x512"
TAIL = ", Model hash: bcb9e564dd, Model: tiny, "


NET = part("ESRGAN/4x-net.pth", ModelKind.UPSCALER)


def asked(**fields: Any) -> wire.Img2Img:
    """Return a request as it comes out of the wire."""
    body = json.dumps({"init_images": [PICTURE]} | fields).encode()
    return msgspec.convert(lenient.read(body, wire.Img2Img), wire.Img2Img)


def planned(given: Context | None = None, /, **fields: Any) -> Plan:
    return plan(asked(**fields), given or context())


def init(given: Context | None = None, /, **fields: Any) -> InitImages:
    made = planned(given or context(upscalers=upscalers((NET,))), **fields).work.init
    assert made is not None
    return made


def inpaint(**fields: Any) -> Inpaint:
    made = init(mask=MASKED, **fields).inpaint
    assert made is not None
    return made


def test_the_defaults() -> None:
    assert init() == InitImages(images=(FILE,), strength=0.75)
    assert inpaint() == Inpaint(mask=MASK, content="fill", only_masked=True)
    assert planned().work.hires is None


@pytest.mark.parametrize(
    ("fields", "param", "value"),
    [
        ({"denoising_strength": 0.3}, "strength", 0.3),
        ({"denoising_strength": 2}, "strength", 1.0),
        ({"resize_mode": 1}, "resize", "crop"),
        ({"resize_mode": 2}, "resize", "fill"),
        ({"resize_mode": 3}, "resize", "latent"),
        ({"resize_mode": 9}, "resize", "fill"),
        ({"image_cfg_scale": 1.5}, "picture_scale", 1.5),
        ({"initial_noise_multiplier": 1.2}, "noise_multiplier", 1.2),
        ({"override_settings": {"img2img_fix_steps": True}}, "exact_steps", True),
        ({"override_settings": {"img2img_color_correction": True}}, "match_colours", True),
        ({"override_settings": {"img2img_background_color": "#0a0b0c"}}, "background", (10, 11, 12)),
        ({"override_settings": {"img2img_background_color": "#fa0"}}, "background", (255, 170, 0)),
        ({"override_settings": {"img2img_background_color": "mauve"}}, "background", (255, 255, 255)),
        ({"override_settings": {"inpainting_mask_weight": 0.5}}, "mask_weight", 0.5),
        ({"override_settings": {"upscaler_for_img2img": "Lanczos"}}, "upscaler", "lanczos"),
        ({"override_settings": {"upscaler_for_img2img": "None"}}, "upscaler", "none"),
        ({"override_settings": {"upscaler_for_img2img": "gone"}}, "upscaler", "none"),
        ({"override_settings": {"upscaler_for_img2img": "Lanczos"}}, "upscaler_file", None),
        (
            {"override_settings": {"upscaler_for_img2img": "4x-net", "ESRGAN_tile": 64}},
            "upscaler_file",
            UpscalerRef(name="4x-net", path="/models/ESRGAN/4x-net.pth", tile=64, overlap=8),
        ),
    ],
)
def test_fields_of_the_picture(fields: dict[str, Any], param: str, value: object) -> None:
    assert getattr(init(**fields), param) == value


@pytest.mark.parametrize(
    ("fields", "param", "value"),
    [
        ({"inpainting_fill": 1}, "content", "original"),
        ({"inpainting_fill": 2}, "content", "noise"),
        ({"inpainting_fill": 3}, "content", "nothing"),
        ({"inpainting_fill": 7}, "content", "fill"),
        ({"inpaint_full_res": False}, "only_masked", False),
        ({"inpaint_full_res_padding": 32}, "padding", 32),
        ({"inpainting_mask_invert": True}, "invert", True),
        ({"mask_round": False}, "rounded", False),
        ({"mask_blur": 9}, "blur_x", 9),
        ({"mask_blur": 9, "mask_blur_y": 2}, "blur_y", 9),
        ({"mask_blur_x": 7}, "blur_x", 7),
        ({"mask_blur_x": 7}, "blur_y", 4),
        ({"mask_blur": -3}, "blur_x", 0),
        ({"override_settings": {"overlay_inpaint": False}}, "overlay", False),
        ({"override_settings": {"return_mask": True}}, "return_mask", True),
        ({"override_settings": {"return_mask_composite": True}}, "return_composite", True),
    ],
)
def test_fields_of_the_mask(fields: dict[str, Any], param: str, value: object) -> None:
    assert getattr(inpaint(**fields), param) == value


def test_an_upscaler_that_is_not_there_is_passed_over_and_named() -> None:
    made = planned(override_settings={"upscaler_for_img2img": "gone"})
    assert made.ignored == ("options.upscaler_for_img2img",)


def test_the_noise_multiplier_is_an_option_that_requests_cannot_override() -> None:
    stored = context(options=OptionValues({"initial_noise_multiplier": 1.3}))
    assert init(stored).noise_multiplier == 1.3
    assert init(stored, initial_noise_multiplier=0.9).noise_multiplier == 0.9
    assert init(override_settings={"initial_noise_multiplier": 1.3}).noise_multiplier == 1.0


def test_extra_noise_is_part_of_the_pass() -> None:
    assert planned(override_settings={"img2img_extra_noise": 0.2}).work.denoise.extra_noise == 0.2


def test_several_pictures_set_the_batch_size() -> None:
    made = planned(init_images=[PICTURE, MASKED], batch_size=4)
    assert made.work.batch_size == 2
    assert made.work.init is not None
    assert made.work.init.images == (FILE, MASK)
    assert planned(batch_size=4).work.batch_size == 4


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"init_images": None}, 404, "Init image not found"),
        ({"init_images": []}, 422, "Init image not found"),
        ({"init_images": [None]}, 422, "Invalid encoded image"),
        ({"init_images": [""]}, 422, "Invalid encoded image"),
        ({"init_images": ["http://127.0.0.1/x.png"]}, 422, "Request to local resource not allowed"),
        ({"mask": ""}, 422, "Invalid encoded image"),
        ({"init_images": [PICTURE] * 3, "batch_size": 2}, 422, "bad number of images passed: 3; expecting 2 or less"),
        ({"script_name": "sd upscale"}, 422, "Script 'sd upscale' not found"),
    ],
)
def test_refusals(fields: dict[str, Any], status: int, told: str) -> None:
    with pytest.raises(Refused) as caught:
        planned(**fields)
    assert (caught.value.fact("status"), caught.value.message) == (status, told)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"mask_blur": 10**6, "mask": MASKED}, "mask_blur"),
        ({"inpaint_full_res_padding": -1, "mask": MASKED}, "inpaint_full_res_padding"),
        ({"denoising_strength": -0.1}, "denoising_strength"),
        ({"steps": 0}, "steps"),
        ({"width": 0}, "width"),
        ({"override_settings": {"token_merging_ratio_img2img": 0.5}}, "override_settings.token_merging_ratio_img2img"),
        ({"alwayson_scripts": {"soft inpainting": {"args": 5}}}, "alwayson_scripts"),
        ({"alwayson_scripts": {"soft inpainting": {"args": [True, "much"]}}}, "alwayson_scripts"),
        ({"alwayson_scripts": {"soft inpainting": {"args": [True, 1, 0.5, 0]}}}, "alwayson_scripts"),
        ({"alwayson_scripts": {"soft inpainting": {"args": [True, 1e9]}}}, "alwayson_scripts"),
    ],
)
def test_what_is_out_of_bounds(fields: dict[str, Any], param: str) -> None:
    with pytest.raises((InvalidValue, Unsupported)) as caught:
        planned(**fields)
    assert isinstance(caught.value, ServerError)
    assert caught.value.fact("param") == param


def test_stored_options_that_are_not_offered_are_named() -> None:
    stored = context(options=OptionValues({"token_merging_ratio_img2img": 0.5}))
    assert "options.token_merging_ratio_img2img" in planned(stored).ignored


def test_soft_inpainting() -> None:
    scripts = {"Soft Inpainting": {"args": [True, 2, 0.25]}}
    made = inpaint(alwayson_scripts=scripts)
    assert made.soft == SoftInpaint(schedule_bias=2, preservation=0.25)
    assert not made.rounded
    assert planned(mask=MASKED, alwayson_scripts=scripts).ignored == ()
    assert inpaint(alwayson_scripts={"soft inpainting": {"args": [False, 2]}}).soft is None
    assert inpaint(alwayson_scripts={"soft inpainting": {}}).soft is None
    assert init(alwayson_scripts=scripts).inpaint is None


def line(card: Any = MODEL, *, blank: bool = False, **fields: Any) -> str:
    finished = Finished(pictures=[ready(0)], card=card, timestamp="2", version="v1.10.1", blank_mask=blank)
    return infotexts(planned(None, **fields), finished)[0].rsplit("\n", 1)[-1]


BLUR = "Denoising strength: 0.75, Mask blur: 4, "


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "Denoising strength: 0.75, "),
        ({"denoising_strength": 2}, "Denoising strength: 2.0, "),
        ({"initial_noise_multiplier": 1.1}, "Denoising strength: 0.75, Noise multiplier: 1.1, "),
        ({"override_settings": {"img2img_extra_noise": 0.1}}, "Denoising strength: 0.75, Extra noise: 0.1, "),
        (
            {"mask": MASKED},
            BLUR + "Inpaint area: Only masked, Masked area padding: 0, Masked content: fill, ",
        ),
        ({"mask": MASKED, "inpaint_full_res": False, "inpainting_fill": 1}, BLUR),
        ({"mask": MASKED, "inpaint_full_res": False, "inpainting_fill": 3}, BLUR + "Masked content: latent nothing, "),
        (
            {"mask": MASKED, "inpaint_full_res": False, "inpainting_fill": 1, "mask_blur": 0},
            "Denoising strength: 0.75, ",
        ),
        (
            {"mask": MASKED, "inpaint_full_res": False, "inpainting_fill": 1, "mask_blur_y": 2},
            "Denoising strength: 0.75, ",
        ),
        (
            {"mask": MASKED, "inpaint_full_res": False, "inpainting_fill": 1, "inpainting_mask_invert": 1},
            "Denoising strength: 0.75, Mask mode: Inpaint not masked, Mask blur: 4, ",
        ),
    ],
)
def test_the_settings_line(fields: dict[str, Any], told: str) -> None:
    assert line(**fields) == BASE + TAIL + told + "Version: v1.10.1"


def test_a_mask_that_was_left_out_leaves_its_blur() -> None:
    assert line(blank=True, mask=MASKED) == BASE + TAIL + BLUR + "Version: v1.10.1"


def test_soft_inpainting_is_told_with_its_numbers_as_written() -> None:
    scripts = {"soft inpainting": {"args": [True, 1, 0.5, 4, 0.25]}}
    told = line(mask=MASKED, inpainting_fill=1, inpaint_full_res=False, alwayson_scripts=scripts)
    assert told == BASE + TAIL.removesuffix(" ") + (
        " Denoising strength: 0.75, Soft inpainting enabled: True, Soft inpainting schedule bias: 1, "
        "Soft inpainting preservation strength: 0.5, Soft inpainting transition contrast boost: 4, "
        "Soft inpainting mask influence: 0.25, Soft inpainting difference threshold: 0.5, "
        "Soft inpainting difference contrast: 2, Mask blur: 4, Version: v1.10.1"
    )


def test_checkpoints_that_see_the_picture_are_told() -> None:
    inpainting, editing = (
        msgspec.structs.replace(MODEL, image=ImageFacts(in_channels=channels)) for channels in (9, 8)
    )
    assert "Denoising strength: 0.75, Conditional mask weight: 1.0, " in line(inpainting)
    assert "CFG scale: 7.0, Image CFG scale: 1.5, Seed" in line(editing, image_cfg_scale=1.5)
    assert "Image CFG scale" not in line(image_cfg_scale=1.5)
    finished = Finished(pictures=[ready(0)], card=inpainting, timestamp="2")
    assert json.loads(answer_of(planned(), finished).info)["is_using_inpainting_conditioning"]


def answered(further: tuple[bytes, ...] = (), **fields: Any) -> wire.ImagesAnswer:
    picture = msgspec.structs.replace(ready(0), further=further)
    return answer_of(planned(None, **fields), Finished(pictures=[picture], card=MODEL, timestamp="2"))


def test_pictures_are_only_repeated_when_that_is_asked_for() -> None:
    assert answered(mask=MASKED).parameters["init_images"] is None
    assert answered(mask=MASKED).parameters["mask"] is None
    repeated = answered(mask=MASKED, include_init_images=True).parameters
    assert (repeated["init_images"], repeated["mask"]) == ([PICTURE], MASKED)
    assert list(repeated) == [name for name in wire.Img2Img.__struct_fields__ if name not in FORGE]


def test_masks_follow_their_picture() -> None:
    wanted = {"mask": MASKED, "override_settings": {"return_mask": True, "return_mask_composite": True}}
    images = answered((MASK, FILE), **wanted).images
    assert [base64.b64decode(image) for image in images[1:]] == [MASK, FILE]
    assert answered((MASK, FILE), send_images=False, **wanted).images == []
    assert len(answered((MASK,), mask=MASKED).images) == 1


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("case", img2img_cases(), ids=lambda case: case["name"])
def test_recorded_infotexts_and_info(case: dict[str, Any]) -> None:
    made = planned(None, **sent(case))
    pictures = [ready(index) for index in range(len(case["images"]))]
    finished = Finished(pictures=pictures, card=MODEL, timestamp="x", version="v1.10.1")
    assert infotexts(made, finished) == [image["infotext"] for image in case["images"]]
    told = json.loads(answer_of(made, finished).info)
    wanted = case["info"] | {"job_timestamp": "x"}
    for name in ("subseed", "all_subseeds"):
        told.pop(name), wanted.pop(name)
    assert told == wanted
    assert list(told["extra_generation_params"]) == list(wanted["extra_generation_params"])


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("name", ["no-init-image", "bad-base64", "bad-mask", "http-init-image"])
def test_recorded_refusals(name: str) -> None:
    """The same words; our status is never 500."""
    cases = golden("a1111-get/post-edge-cases.json")
    (case,) = [case for case in cases if case["name"] == name]
    fields = case["request"] | ({"init_images": [PICTURE]} if name == "bad-mask" else {})
    with pytest.raises(Refused) as caught:
        plan(msgspec.convert(fields, wire.Img2Img), context())
    assert caught.value.fact("detail") == case["response"]["detail"]
    assert caught.value.fact("status") == (404 if case["status"] == 404 else 422)
