import random
from typing import Any

import pytest

from compat.a1111.convert import draw_seed
from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from compat.a1111.settings import A1111Settings
from compat.a1111.styles import Style
from server.core.errors import InvalidValue, Unsupported
from server.core.image import Denoise, ImageRequest, Seeds, Size, TextEncoding
from server.core.models import ModelKind
from server.core.prompt import Span
from tests.compat.a1111.asked import context, part, planned


def work(**fields: Any) -> ImageRequest:
    return planned(None, **fields).work


def words(request: ImageRequest) -> list[str]:
    return [
        "".join(piece.text for piece in text.pieces if isinstance(piece, Span))
        for text in request.prompt.parts[0].texts
    ]


def test_an_empty_request_has_the_originals_defaults() -> None:
    asked = work()
    assert asked.denoise == Denoise(sampler="euler", schedule="uniform", steps=50, cfg_scale=7.0)
    assert asked.size == Size(512, 512)
    assert asked.seeds == Seeds(first=7, variation=7)
    assert asked.text == TextEncoding()
    assert (asked.batch_size, asked.batches, asked.hires, asked.tiling) == (1, 1, None, False)
    assert asked.model == "tiny"


def test_a_second_order_sampler_counts_calls_not_steps() -> None:
    assert [text.until for text in work(prompt="[a:b:0.5]", steps=10, sampler_name="Heun").prompt.parts[0].texts] == [
        10,
        20,
    ]
    assert [text.until for text in work(prompt="[a:b:4]", steps=10, sampler_name="Euler").prompt.parts[0].texts] == [
        4,
        10,
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"CLIP_stop_at_last_layers": 2.0}, TextEncoding(clip_skip=2)),
        ({"CLIP_stop_at_last_layers": "two"}, TextEncoding(clip_skip=1)),
        ({"CLIP_stop_at_last_layers": 99}, TextEncoding(clip_skip=1)),
        ({"emphasis": "No norm"}, TextEncoding(emphasis="no_norm")),
        ({"emphasis": "Ignore"}, TextEncoding(emphasis="ignore")),
        ({"comma_padding_backtrack": 0}, TextEncoding(comma_backtrack=0)),
        ({"comma_padding_backtrack": 20.0}, TextEncoding()),
        ({"sdxl_clip_l_skip": True}, TextEncoding(clip_skip_first=True)),
        ({"sdxl_crop_top": 8, "sdxl_crop_left": 16.0}, TextEncoding(crop_top=8, crop_left=16)),
        (
            {"sdxl_refiner_high_aesthetic_score": 7, "sdxl_refiner_low_aesthetic_score": 1.5},
            TextEncoding(aesthetic=7.0, negative_aesthetic=1.5),
        ),
        ({"pad_cond_uncond": True}, TextEncoding(pad_uncond=True)),
    ],
)
def test_options_of_text_encoding(options: dict[str, Any], expected: TextEncoding) -> None:
    assert work(override_settings=options).text == expected
    assert planned(context(options=OptionValues(options))).work.text == expected


