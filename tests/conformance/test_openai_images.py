"""The real `openai` package makes pictures on a running server with real torch."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image, ImageChops, ImageStat

from tests.support.running import Running
from tests.support.tiny_models import needs_torch
from tests.support.waiting import until

pytestmark = [pytest.mark.torch, needs_torch]

SIDE = 64
SMALL: Any = {"size": f"{SIDE}x{SIDE}", "quality": "low"}
REPEATABLE = {"seed": 7, "steps": 4}


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    transport = httpx.Client(trust_env=False, timeout=120)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", http_client=transport, max_retries=0) as client:
        yield client


def opened(encoded: str | None) -> Image.Image:
    assert encoded is not None
    image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
    image.load()
    return image


def pictures(made: openai.types.ImagesResponse) -> list[Image.Image]:
    assert made.data is not None
    return [opened(one.b64_json) for one in made.data]


def a_photo(width: int = SIDE, height: int = SIDE) -> Image.Image:
    red, green = Image.linear_gradient("L").resize((width, height)), Image.radial_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, green, red.transpose(Image.Transpose.ROTATE_180).resize((width, height))))


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def test_pictures_of_a_prompt(client: openai.OpenAI) -> None:
    made = client.images.generate(model="paint", prompt="a boat", n=2, **SMALL, extra_body=REPEATABLE)
    first, second = pictures(made)
    assert first.size == second.size == (SIDE, SIDE)
    assert first.tobytes() != second.tobytes()
    assert made.size == f"{SIDE}x{SIDE}"
    facts = json.loads(second.info["Comment"])
    assert (facts["model"], facts["seed"], facts["steps"]) == ("paint", 8, 4)
    again = client.images.generate(model="paint", prompt="a boat", **SMALL, extra_body=REPEATABLE | {"seed": 8})
    assert pictures(again)[0].tobytes() == second.tobytes()


def test_hosted_names_and_models_of_ours(client: openai.OpenAI) -> None:
    def paint(model: str) -> bytes:
        return pictures(client.images.generate(model=model, prompt="x", **SMALL, extra_body=REPEATABLE))[0].tobytes()

    one, other = paint("sketch"), paint("paint")
    assert one != other
    assert paint("gpt-image-1") == other, "the loaded one that was used last"
    with pytest.raises(openai.NotFoundError):
        paint("pain")


def test_every_sampler_and_schedule_that_we_fall_back_on_is_there(client: openai.OpenAI) -> None:
    from compat.openai.images.recipes import CONSISTENCY, DISTILLED, PLAIN

    for recipe in (PLAIN, DISTILLED, CONSISTENCY):
        extra = {"sampler": recipe.sampler, "schedule": recipe.schedule, "steps": 2, "cfg_scale": recipe.cfg_scale}
        assert pictures(client.images.generate(prompt="x", **SMALL, extra_body=extra))
    for extra in ({"sampler": "brush"}, {"schedule": "brush"}):
        with pytest.raises(openai.BadRequestError) as caught:
            client.images.generate(prompt="x", **SMALL, extra_body=extra)
        assert caught.value.param in extra


def test_a_stream_shows_the_picture_as_it_comes(client: openai.OpenAI) -> None:
    asked: Any = {"model": "paint", "prompt": "a boat", **SMALL, "extra_body": REPEATABLE | {"steps": 8}}
    events = list(client.images.generate(**asked, stream=True, partial_images=2))
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    looks = [opened(event.b64_json) for event in events]
    assert looks[0].tobytes() != looks[1].tobytes()
    assert looks[2].tobytes() == pictures(client.images.generate(**asked))[0].tobytes()


@pytest.mark.parametrize(("kind", "name"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_other_formats(server: Running, client: openai.OpenAI, kind: Any, name: str) -> None:
    asked: Any = {"model": "paint", "prompt": "a boat", **SMALL, "extra_body": REPEATABLE}
    sharp = client.images.generate(**asked, output_format=kind)
    rough = client.images.generate(**asked, output_format=kind, output_compression=1)
    (exact,) = pictures(client.images.generate(**asked))
    images = [*pictures(sharp), *pictures(rough)]
    assert [image.format for image in images] == [name] * 2 and (sharp.output_format, sharp.background) == (
        kind,
        "opaque",
    )
    losses = [sum(ImageStat.Stat(ImageChops.difference(image, exact)).mean) for image in images]
    assert losses[0] < losses[1]
    (done,) = client.images.generate(**asked, output_format=kind, stream=True)
    assert done.type == "image_generation.completed" and done.output_format == kind
    assert opened(done.b64_json).tobytes() == images[0].tobytes()
    made = client.images.generate(**asked, output_format=kind, response_format="url")
    assert made.data is not None and made.data[0].url is not None
    with server.client() as stranger:
        got = stranger.get(made.data[0].url)
    assert got.headers["content-type"] == f"image/{kind}"
    assert opened(base64.b64encode(got.content).decode()).tobytes() == images[0].tobytes()


def test_a_url_leads_to_the_picture(server: Running, client: openai.OpenAI) -> None:
    made = client.images.generate(prompt="a boat", response_format="url", **SMALL)
    assert made.data is not None and made.data[0].url is not None
    with server.client() as stranger:
        got = stranger.get(made.data[0].url)
        assert (got.status_code, got.headers["content-type"]) == (200, "image/png")
        assert got.headers["x-content-type-options"] == "nosniff"
        assert Image.open(io.BytesIO(got.content)).size == (SIDE, SIDE)
        assert stranger.get(made.data[0].url[:-1] + "x").status_code == 404
        assert stranger.options("/v1/images/generations").is_success


def test_an_edit_keeps_what_the_mask_keeps(client: openai.OpenAI) -> None:
    photo = a_photo()
    mask = Image.new("RGBA", photo.size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (40, 0, SIDE, SIDE))
    made = client.images.edit(
        model="paint",
        image=("photo.png", file_of(photo)),
        mask=("mask.png", file_of(mask)),
        prompt="a hat",
        **SMALL,
        extra_body=REPEATABLE,
    )
    (image,) = pictures(made)
    changed = ImageChops.difference(image, photo)
    assert image.size == photo.size
    kept, anew = changed.crop((0, 0, 20, SIDE)), changed.crop((50, 0, SIDE, SIDE))
    assert max(high for _, high in kept.getextrema()) <= 1, "far from the hole nothing changes"
    assert max(high for _, high in anew.getextrema()) > 20


def test_strength_is_how_far_an_edit_goes(client: openai.OpenAI) -> None:
    photo = file_of(a_photo())

    def edited(strength: float) -> bytes:
        extra = REPEATABLE | {"steps": 8, "strength": strength}
        made = client.images.edit(image=("p.png", photo), prompt="a hat", **SMALL, extra_body=extra)
        return pictures(made)[0].tobytes()

    assert len({edited(0.25), edited(0.5), edited(1.0)}) == 3


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_variations_of_a_jpeg(client: openai.OpenAI) -> None:
    photo = file_of(a_photo(120, 40), "JPEG")
    size: Any = "192x64"
    made = client.images.create_variation(image=("p.jpg", photo), n=2, size=size, extra_body={"steps": 4})
    first, second = pictures(made)
    assert first.size == second.size == (192, 64)
    assert first.tobytes() != second.tobytes()


def test_files_that_are_no_pictures(server: Running, client: openai.OpenAI) -> None:
    whole = file_of(a_photo())
    for data in (b"<svg/>", whole[:200], whole[:40] + bytes(len(whole) - 40), b""):
        with pytest.raises(openai.BadRequestError) as caught:
            client.images.edit(image=("p.png", data), prompt="x", **SMALL)
        assert caught.value.param == "image", data[:10]
    assert pictures(client.images.generate(prompt="still alive", **SMALL))
    assert [job["state"] for job in server.jobs()].count("running") == 0


def test_a_client_that_leaves_stops_its_picture(server: Running, client: openai.OpenAI) -> None:
    stream = client.images.generate(
        prompt="on and on",
        size="128x128",
        stream=True,
        partial_images=3,
        extra_body={"steps": 400},  # type: ignore[arg-type]
    )
    assert next(iter(stream)).type == "image_generation.partial_image"
    (job,) = server.jobs("running")
    assert (job["kind"], job["steps"]) == ("image", 400)
    stream.close()
    until(lambda: not server.jobs("running"))
    assert server.jobs()[0]["state"] == "cancelled"
