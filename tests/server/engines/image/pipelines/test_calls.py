"""Requests to the arguments of pipelines: guidance of each kind, and what has no meaning."""

from typing import Any

import diffusers
import pytest

from server.core.errors import Unsupported
from server.core.image import Denoise, ImageRequest, InitImages, Inpaint, Seeds, Size, SoftInpaint, TextEncoding
from server.core.prompt import plain
from server.engines.image.pipelines.calls import arguments_of, check_served, guidance_of, ignored_of

pytestmark = pytest.mark.torch


class _Model:
    def __init__(self, **config: Any) -> None:
        self.config = config


def pipeline(name: str, **config: Any) -> Any:
    """Return a pipeline that was never built: only its signature and its transformer's configuration count."""
    found = object.__new__(getattr(diffusers, name))
    object.__setattr__(found, "transformer", _Model(**config))
    return found


def asked(**fields: Any) -> ImageRequest:
    base: dict[str, Any] = {"prompt": plain("a cat"), "negative": plain("dog"), "size": Size(64, 64)}
    return ImageRequest(model="x", seeds=Seeds(first=1), **base | fields)


@pytest.mark.parametrize(
    ("name", "config", "denoise", "arguments", "negative"),
    [
        ("StableDiffusion3Pipeline", {}, {"cfg_scale": 4.0}, {"guidance_scale": 4.0}, True),
        ("StableDiffusion3Pipeline", {}, {"cfg_scale": 1.0}, {"guidance_scale": 1.0}, False),
        (
            "FluxPipeline",
            {"guidance_embeds": True},
            {"cfg_scale": 4.0},
            {"guidance_scale": 4.0, "true_cfg_scale": 1.0},
            False,
        ),
        (
            *("FluxPipeline", {"guidance_embeds": True}, {"cfg_scale": 2.0, "distilled_scale": 3.5}),
            *({"guidance_scale": 3.5, "true_cfg_scale": 2.0}, True),
        ),
        ("FluxPipeline", {"guidance_embeds": False}, {"cfg_scale": 1.0}, {"true_cfg_scale": 1.0}, False),
        ("QwenImagePipeline", {"guidance_embeds": False}, {"cfg_scale": 4.0}, {"true_cfg_scale": 4.0}, True),
        ("ZImagePipeline", {}, {"cfg_scale": 4.0}, {"guidance_scale": 3.0}, True),
        ("ZImagePipeline", {}, {"cfg_scale": 0.5}, {"guidance_scale": 0.0}, False),
        ("Flux2Pipeline", {}, {"cfg_scale": 4.0}, {"guidance_scale": 4.0}, False),
        (
            "HunyuanImagePipeline",
            {"guidance_embeds": True},
            {"cfg_scale": 4.0},
            {"distilled_guidance_scale": 4.0},
            False,
        ),
    ],
)
def test_guidance(
    name: str, config: dict[str, Any], denoise: dict[str, Any], arguments: dict[str, float], negative: bool
) -> None:
    found = guidance_of(pipeline(name, **config), Denoise(**denoise))
    assert (dict(found.arguments), found.has_negative) == (arguments, negative)


def test_words_and_what_is_turned_off() -> None:
    found = arguments_of(pipeline("SanaPipeline"), asked(negative=plain("")), 2)
    assert (found["prompt"], found["negative_prompt"], found["num_images_per_prompt"]) == ("a cat", " ", 2)
    assert (found["use_resolution_binning"], found["complex_human_instruction"]) == (False, None)


def test_a_negative_prompt_without_a_say_is_not_sent() -> None:
    found = arguments_of(pipeline("StableDiffusion3Pipeline"), asked(denoise=Denoise(cfg_scale=1.0)), 1)
    assert found["negative_prompt"] is None


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({}, ()),
        ({"denoise": Denoise(sampler="heun", schedule="karras")}, ("sampler", "schedule")),
        ({"denoise": Denoise(churn=0.5)}, ("churn",)),
        ({"text": TextEncoding(clip_skip=2)}, ("clip_skip",)),
        ({"vae": "other"}, ("vae",)),
        ({"vae": "own"}, ()),
        ({"denoise": Denoise(cfg_scale=1.0)}, ("negative_prompt",)),
    ],
)
def test_what_has_no_meaning_is_named(fields: dict[str, Any], ignored: tuple[str, ...]) -> None:
    assert ignored_of(pipeline("StableDiffusion3Pipeline"), asked(**fields), "own") == ignored


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tiling": True}, "tiling"),
        ({"init": InitImages(images=(b"",), strength=0.5, resize="latent")}, "resize_mode"),
        (
            {"init": InitImages(images=(b"",), strength=0.5, inpaint=Inpaint(mask=b"", soft=SoftInpaint()))},
            "soft_inpainting",
        ),
    ],
)
def test_what_would_change_the_picture_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as raised:
        check_served(asked(**fields))
    assert raised.value.fact("param") == param
