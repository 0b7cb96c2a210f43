"""Sending back what png-info says of a picture makes the same picture: door, engine and infotext as one."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from compat.a1111 import answer, convert, img2img, lenient, pnginfo, wire
from compat.a1111.styles import Style
from server.core.image import ImageFinished, ImageReady
from server.core.models import ImageSettings, ModelKind
from server.engines.image.diffusion import DiffusionEngine, DiffusionLoader
from tests.compat.a1111.asked import answer_of
from tests.support.golden_images import card_of, pixels, run
from tests.support.picture_files import disc, file_of, noise_image
from tests.support.sent_back import img2img_again, txt2img_again
from tests.support.tiny_checkpoint import CHANNELS, TEXT, write_tiny_checkpoint, write_tiny_vae

pytestmark = pytest.mark.torch

SETTINGS = ImageSettings(device="cpu", dtype="float32", threads=1, allow_pickle=True)
STYLES = {"ink": Style("ink", "{prompt}, black ink", "colours"), "dawn": Style("dawn", "at dawn", "")}
SMALL = {"width": 32, "height": 32, "steps": 3, "prompt": "a (red) cat, [dog|fox]", "negative_prompt": "grey [sky]"}
HIRES = {"enable_hr": True, "denoising_strength": 0.55}
OLD = base64.b64encode(file_of(noise_image(40, 32))).decode()
MASK = base64.b64encode(file_of(disc(32, radius=9))).decode()


class House:
    """A door with one checkpoint and some parts, without a server."""

    def __init__(self, folder: Path) -> None:
        write_tiny_checkpoint(folder / "tiny.safetensors")
        write_tiny_checkpoint(folder / "second.safetensors", seed=9)
        write_tiny_vae(folder / "other.safetensors")
        save_file({"emb_params": torch.ones(2, TEXT)}, str(folder / "zqx.safetensors"))
        generator = torch.Generator().manual_seed(3)
        name = "lora_unet_mid_block_attentions_0_proj_in"
        tensors = {
            f"{name}.lora_up.weight": torch.randn(CHANNELS, 2, 1, 1, generator=generator),
            f"{name}.lora_down.weight": torch.randn(2, CHANNELS, 1, 1, generator=generator),
        }
        save_file(tensors, str(folder / "line.safetensors"))
        self.card = card_of(folder / "tiny.safetensors")
        self.engine: DiffusionEngine = DiffusionLoader().load(self.card, SETTINGS, lambda fraction: None)
        self._context = convert.Context(
            model=self.card.id,
            model_file=self.card.files[0],
            styles=STYLES,
            loras=(card_of(folder / "line.safetensors", ModelKind.LORA),),
            embeddings=(card_of(folder / "zqx.safetensors", ModelKind.EMBEDDING),),
            checkpoints=(self.card, card_of(folder / "second.safetensors")),
            vaes=(card_of(folder / "other.safetensors", ModelKind.VAE),),
        )

    def txt2img(self, fields: dict[str, Any]) -> list[bytes]:
        return self._answered(convert.plan(_read(fields, wire.Txt2Img), self._context))

    def img2img(self, fields: dict[str, Any]) -> list[bytes]:
        return self._answered(img2img.plan(_read(fields, wire.Img2Img), self._context))

    def _answered(self, plan: convert.Plan) -> list[bytes]:
        events = run(self.engine, plan.work)
        end = events[-1]
        assert isinstance(end, ImageFinished)
        finished = answer.Finished(
            pictures=[event for event in events if isinstance(event, ImageReady)],
            card=self.card,
            timestamp="20250131000000",
            version="v1.10.1",
            padded=end.padded,
            blank_mask=end.blank_mask,
            refined=end.refined,
        )
        return [base64.b64decode(image) for image in answer_of(plan, finished).images]


Made = Callable[[dict[str, Any]], list[bytes]]


def _read(fields: dict[str, Any], kind: type[Any]) -> Any:
    return msgspec.convert(lenient.read(json.dumps(fields).encode(), kind), kind)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    yield house
    house.engine.close()


def told(png: bytes) -> dict[str, Any]:
    return dict(pnginfo.describe(base64.b64encode(png).decode(), STYLES.values()).parameters)


def text_of(png: bytes) -> str:
    return pnginfo.describe(base64.b64encode(png).decode(), ()).info


def check(made: Made, request: dict[str, Any], again: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Each picture of a request comes again from what is told of it, and is told of in the same words."""
    first = made(request)
    for png in first:
        (second,) = made(again(told(png)))
        assert (pixels(second) == pixels(png)).all()
        assert text_of(second).split() == text_of(png).split()  # blanks at the ends of lines are not read back


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n_iter": 2},
        {"sampler_name": "DPM++ 2M SDE", "scheduler": "karras"},
        {"sampler_name": "Euler a Karras", "eta": 0.4},
        {"sampler_name": "DDIM", "override_settings": {"eta_ddim": 0.7}},
        {"sampler_name": "UniPC", "steps": 4, "prompt": "a <lora:line:0.7> cat", "cfg_scale": 5.25},
        {"sampler_name": "k_unknown"},
        {"subseed": 4, "subseed_strength": 0.35, "n_iter": 2},
        {"seed_resize_from_w": 48, "seed_resize_from_h": 24},
        {"tiling": True, "width": 40},
        {"styles": ["ink"]},
        {"styles": ["dawn", "ink"]},
        {"prompt": "a zqx # no cat\nand AND a dog :0.5", "negative_prompt": "zqx\nBREAK"},
        {"override_settings": {"CLIP_stop_at_last_layers": 2, "randn_source": "NV", "emphasis": "No norm"}},
        {"override_settings": {"eta_noise_seed_delta": 31337}, "sampler_name": "Euler a"},
        {"override_settings": {"s_churn": 4.0, "s_noise": 1.01, "s_tmin": 0.1, "s_tmax": 9.0}, "sampler_name": "Heun"},
        {"override_settings": {"sigma_min": 0.1, "sigma_max": 9.0, "rho": 5.0}, "scheduler": "karras"},
        {"override_settings": {"always_discard_next_to_last_sigma": True}},
        {"override_settings": {"s_min_uncond": 20.0, "s_min_uncond_all": True}},
        {"override_settings": {"pad_cond_uncond": True}, "negative_prompt": ", ".join(["grey"] * 80)},
        {"override_settings": {"sd_vae": "other.safetensors"}},
        {"refiner_checkpoint": "second", "refiner_switch_at": 0.5},
    ],
)
def test_txt2img(house: House, fields: dict[str, Any]) -> None:
    check(house.txt2img, SMALL | {"seed": 5} | fields, txt2img_again)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"hr_upscaler": "Lanczos", "hr_scale": 1.5, "hr_second_pass_steps": 2},
        {"hr_resize_x": 56, "hr_resize_y": 40, "hr_upscaler": "Latent (nearest)"},
        {"hr_resize_x": 48},
        {"hr_sampler_name": "Euler a", "hr_scheduler": "Karras", "hr_scale": 1.25},
        {"hr_prompt": "a blue dog", "hr_negative_prompt": "red", "hr_scale": 1.25},
        {"hr_scale": 1.25, "override_settings": {"img2img_extra_noise": 0.05}},
        {"hr_scale": 1.25, "scheduler": "Exponential", "hr_scheduler": "Simple", "hr_checkpoint_name": "second"},
    ],
)
def test_hires(house: House, fields: dict[str, Any]) -> None:
    check(house.txt2img, SMALL | {"seed": 5} | HIRES | fields, txt2img_again)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sampler_name": "DPM++ 2M", "initial_noise_multiplier": 0.9},
        {"sampler_name": "Euler a", "subseed_strength": 0.2, "subseed": 3},
        {"mask": MASK},
        {"mask": MASK, "mask_blur": 0},
        {"mask": MASK, "inpainting_fill": 2, "inpainting_mask_invert": 1, "mask_blur": 2},
        {"mask": MASK, "inpaint_full_res": True, "inpaint_full_res_padding": 4, "inpainting_fill": 1},
        {"mask": MASK, "alwayson_scripts": {"soft inpainting": {"args": [True, 1.5, 0.6, 3, 0.1, 0.4, 2]}}},
    ],
)
def test_img2img(house: House, fields: dict[str, Any]) -> None:
    request = SMALL | {"seed": 5, "init_images": [OLD], "denoising_strength": 0.7} | fields

    def again(told: dict[str, Any]) -> dict[str, Any]:
        return img2img_again(told, [OLD], fields.get("mask"))

    check(house.img2img, request, again)
