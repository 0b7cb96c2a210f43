"""Model families on real torch: tiny checkpoints against the models and pipelines of diffusers and transformers.

No recordings of these families exist. Each tiny checkpoint is read twice: by the engine, and by diffusers' own
converters into models that are written down by hand.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

from server.core.errors import LoadFailed
from server.core.image import Denoise, HiresPass, ImageRequest, InitImages, Seeds, Size, TextEncoding
from server.core.models import ImageSettings
from server.core.prompt import plain
from server.engines.image.chunks import no_embeddings
from server.engines.image.conditioning import Conditioning, TextPass, encode
from server.engines.image.denoisers import Condition
from server.engines.image.diffusion import DiffusionEngine, DiffusionLoader
from server.engines.image.embeddings import Embedding, EmbeddingIndex
from server.engines.image.loaded import Checkpoint
from server.engines.image.offload import Seats
from server.engines.image.pictures import png
from server.engines.image.seeds import NoiseSource
from server.engines.image.unet_call import UNetCall
from tests.support import reference_models as reference
from tests.support.diffusers_folder import INDEX, write_tiny_folder
from tests.support.golden_images import card_of, difference, pictures
from tests.support.reference_models import CAT, A, Text
from tests.support.tiny_checkpoint import KINDS, TEXT, tiny_tensors, write_tiny_checkpoint
from tests.support.towers import CPU, load_tiny, stack_of

pytestmark = pytest.mark.torch

SETTINGS = ImageSettings(device="cpu", dtype="float32", threads=1)
STEPS = 4
"""So many that the times of a uniform schedule are whole numbers (999, 666, 333, 0) and diffusers' Euler agrees."""

SIZE = Size(96, 64)
"""Divisible by 32: where a size does not halve evenly, the engine follows A1111 and not diffusers."""


@dataclass(frozen=True)
class Loaded:
    """One family: its tensors, and the checkpoint as the engine loads it."""

    family: str
    tensors: dict[str, torch.Tensor]
    checkpoint: Checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture(scope="module", params=list(KINDS))
def loaded(request: pytest.FixtureRequest, folder: Path) -> Loaded:
    path = write_tiny_checkpoint(folder / f"{request.param}.safetensors", half=False, family=request.param)
    return Loaded(request.param, tiny_tensors(half=False, family=request.param), load_tiny(path))


def engine_of(path: Path, **settings: Any) -> DiffusionEngine:
    return DiffusionLoader().load(card_of(path), msgspec.structs.replace(SETTINGS, **settings), lambda fraction: None)


@pytest.fixture(scope="module")
def engines(folder: Path) -> Iterator[Callable[[str], DiffusionEngine]]:
    """Engines by family, each loaded once."""

    @cache
    def of(family: str) -> DiffusionEngine:
        engine = engine_of(write_tiny_checkpoint(folder / f"of_{family}.safetensors", half=False, family=family))
        loaded.callback(engine.close)
        return engine

    with ExitStack() as loaded:
        yield of


@pytest.fixture
def engine(engines: Callable[[str], DiffusionEngine], request: pytest.FixtureRequest) -> DiffusionEngine:
    """The engine of the family that the test names."""
    return engines(request.param)


