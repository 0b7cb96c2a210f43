"""The answers to GET routes beside the original's recorded ones: keys and types, for the same tiny models."""

import json
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from compat import a1111
from server.core.models import ImageFacts, ModelKind
from tests.compat.a1111.asked import part
from tests.support.fake_service import FakeService
from tests.support.shared import SHARED, golden, needs_shared

GOLDEN = SHARED / "golden"

EQUAL = ("samplers", "schedulers", "latent-upscale-modes", "prompt-styles", "sd-vae", "hypernetworks", "extensions")
"""Routes whose answers are equal."""

SAME_SHAPE = ("sd-models", "loras", "progress", "embeddings")
"""Routes whose answers have the same keys and types throughout; paths and numbers differ."""

FEWER = {
    "upscalers": "only upscalers whose files are there",
    "face-restorers": "none until face restoration works",
    "realesrgan-models": "only models whose files are there",
}
"""Routes whose rows are those of the original or fewer, and why."""

EXTENSIONS = ("controlnet", "controlnet m2m")
"""Scripts that a stock installation has not."""

OTHER_CHOICES = ("sd upscale", "outpainting mk2")
"""Scripts one of whose arguments offers what is there; a sentence for people is our own."""

OUR_OWN = {"memory": ("models", "every loaded model, those for chat too")}
"""Routes whose answers have a key more than the original's, and what it tells."""


@pytest.fixture(scope="module")
def client() -> Any:
    checkpoint = part(
        "tiny.safetensors",
        ModelKind.CHECKPOINT,
        files=(str(GOLDEN / "models" / "Stable-diffusion" / "tiny.safetensors"),),
        sha256=golden("manifest.json")["checkpoint_sha256"],
        image=ImageFacts(context_width=64),
    )
    lora = part("tinylora1.safetensors", metadata={"ss_network_dim": "4"})
    embedding = part("tinyemb1.safetensors", ModelKind.EMBEDDING, metadata={"embedding.width": "64", "step": "10"})
    settings = a1111.A1111Settings(styles_files=(str(GOLDEN / "styles.csv"),))
    door = a1111.dialect(FakeService(checkpoint, lora, embedding), settings)
    with TestClient(Litestar([door.router], logging_config=None)) as found:
        yield found


def recorded(route: str) -> Any:
    return golden(f"a1111-get/get-{route}.json")["body"]


def shape(value: Any) -> Any:
    """Return keys and types; of a list its first row, of a mapping by name its first value."""
    match value:
        case dict() if set(value) & {"tinyemb1", "ss_network_dim"}:
            return {"<name>": shape(next(iter(value.values())))}
        case dict():
            return {key: shape(item) for key, item in value.items()}
        case list():
            return [shape(item) for item in value[:1]]
        case _:
            return type(value).__name__


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("route", EQUAL)
def test_equal_answers(client: Any, route: str) -> None:
    assert client.get(f"/sdapi/v1/{route}").json() == recorded(route)


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("route", SAME_SHAPE)
def test_answers_of_the_same_shape(client: Any, route: str) -> None:
    ours, theirs = shape(client.get(f"/sdapi/v1/{route}").json()), shape(recorded(route))
    if route == "embeddings":  # the first of the original's has never been trained: its step is null
        theirs["loaded"]["<name>"]["step"] = "int"
    assert ours == theirs


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("route", OUR_OWN)
def test_answers_with_a_key_of_our_own(client: Any, route: str) -> None:
    ours = client.get(f"/sdapi/v1/{route}").json()
    key, _ = OUR_OWN[route]
    assert isinstance(ours.pop(key), list)
    assert shape(ours) == shape(recorded(route))


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("route", FEWER)
def test_fewer_rows_each_as_the_originals(client: Any, route: str) -> None:
    ours, theirs = client.get(f"/sdapi/v1/{route}").json(), recorded(route)
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
    else:
        assert all(row in theirs for row in ours)


@needs_shared
@pytest.mark.golden
def test_scripts_are_some_of_the_originals_in_its_order(client: Any) -> None:
    ours, theirs = client.get("/sdapi/v1/scripts").json(), recorded("scripts")
    assert list(ours) == list(theirs)
    for route, titles in ours.items():
        stock = [title for title in titles if title not in EXTENSIONS]
        assert stock == [title for title in theirs[route] if title in stock]
        assert {"x/y/z plot", "prompt matrix", "prompts from file or textbox"} <= set(titles)


@needs_shared
@pytest.mark.golden
def test_rows_of_scripts_are_the_originals(client: Any) -> None:
    theirs = {(row["name"], row["is_img2img"]): row for row in recorded("script-info")}
    ours = client.get("/sdapi/v1/script-info").json()
    assert ours
    for row in ours:
        if row["name"] in EXTENSIONS:
            continue
        other = theirs[row["name"], row["is_img2img"]]
        if row["name"] not in OTHER_CHOICES:
            assert row == other
            continue
        for own, original in zip(row["args"], other["args"], strict=True):
            differ = {key for key in original if own[key] != original[key]}
            assert differ <= ({"choices"} if own["label"] else {"value"})


@needs_shared
@pytest.mark.golden
def test_options_are_the_originals(client: Any) -> None:
    ours, theirs = client.get("/sdapi/v1/options").json(), recorded("options")
    assert list(ours) == list(theirs)
    texts = ("profiling_explanation", "sd_vae_explanation", "infotext_explanation", "settings_in_ui")
    differ = {key for key in theirs if json.dumps(ours[key]) != json.dumps(theirs[key])}
    assert differ <= set(texts)


@needs_shared
@pytest.mark.golden
def test_recorded_mistakes_are_answered_in_the_same_words(client: Any) -> None:
    """Where the original answers 500, ours is 422 or 404; texts and shapes stay where the same check is made."""
    same = {"bad-script", "bad-alwayson-script", "bad-type-steps", "bad-type-list", "bad-hr-upscaler"}
    same |= {"options-bad-model", "png-info-empty", "png-info-no-text", "interrupt", "skip"}
    same -= {"bad-alwayson-script"}  # always-on scripts of extensions that are not here are ignored and named
    for case in golden("a1111-get/post-edge-cases.json"):
        if case["name"] not in same or str(case["request"]).count("chars)"):
            continue
        answer = client.post(case["route"], json=case["request"])
        assert answer.json() == case["response"], case["name"]
        assert answer.status_code == case["status"] or (case["status"] == 500 and answer.status_code in (404, 422))
