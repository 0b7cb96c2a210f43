import base64
import json
from typing import Any

import msgspec
import pytest

from compat.a1111.answer import Finished, all_seeds, infotexts
from compat.a1111.convert import Plan
from compat.a1111.extras import Hashes, clean
from compat.a1111.fingerprints import Fingerprints
from compat.a1111.networks import mentioned_embeddings
from compat.a1111.styles import StyleBook
from server.core.models import ImageFacts, ModelCard, ModelKind
from server.http.png import read_text
from tests.compat.a1111.asked import answer_of, context, part, planned
from tests.support.fake_images import ready, tiny_png
from tests.support.shared import SHARED, golden, needs_shared

GOLDEN = SHARED / "golden"
MODEL = part("tiny.safetensors", ModelKind.CHECKPOINT, sha256="bcb9e564dd" + "0" * 54)
UNHASHED = part("tiny.safetensors", ModelKind.CHECKPOINT)


def settings_line(card: ModelCard = MODEL, **fields: Any) -> str:
    finished = Finished(pictures=[ready(0)], card=card, timestamp="20260101000000", version="v1.10.1")
    return infotexts(planned(None, **fields), finished)[0].rsplit("\n", 1)[-1]


BASE = "Steps: 50, Sampler: Euler, Schedule type: Automatic, CFG scale: 7.0, Seed: 7, Size: 512x512"
TAIL = ", Model hash: bcb9e564dd, Model: tiny, "


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, BASE + TAIL + "Version: v1.10.1"),
        ({"subseed_strength": 0.5}, BASE + TAIL + "Variation seed: 7, Variation seed strength: 0.5, Version: v1.10.1"),
        ({"tiling": True}, BASE + TAIL + "Tiling: True, Version: v1.10.1"),
        ({"s_churn": 4}, BASE + TAIL + "Version: v1.10.1"),
        ({"override_settings": {"s_churn": 4.0}}, BASE + TAIL + "Sigma churn: 4.0, Version: v1.10.1"),
        ({"override_settings": {"emphasis": "Ignore"}}, BASE + TAIL + "Version: v1.10.1"),
        ({"override_settings": {"add_version_to_infotext": False}}, BASE + TAIL.removesuffix(", ")),
        ({"override_settings": {"add_model_hash_to_info": False}}, BASE + ", Model: tiny, Version: v1.10.1"),
        ({"override_settings": {"eta_noise_seed_delta": 5}}, BASE + TAIL + "Version: v1.10.1"),
        ({"eta": 0.5}, BASE + TAIL + "Version: v1.10.1"),
    ],
)
def test_the_settings_line(fields: dict[str, Any], line: str) -> None:
    assert settings_line(**fields) == line


def test_a_hash_that_is_not_known_is_left_out() -> None:
    assert settings_line(UNHASHED) == BASE + ", Model: tiny, Version: v1.10.1"


def test_ensd_is_told_for_samplers_that_use_it_with_noise() -> None:
    ensd = {"eta_noise_seed_delta": 5}
    assert "ENSD: 5" in settings_line(sampler_name="Euler a", override_settings=ensd)
    assert "ENSD" not in settings_line(sampler_name="Euler a", eta=0, override_settings=ensd)


def test_the_second_pass_is_told() -> None:
    line = settings_line(
        enable_hr=True,
        denoising_strength=0.5,
        hr_resize_x=768,
        hr_resize_y=700,
        hr_second_pass_steps=9,
        hr_sampler_name="DPM++ 2M",
        hr_prompt="other, words",
    )
    told = (
        'Denoising strength: 0.5, Hires sampler: DPM++ 2M, Hires prompt: "other, words", '
        "Hires schedule type: Karras, Hires resize: 768x700, Hires steps: 9, Version: v1.10.1"
    )
    assert line == BASE + TAIL + told


def test_seeds_count_up_and_variations_keep_the_seed() -> None:
    assert all_seeds(planned(None, seed=5, subseed=9, batch_size=2, n_iter=2)) == ([5, 6, 7, 8], [9, 10, 11, 12])
    assert all_seeds(planned(None, seed=5, subseed=9, batch_size=2, subseed_strength=0.1)) == ([5, 5], [9, 10])


def test_an_interrupted_job_tells_all_seeds_but_its_own_pictures() -> None:
    plan = planned(None, seed=5, n_iter=3)
    answer = answer_of(plan, Finished(pictures=[ready(0), ready(2)], card=MODEL, timestamp="t", version="v"))
    told = json.loads(answer.info)
    assert told["all_seeds"] == [5, 6, 7]
    assert ["Seed: 5" in told["infotexts"][0], "Seed: 7" in told["infotexts"][1]] == [True, True]
    assert len(answer.images) == len(told["infotexts"]) == 2


def test_pictures_carry_their_text() -> None:
    answer = answer_of(planned(None, prompt="日本"), Finished(pictures=[ready(0)], card=MODEL, timestamp="t"))
    png = base64.b64decode(answer.images[0])
    assert read_text(png)["parameters"] == json.loads(answer.info)["infotexts"][0]