def asked(text: str = "a cat", /, **fields: Any) -> ImageRequest:
    base = ImageRequest(
        model="tiny",
        prompt=plain(text),
        negative=plain(""),
        size=SIZE,
        seeds=Seeds(first=7, source="cpu"),
        denoise=Denoise(steps=STEPS),
    )
    return msgspec.structs.replace(base, **fields)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TestUnets:
    def test_the_network_is_diffusers_own_with_the_same_weights(self, loaded: Loaded) -> None:
        kind, found = KINDS[loaded.family], loaded.checkpoint
        x, t = random(2, 4, 8, 12), torch.tensor([700.0, 12.5])
        text, pooled = random(2, 77, kind.context, seed=1), random(2, max(kind.vector - 256 * kind.sizes, 1), seed=2)
        sizes = torch.tensor([[64.0, 96.0, 0.0, 8.0, 64.0, 96.0], [96.0, 64.0, 4.0, 0.0, 6.0, 2.5]])[:, : kind.sizes]
        seen = random(2, kind.inputs - 4, 8, 12, seed=3)
        condition = Condition(
            text, torch.cat([pooled, sizes], 1) if kind.sizes else None, seen if kind.inputs > 4 else None
        )
        ours = UNetCall(found.unet, found.family, torch.float32, Seats(CPU, "none"))(x, t, condition)
        added = {"text_embeds": pooled, "time_ids": sizes} if kind.sizes else None
        theirs = reference.unet(loaded.tensors, loaded.family)(
            torch.cat([x, seen], 1), t, text, added_cond_kwargs=added
        ).sample
        assert (ours - theirs).abs().max() < 1e-5

    def test_the_vae_is_diffusers_own_with_the_same_weights(self, loaded: Loaded) -> None:
        latent = random(1, 4, 3, 5)
        with torch.no_grad():
            ours = loaded.checkpoint.vae.decode(latent).sample
        assert torch.equal(ours, reference.vae(loaded.tensors).decode(latent).sample)

    def test_every_tensor_has_its_original_name(self, loaded: Loaded) -> None:
        """LoRA files name layers of SDXL as single files do."""
        names = {name.removeprefix("model.diffusion_model.") for name in loaded.tensors if "diffusion_model" in name}
        assert set(loaded.checkpoint.unet_names) == names
        assert set(loaded.checkpoint.unet_names.values()) == set(loaded.checkpoint.unet.state_dict())


def encoded(found: Checkpoint, prompt: str, negative: str = "", **settings: Any) -> Conditioning:
    stack = stack_of(found)
    asked = TextPass(stack=stack, settings=TextEncoding(**settings), find=no_embeddings, size=SIZE)
    return encode(plain(prompt), plain(negative), asked)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() < 1e-5)


@pytest.fixture(scope="module")
def xl(folder: Path) -> Loaded:
    path = write_tiny_checkpoint(folder / "xl.safetensors", half=False, family="sdxl")
    return Loaded("sdxl", tiny_tensors(half=False, family="sdxl"), load_tiny(path))


def first_of(tensors: dict[str, torch.Tensor]) -> Text:
    return reference.clip_l(tensors, "conditioner.embedders.0.transformer.")


def second_of(tensors: dict[str, torch.Tensor], place: int = 1) -> Text:
    return reference.open_clip(tensors, f"conditioner.embedders.{place}.model.", pooled=True)