@pytest.mark.parametrize(
    ("fields", "options", "expected"),
    [
        ({"sampler_name": "Euler a"}, {}, {"eta": 1.0}),
        ({"sampler_name": "Euler a", "eta": 0}, {}, {"eta": 0.0}),
        ({"sampler_name": "Euler a"}, {"eta_ancestral": 0.5}, {"eta": 0.5}),
        ({"sampler_name": "DDIM"}, {}, {"eta": 0.0}),
        ({"sampler_name": "DDIM"}, {"eta_ddim": 0.5}, {"eta": 0.5}),
        ({"sampler_name": "Euler", "eta": 0.5}, {}, {"eta": None}),
        ({"sampler_name": "Euler", "s_churn": 3, "s_noise": 1.1}, {}, {"churn": 3.0, "noise": 1.1}),
        ({"sampler_name": "Euler", "s_churn": 3}, {"s_churn": 5.0}, {"churn": 5.0}),
        ({"sampler_name": "Euler"}, {"s_tmin": 0.5, "s_tmax": 9.0}, {"tmin": 0.5, "tmax": 9.0}),
        ({"sampler_name": "Euler a", "s_churn": 3, "s_noise": 1.1}, {}, {"churn": 0.0, "noise": 1.0}),
        ({"sampler_name": "DPM++ 2S a", "s_churn": 3, "s_noise": 1.1}, {}, {"churn": 0.0, "noise": 1.1}),
        ({"scheduler": "Karras"}, {"sigma_min": 0.1, "rho": 5}, {"sigma_min": 0.1, "rho": 5.0}),
        ({"scheduler": "Karras"}, {"sigma_max": 10}, {"sigma_max": 10.0, "rho": 0.0}),
        ({"scheduler": "Exponential"}, {"sigma_min": 0.1, "rho": 5}, {"sigma_min": 0.1, "rho": 0.0}),
        ({}, {"sigma_min": 0.1, "rho": 5}, {"sigma_min": 0.0, "rho": 0.0}),
        ({"scheduler": "Beta"}, {"beta_dist_alpha": 1, "beta_dist_beta": "0.7"}, {"beta_alpha": 1.0, "beta_beta": 0.7}),
        ({}, {"sgm_noise_multiplier": True}, {"scaled_start": True}),
        ({"sampler_name": "DPM2"}, {}, {"discard_next_to_last": True, "schedule": "karras"}),
        ({}, {"always_discard_next_to_last_sigma": True}, {"discard_next_to_last": True}),
        ({"s_min_uncond": 2}, {}, {"min_uncond": 2.0, "min_uncond_all": False}),
        ({}, {"s_min_uncond": 2.0, "s_min_uncond_all": True}, {"min_uncond": 2.0, "min_uncond_all": True}),
        ({}, {"enable_quantization": True}, {"quantise_times": True}),
    ],
)  # fmt: skip
def test_sampler_fields_and_options(fields: dict[str, Any], options: dict[str, Any], expected: dict[str, Any]) -> None:
    denoise = work(**fields, override_settings=options).denoise
    assert {name: getattr(denoise, name) for name in expected} == expected


def test_seeds() -> None:
    asked = work(seed=5, subseed=9, subseed_strength=0.5, seed_resize_from_w=128, seed_resize_from_h=96)
    assert asked.seeds == Seeds(first=5, variation=9, variation_strength=0.5, resize_from=Size(128, 96))
    assert work(seed=None, subseed="3").seeds == Seeds(first=7, variation=3)
    assert work(seed_resize_from_w=0, seed_resize_from_h=0).seeds.resize_from is None
    chosen = work(override_settings={"randn_source": "NV", "eta_noise_seed_delta": 31337})
    assert (chosen.seeds.source, chosen.seeds.later_delta) == ("philox", 31337)
    assert work(override_settings={"randn_source": "nonsense"}).seeds.source == "device"


def test_a_drawn_seed_is_in_the_originals_range() -> None:
    random.seed(1)
    assert all(0 <= draw_seed() <= 4294967293 for _ in range(1000))


def test_styles_comments_and_tags_are_done_in_order() -> None:
    styles = {"oil": Style("oil", "{prompt}, oil <lora:x:0.5> # style note", "grey")}
    lora = part("x.safetensors")
    plan = planned(context(styles=styles, loras=(lora,)), prompt=" a cat", styles=["oil", "unknown"])
    assert plan.texts.prompt == "a cat, oil <lora:x:0.5> \n"
    assert plan.texts.negative == "grey"
    assert words(plan.work) == ["a cat, oil"]
    assert [adapter.text_weight for adapter in plan.work.adapters] == [0.5]


def test_without_prompt_comments_the_sign_stays() -> None:
    plan = planned(None, prompt="a # b", override_settings={"enable_prompt_comments": False})
    assert plan.texts.prompt == "a # b"


def test_disabled_networks_still_lose_their_tags() -> None:
    plan = planned(context(loras=(part("x.safetensors"),)), prompt="a <lora:x:1>", disable_extra_networks=True)
    assert (words(plan.work), plan.work.adapters, plan.texts.prompt) == (["a"], (), "a <lora:x:1>")


def test_the_lora_of_the_options_is_appended_once() -> None:
    given = context(loras=(part("x.safetensors"),), options=OptionValues({"sd_lora": "x"}))
    assert planned(given, prompt="a").texts.prompt == "a<lora:x:1.0>"
    assert planned(given, prompt="a <lora:x:2>").texts.prompt == "a <lora:x:2>"
    assert planned(context(options=OptionValues({"sd_lora": "x"})), prompt="a").texts.prompt == "a"