def test_pictures_can_stay_silent_or_stay_here() -> None:
    finished = Finished(pictures=[ready(0)], card=MODEL, timestamp="t")
    quiet = answer_of(planned(None, override_settings={"enable_pnginfo": False}), finished)
    assert base64.b64decode(quiet.images[0]) == tiny_png()
    unsent = answer_of(planned(None, send_images=False), finished)
    assert unsent.images == []
    assert json.loads(unsent.info)["infotexts"]


def test_the_request_is_echoed_in_its_order_with_its_defaults() -> None:
    answer = answer_of(planned(None, steps="5", hr_scale="2"), Finished(pictures=[], card=MODEL, timestamp="t"))
    assert answer.parameters["steps"] == 5
    assert answer.parameters["seed"] == -1
    assert list(answer.parameters) == list(msgspec.to_builtins(planned().request))


def recorded_plan(case: dict[str, Any]) -> Plan:
    """Return the plan of a recorded request; what the original drew is drawn again."""
    given = context(
        styles=StyleBook([str(GOLDEN / "styles.csv")]).all(),
        loras=parts("models/Lora", ModelKind.LORA),
        embeddings=parts("embeddings", ModelKind.EMBEDDING),
        draw=lambda: case["info"]["subseed"],
    )
    return planned(given, **case["request"])


def parts(folder: str, kind: ModelKind) -> tuple[ModelCard, ...]:
    return tuple(part(path.name, kind, files=(str(path),)) for path in sorted((GOLDEN / folder).iterdir()))


def recorded_cases() -> list[Any]:
    if not GOLDEN.exists():
        return []
    cases = golden("manifest.json")["cases"]
    return [pytest.param(case, id=case["name"]) for case in cases if case["route"] == "/sdapi/v1/txt2img"]


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("case", recorded_cases())
def test_recorded_answers_are_equal_byte_for_byte(case: dict[str, Any]) -> None:
    plan = recorded_plan(case)
    prints = Fingerprints()
    used = [
        one for text in (plan.texts.prompt, plan.texts.negative) for one in mentioned_embeddings(text, plan.embeddings)
    ]
    finished = Finished(
        pictures=[ready(index) for index in range(len(case["images"]))],
        card=part("tiny.safetensors", ModelKind.CHECKPOINT, sha256=golden("manifest.json")["checkpoint_sha256"]),
        timestamp=case["info"]["job_timestamp"],
        version="v1.10.1",
        hashes=Hashes(
            loras=tuple((clean(one), prints.of(one.card) or "") for one in plan.loras),
            embeddings=tuple((clean(one), prints.of(one.card) or "") for one in used),
        ),
        padded=plan.work.text.pad_uncond,
    )
    answer = answer_of(plan, finished)
    assert answer.info == json.dumps(case["info"])
    assert [read_text(base64.b64decode(png))["parameters"] for png in answer.images] == [
        image["infotext"] for image in case["images"]
    ]
    seeds = plan.work.seeds
    assert (seeds.first, seeds.variation) == (case["info"]["all_seeds"][0], case["info"]["all_subseeds"][0])


@needs_shared
@pytest.mark.golden
def test_the_recorded_whole_answer() -> None:
    recording = golden("a1111-get/post-txt2img-whole-response.json")["body"]
    told = json.loads(recording["response"]["info"])
    plan = planned(context(draw=lambda: told["subseed"]), **recording["request"])
    card = part("tiny.safetensors", ModelKind.CHECKPOINT, sha256=golden("manifest.json")["checkpoint_sha256"])
    finished = Finished(pictures=[ready(0), ready(1)], card=card, timestamp=told["job_timestamp"], version="v1.10.1")
    answer = answer_of(plan, finished)
    assert answer.info == recording["response"]["info"]
    assert json.dumps(answer.parameters) == json.dumps(recording["response"]["parameters"])


def test_the_vae_is_told() -> None:
    given = context(vaes=(part("sub/good.vae.pt", ModelKind.VAE),))
    plan = planned(given, override_settings={"sd_vae": "good.vae.pt"})
    finished = Finished(pictures=[ready(0)], card=MODEL, timestamp="2", hashes=Hashes(vae="0123456789"))
    answer = answer_of(plan, finished)
    told = json.loads(answer.info)
    assert "Model: tiny, VAE hash: 0123456789, VAE: good.vae.pt" in told["infotexts"][0]
    assert (told["sd_vae_name"], told["sd_vae_hash"]) == ("good.vae.pt", "0123456789")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"cfg_scale": 3.5}, "CFG scale: 1.0, Distilled CFG Scale: 3.5, Seed: 7"),
        ({"cfg_scale": 2.0, "distilled_cfg_scale": 3.5}, "CFG scale: 2.0, Distilled CFG Scale: 3.5, Seed: 7"),
    ],
)
def test_guidance_of_a_model_that_follows_a_number_is_told_as_it_acted(fields: dict[str, Any], line: str) -> None:
    flux = msgspec.structs.replace(MODEL, image=ImageFacts(family="flux", distilled=True))
    assert line in settings_line(flux, **fields)
    assert "Distilled" not in settings_line(**fields)