class TestTexts:
    def test_sd2_takes_the_last_layer_but_one_and_norms_it(self, folder: Path) -> None:
        path = write_tiny_checkpoint(folder / "two.safetensors", half=False, family="sd2")
        text = reference.open_clip(tiny_tensors(half=False, family="sd2"), "cond_stage_model.model.", pooled=False)
        found = encoded(load_tiny(path), "a cat", clip_skip=2).at(0)
        normed = text.model.get_submodule("final_layer_norm")
        assert close(found.parts[0], normed(text.states(A, CAT)[0][-2])[0])
        assert close(found.negative, normed(text.states()[0][-2])[0])
        assert found.vectors is None

    def test_sdxl_takes_both_encoders_side_by_side_without_norm(self, xl: Loaded) -> None:
        found = encoded(xl.checkpoint, "a cat", "cat").at(0)
        small, large = first_of(xl.tensors), second_of(xl.tensors)
        for ours, words in ((found.parts[0], (A, CAT)), (found.negative, (CAT,))):
            assert close(ours[:, :TEXT], small.states(*words)[0][-2][0])
            assert close(ours[:, TEXT:], large.states(*words)[0][-2][0])

    def test_sdxl_adds_the_pooled_text_and_sizes(self, xl: Loaded) -> None:
        found = encoded(xl.checkpoint, "a cat", "cat", crop_top=3, crop_left=5).at(0)
        large = second_of(xl.tensors)
        numbers = torch.tensor([64.0, 96.0, 3.0, 5.0, 64.0, 96.0])
        for vector, words in ((found.vectors, (A, CAT)), (found.negative_vector, (CAT,))):
            assert vector is not None
            pooled = large.states(*words)[2]
            assert pooled is not None
            assert close(vector.flatten(), torch.cat([pooled[0], numbers]))

    def test_an_empty_negative_prompt_of_sdxl_is_zeros(self, xl: Loaded) -> None:
        found = encoded(xl.checkpoint, "", "").at(0)
        assert not found.negative.any()
        assert found.negative_vector is not None
        assert not found.negative_vector[:-6].any()
        assert found.negative_vector[-6:].tolist() == [64.0, 96.0, 0.0, 0.0, 64.0, 96.0]
        assert found.parts.any()
        assert encoded(xl.checkpoint, "", " ").at(0).negative.any()

    def test_the_filler_of_sdxl_is_an_encoded_empty_prompt(self, xl: Loaded) -> None:
        found = encoded(xl.checkpoint, "", "", pad_uncond=True)
        assert found.filler is not None
        assert close(found.filler, found.at(0).parts[0])

    def test_the_refiner_is_told_scores(self, folder: Path) -> None:
        path = write_tiny_checkpoint(folder / "refiner.safetensors", half=False, family="sdxl-refiner")
        found = encoded(load_tiny(path), "a cat", "cat", aesthetic=7.0, negative_aesthetic=1.5).at(0)
        large = second_of(tiny_tensors(half=False, family="sdxl-refiner"), place=0)
        for vector, words, score in ((found.vectors, (A, CAT), 7.0), (found.negative_vector, (CAT,), 1.5)):
            assert vector is not None
            pooled = large.states(*words)[2]
            assert pooled is not None
            assert close(vector.flatten(), torch.cat([pooled[0], torch.tensor([64.0, 96.0, 0.0, 0.0, score])]))
        assert close(found.parts[0], large.states(A, CAT)[0][-2][0])

    @pytest.mark.parametrize(("skip", "state"), [(1, -1), (2, -2), (3, -3)])
    def test_clip_skip_counts_for_the_first_encoder_of_sdxl_when_asked(self, xl: Loaded, skip: int, state: int) -> None:
        found = encoded(xl.checkpoint, "a cat", clip_skip=skip, clip_skip_first=True).at(0).parts[0]
        assert close(found[:, :TEXT], first_of(xl.tensors).states(A, CAT)[0][state][0])
        assert close(found[:, TEXT:], second_of(xl.tensors).states(A, CAT)[0][-2][0])
        plain_ = encoded(xl.checkpoint, "a cat", clip_skip=skip).at(0).parts[0]
        assert close(plain_[:, :TEXT], first_of(xl.tensors).states(A, CAT)[0][-2][0])

    def test_an_embedding_of_both_encoders_stands_for_its_tokens(self, xl: Loaded) -> None:
        def vectors(number: int) -> torch.Tensor:
            table = xl.checkpoint.texts[number].bare.get_submodule("embeddings.token_embedding")
            return table.get_parameter("weight")[[A, CAT]].clone()

        stack = stack_of(xl.checkpoint)
        ids = tuple(stack.tokenizer.ids("zqx"))
        named = Embedding("zqx", ids, (vectors(0), vectors(1)))
        stack.use([named])
        found = EmbeddingIndex([named]).find
        asked = TextPass(stack=stack, settings=TextEncoding(), find=found, size=SIZE)
        ours, plain_ = encode(plain("zqx"), plain(""), asked).at(0), encoded(xl.checkpoint, "a cat").at(0)
        assert close(ours.parts, plain_.parts)
        assert ours.vectors is not None
        assert plain_.vectors is not None
        assert close(ours.vectors, plain_.vectors)

    def test_only_the_first_chunk_is_pooled_and_weights_do_not_reach_it(self, xl: Loaded) -> None:
        short, long = (encoded(xl.checkpoint, text).at(0) for text in ("a " * 75, "a " * 75 + "cat"))
        assert short.vectors is not None
        assert long.vectors is not None
        assert torch.equal(short.vectors, long.vectors)
        assert long.parts.shape == (1, 154, 2 * TEXT)