def test_embeddings_that_may_be_meant_go_along() -> None:
    cards = tuple(part(name, ModelKind.EMBEDDING) for name in ("good.pt", "Bad.safetensors", "other.pt"))
    asked = planned(context(embeddings=cards), prompt="very GOOD", negative_prompt="bad hands").work
    assert [one.name for one in asked.embeddings] == ["good", "Bad"]


def test_emphasis_none_takes_brackets_literally() -> None:
    asked = work(prompt="(a:1.2)", override_settings={"emphasis": "None"})
    assert asked.prompt.parts[0].texts[0].pieces == (Span("(a:1.2)"),)
    assert asked.text.emphasis == "none"


@pytest.mark.parametrize(
    ("options", "setting", "every"),
    [
        ({}, -1, 10),
        ({"show_progress_every_n_steps": 3.0}, -1, 3),
        ({"show_progress_every_n_steps": -1}, -1, 0),
        ({"live_previews_enable": False}, -1, 0),
        ({}, 0, 0),
        ({}, 4, 4),
    ],
)
def test_previews(options: dict[str, Any], setting: int, every: int) -> None:
    given = context(options=OptionValues(options), settings=A1111Settings(previews_every=setting))
    assert planned(given).work.preview_every == every


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": -1}, "steps"),
        ({"steps": 1001}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 65}, "batch_size"),
        ({"n_iter": 0}, "n_iter"),
        ({"n_iter": 101}, "n_iter"),
        ({"width": 0}, "width"),
        ({"width": 8192, "height": 4096}, "width"),
        ({"firstphase_width": 64}, "width"),
        ({"enable_hr": True, "hr_scale": 100, "denoising_strength": 0.5}, "hr_scale"),
        ({"enable_hr": True, "hr_scale": 1e300, "denoising_strength": 0.5}, "hr_scale"),
        ({"enable_hr": True, "hr_scale": 0, "denoising_strength": 0.5}, "hr_scale"),
        ({"enable_hr": True, "hr_second_pass_steps": 5000}, "hr_second_pass_steps"),
        ({"enable_hr": True, "denoising_strength": -0.1}, "denoising_strength"),
        ({"prompt": None}, "prompt"),
        ({"negative_prompt": None}, "negative_prompt"),
        ({"cfg_scale": None}, "cfg_scale"),
        ({"seed": 2**64 - 1}, "seed"),
        ({"prompt": "(" * 65}, "prompt"),
        ({"negative_prompt": "a" * 70_000}, "negative_prompt"),
        ({"hr_prompt": "[" * 65, "enable_hr": True}, "hr_prompt"),
    ],
)
def test_out_of_bounds(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        planned(None, **fields)
    assert caught.value.fact("param") == param


@pytest.mark.parametrize("width", [8, 63, 512])
def test_any_width_from_a_latent_cell_on_is_taken_as_it_is(width: int) -> None:
    assert work(width=width).size == Size(width, 512)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"restore_faces": True}, "restore_faces"),
        ({"override_settings": {"face_restoration": True}}, "restore_faces"),
        ({"override_settings": {"sd_noise_schedule": "Zero Terminal SNR"}}, "override_settings.sd_noise_schedule"),
        ({"prompt": "<lora:x:1:1:4>"}, "prompt"),
    ],
)
def test_what_would_change_the_picture_is_refused(fields: dict[str, Any], param: str) -> None:
    given = context(loras=(part("x.safetensors"),))
    with pytest.raises(Unsupported) as caught:
        planned(given, **fields)
    assert caught.value.fact("param") == param


@pytest.mark.parametrize("empty", [None, "", "None", "none"])
def test_no_refiner_is_no_refiner(empty: str | None) -> None:
    assert work(refiner_checkpoint=empty, refiner_switch_at=0.8, restore_faces=False, hr_checkpoint_name="x")


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"script_name": "nope"}, 422, "Script 'nope' not found"),
        (
            {"alwayson_scripts": {"X/Y/Z plot": {"args": []}}},
            422,
            "Cannot have a selectable script in the always on scripts params",
        ),
        ({"enable_hr": True, "hr_sampler_name": "Nope"}, 422, "bad sampler name: Nope"),
        ({"enable_hr": True, "hr_upscaler": "Nope"}, 422, "could not find upscaler named Nope"),
    ],
)
def test_refusals_in_the_originals_words(fields: dict[str, Any], status: int, text: str) -> None:
    with pytest.raises(Refused) as caught:
        planned(None, **fields)
    assert (caught.value.fact("status"), caught.value.message) == (status, text)


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({}, ()),
        ({"alwayson_scripts": {"ADetailer": {"args": [True]}, "sampler": {}}}, ("alwayson_scripts.ADetailer",)),
        ({"sampler_name": "k_euler"}, ("sampler_name",)),
        ({"sampler_index": "Nope"}, ("sampler_index",)),
        ({"sampler_name": "DPM++ 2M Karras"}, ()),
        ({"override_settings": {"nope": 1, "other": None}}, ("override_settings.nope",)),
        ({"override_settings": {"ddim_discretize": "uniform", "sd_hypernetwork": "None"}}, ()),
        ({"override_settings": {"sd_vae": "unknown.pt"}}, ()),
        ({"override_settings": {"tiling": True}, "override_settings_restore_afterwards": False}, ()),
        ({"prompt": "<lora:nope:1> <hypernet:nope:1> a"}, ("lora:nope",)),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_named(fields: dict[str, Any], ignored: tuple[str, ...]) -> None:
    assert planned(None, **fields).ignored == ignored


def test_a_stored_option_that_is_not_offered_is_named_not_refused() -> None:
    given = context(options=OptionValues({"skip_early_cond": 0.2, "token_merging_ratio_hr": 0.5}))
    assert planned(given).ignored == ("options.skip_early_cond",)
    assert planned(given, enable_hr=True).ignored == ("options.skip_early_cond", "options.token_merging_ratio_hr")


def test_options_put_networks_into_every_prompt() -> None:
    given = context(loras=(part("x.safetensors"),), hypernetworks=(part("h.pt", ModelKind.HYPERNETWORK),))
    options = {"sd_lora": "x", "sd_hypernetwork": "h", "extra_networks_default_multiplier": 0.5}
    plan = planned(given, prompt="a cat", override_settings=options)
    assert plan.texts.prompt == "a cat<hypernet:h:0.5><lora:x:0.5>"
    assert [(ref.name, ref.multiplier) for ref in plan.work.hypernetworks] == [("h", 0.5)]
    assert [(ref.name, ref.unet_weight) for ref in plan.work.adapters] == [("x", 0.5)]
    mine = planned(given, prompt="a <hypernet:h:2>", override_settings=options | {"sd_lora": "gone"})
    assert mine.texts.prompt == "a <hypernet:h:2>"


def test_the_second_pass_has_the_networks_of_its_own_prompt() -> None:
    given = context(loras=(part("x.safetensors"),), hypernetworks=(part("h.pt", ModelKind.HYPERNETWORK),))
    prompts = {"prompt": "a <lora:x:1>", "hr_prompt": "b <lora:x:0.5><hypernet:h>"}
    second = planned(given, enable_hr=True, denoising_strength=0.5, **prompts).work.hires
    assert second is not None
    assert second.adapters is not None
    assert second.hypernetworks is not None
    assert [ref.unet_weight for ref in second.adapters] == [0.5]
    assert [ref.multiplier for ref in second.hypernetworks] == [1.0]
    same = planned(given, enable_hr=True, denoising_strength=0.5, prompt=prompts["prompt"])
    assert same.work.hires is not None
    assert same.work.hires.adapters == same.work.adapters


@pytest.mark.parametrize(
    ("option", "file"),
    [
        ("Automatic", None),
        ("None", "/models/tiny.safetensors"),
        ("good.safetensors", "/models/sub/good.safetensors"),
        ("gone.safetensors", "/models/tiny.safetensors"),
        (None, None),
    ],
)
def test_the_vae(option: str | None, file: str | None) -> None:
    """None and names that are unknown mean the checkpoint's own."""
    given = context(
        vaes=(part("sub/good.safetensors", ModelKind.VAE),),
        model_file="/models/tiny.safetensors",
        options=OptionValues({} if option is None else {"sd_vae": option}),
    )
    made = planned(given)
    assert made.work.vae == file
    assert (made.vae is not None) == (option == "good.safetensors")
    stored = planned(given, override_settings={"sd_vae": "good.safetensors"})
    assert stored.work.vae == "/models/sub/good.safetensors"