def noise(size: Size) -> torch.Tensor:
    shape = (4, size.height // 8, size.width // 8)
    return NoiseSource(asked().seeds, range(1), shape).first()


def of_pipeline(kind: Any, parts: dict[str, Any], **inputs: Any) -> np.ndarray:
    """Return the picture that a pipeline of diffusers makes with Euler, cut off to 8 bits as A1111 does."""
    prediction = inputs.pop("prediction", "epsilon")
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="linspace",
        steps_offset=1,
        prediction_type=prediction,
    )
    pipeline = kind(scheduler=scheduler, **parts)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        num_inference_steps=STEPS,
        guidance_scale=7.0,
        height=SIZE.height,
        width=SIZE.width,
        latents=noise(SIZE),
        output_type="np",
        **inputs,
    ).images[0]
    return (made * 255).astype(np.uint8)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler under NumPy 2
class TestPictures:
    @pytest.mark.parametrize(
        ("engine", "prediction"), [("sd2", "epsilon"), ("sd2-v", "v_prediction")], indirect=["engine"]
    )
    def test_sd2_makes_the_picture_of_diffusers(self, engine: DiffusionEngine, prediction: str) -> None:
        """What the network predicts is told by nobody: the engine asks it, as A1111 does."""
        family = "sd2" if prediction == "epsilon" else "sd2-v"
        tensors = tiny_tensors(half=False, family=family)
        text = reference.open_clip(tensors, "cond_stage_model.model.", pooled=False)
        normed = text.model.get_submodule("final_layer_norm")
        parts = {"unet": reference.unet(tensors, family), "vae": reference.vae(tensors)}
        parts |= dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
        theirs = of_pipeline(
            StableDiffusionPipeline,
            {**parts, "requires_safety_checker": False},
            prediction=prediction,
            prompt_embeds=normed(text.states(A, CAT)[0][-2]),
            negative_prompt_embeds=normed(text.states()[0][-2]),
        )
        gap = difference(pictures(engine, asked())[0], theirs)
        assert gap.largest <= 1
        assert theirs.std() > 8

    @pytest.mark.parametrize("engine", ["sdxl"], indirect=True)
    def test_sdxl_makes_the_picture_of_diffusers(self, engine: DiffusionEngine, xl: Loaded) -> None:
        small, large = first_of(xl.tensors), second_of(xl.tensors)
        states, _, pooled = large.states(A, CAT)
        prompt = torch.cat([small.states(A, CAT)[0][-2], states[-2]], -1)
        assert pooled is not None
        parts = {"unet": reference.unet(xl.tensors, "sdxl"), "vae": reference.vae(xl.tensors)}
        parts["vae"].register_to_config(scaling_factor=0.13025, force_upcast=False)
        parts |= dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
        theirs = of_pipeline(
            StableDiffusionXLPipeline,
            {**parts, "add_watermarker": False},
            prompt_embeds=prompt,
            pooled_prompt_embeds=pooled,
            negative_prompt_embeds=torch.zeros_like(prompt),
            negative_pooled_prompt_embeds=torch.zeros_like(pooled),
        )
        gap = difference(pictures(engine, asked())[0], theirs)
        assert gap.largest <= 1
        assert theirs.std() > 8

    @pytest.mark.parametrize("engine", list(KINDS), indirect=True)
    def test_every_family_makes_pictures_from_pictures(self, engine: DiffusionEngine) -> None:
        (base,) = pictures(engine, asked(size=Size(32, 32), init=begun()))
        (other,) = pictures(engine, asked("a red dog", size=Size(32, 32), init=begun()))
        assert difference(base, other).largest > 0

    @pytest.mark.parametrize("engine", [name for name in KINDS if "pix2pix" not in name], indirect=True)
    def test_every_other_family_makes_pictures_from_nothing(self, engine: DiffusionEngine) -> None:
        hires = HiresPass(
            size=Size(40, 40),
            scale_to=Size(40, 40),
            upscaler="latent",
            strength=0.6,
            denoise=Denoise(steps=2),
            prompt=plain("a cat"),
            negative=plain(""),
        )
        made = pictures(engine, asked(size=Size(32, 32), batch_size=2, hires=hires))
        assert [picture.shape for picture in made] == [(40, 40, 3)] * 2
        assert difference(*made).largest > 0

    @pytest.mark.parametrize("engine", ["sdxl"], indirect=True)
    @pytest.mark.parametrize(
        "other", [{"crop_left": 512}, {"clip_skip": 1, "clip_skip_first": True}, {"crop_top": 100}]
    )
    def test_what_sdxl_is_told_matters(self, engine: DiffusionEngine, other: dict[str, Any]) -> None:
        base, changed = (pictures(engine, asked(text=TextEncoding(**fields)))[0] for fields in ({}, other))
        assert difference(base, changed).largest > 0


def begun() -> InitImages:
    from PIL import Image

    return InitImages(images=(png(Image.new("RGB", (32, 32), "teal")),), strength=0.7)


@pytest.fixture(scope="module")
def published(folder: Path) -> Path:
    """A whole folder, for tests that take something out of a copy."""
    return write_tiny_folder(folder / "published", "sd1").parent


class TestFolders:
    @pytest.mark.parametrize("family", ["sd1", "sd2", "sd2-v", "sdxl", "sdxl-refiner", "inpaint", "sdxl-pix2pix"])
    def test_a_folder_is_the_same_model_as_the_file(self, family: str, tmp_path: Path) -> None:
        single = load_tiny(write_tiny_checkpoint(tmp_path / "x.safetensors", half=False, family=family))
        index = write_tiny_folder(tmp_path / "folder", family)
        found = load_tiny(index)
        assert found.family is single.family
        assert found.unet_names == single.unet_names
        assert (found.latent_scale, found.picture_inputs) == (single.latent_scale, single.picture_inputs)
        assert torch.allclose(found.alphas_cumprod, single.alphas_cumprod)
        for ours, theirs in zip(found.modules(), single.modules(), strict=True):
            wanted = theirs.state_dict()
            assert all(torch.equal(tensor, wanted[name]) for name, tensor in ours.state_dict().items())
        one, other = (encoded(each, "a cat", "cat").at(3) for each in (found, single))
        assert close(one.parts, other.parts)
        assert close(one.negative, other.negative)

    def test_a_folder_says_what_its_network_predicts(self, tmp_path: Path) -> None:
        assert load_tiny(write_tiny_folder(tmp_path / "v", "sd2-v")).prediction == "v"
        assert load_tiny(write_tiny_folder(tmp_path / "eps", "sd2")).prediction == "eps"

    def test_a_folder_makes_the_picture_of_the_file(self, tmp_path: Path) -> None:
        path = write_tiny_checkpoint(tmp_path / "x.safetensors", half=False, family="sdxl")
        made = []
        for source in (path, write_tiny_folder(tmp_path / "folder", "sdxl")):
            engine = engine_of(source)
            made += pictures(engine, asked())
            engine.close()
        assert difference(*made).largest == 0

    @pytest.mark.parametrize(
        ("gone", "sentence"),
        [
            ("vae/diffusion_pytorch_model.safetensors", "lacks vae/diffusion_pytorch_model"),
            ("unet/config.json", "lacks unet/config.json"),
            ("text_encoder/model.safetensors", "lacks text_encoder/model"),
            ("scheduler/scheduler_config.json", "lacks scheduler/scheduler_config.json"),
        ],
    )
    def test_what_a_folder_lacks_is_named(self, published: Path, tmp_path: Path, gone: str, sentence: str) -> None:
        copy = Path(shutil.copytree(published, tmp_path / "folder"))
        (copy / gone).unlink()
        with pytest.raises(LoadFailed, match=sentence):
            load_tiny(copy / INDEX)
