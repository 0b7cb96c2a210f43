import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from compat.openai.images.answer import Collected, Making, as_base64, as_urls, collect, signed
from compat.openai.images.convert import Given, to_core
from compat.openai.images.look import look
from server.core.errors import Cancelled, ProtocolError
from server.core.image import FileFormat, ImageFinished, ImageStarted
from server.core.jobs import Event, Loading, Waiting
from server.core.text import TextDelta
from server.http.picture_files import comment_of, kind_of
from server.http.png import read_text
from tests.compat.openai.images.sent import asked, card, edited, picture
from tests.support.fake_images import pictures, ready


def making(**fields: Any) -> Making:
    return Making(work=to_core(asked(**fields), card(), 5), effort="high", created=77)


def read(events: Sequence[Event]) -> Collected:
    async def given() -> AsyncIterator[Event]:
        for event in events:
            yield event

    return asyncio.run(collect(given()))


def test_pictures_are_collected() -> None:
    got = read([Waiting(position=0), Loading(model="m"), *pictures(2)])
    assert [each.index for each in got.pictures] == [0, 1]
    assert got.ignored == ()
    ended = read([ready(), ImageFinished(reason="complete", ignored=("sampler",))])
    assert ended.ignored == ("sampler",)


def test_a_stopped_job_hands_over_what_is_there() -> None:
    stopped = read([ImageStarted(passes=3, steps=2), ready(), ImageFinished(reason="stopped")])
    assert len(stopped.pictures) == 1
    with pytest.raises(Cancelled):
        read([ImageStarted(passes=3, steps=2), ImageFinished(reason="stopped")])
    with pytest.raises(Cancelled):
        read([])


def test_words_are_no_pictures() -> None:
    with pytest.raises(ProtocolError):
        read([TextDelta(choice=0, text="x")])


def test_an_answer_with_its_pictures() -> None:
    made = making()
    body = json.loads(as_base64(made, [ready(0), ready(1)]))
    assert {name: body[name] for name in ("created", "background", "output_format", "quality", "size")} == {
        "created": 77, "background": "opaque", "output_format": "png", "quality": "high", "size": "1x1",
    }  # fmt: skip
    assert [base64.b64decode(one["b64_json"], validate=True) for one in body["data"]] == [
        signed(made, ready(0)), signed(made, ready(1)),
    ]  # fmt: skip
    assert all(set(one) == {"b64_json"} for one in body["data"])
    assert body["usage"]["total_tokens"] == 0


def test_an_answer_with_urls() -> None:
    kept: list[bytes] = []

    def keep(png: bytes) -> str:
        kept.append(png)
        return f"http://hearth/{len(kept)}"

    made = making()
    body = json.loads(as_urls(made, [ready(0), ready(1)], keep))
    assert body["data"] == [{"url": "http://hearth/1"}, {"url": "http://hearth/2"}]
    assert kept == [signed(made, ready(0)), signed(made, ready(1))]


def test_a_picture_says_how_it_was_made() -> None:
    texts = read_text(signed(making(prompt="a çat 猫", negative_prompt="fog"), ready(seed=8)))
    assert (texts["Description"], texts["Software"]) == ("a çat 猫", "Hearth")
    assert json.loads(texts["Comment"]) == {
        "model": "paint", "negative_prompt": "fog", "seed": 8, "steps": 20, "cfg_scale": 7.0,
        "sampler": "dpmpp_2m", "schedule": "karras", "size": "1x1",
    }  # fmt: skip
    image = picture()
    work = to_core(edited(strength=0.3), card(), 5, Given(image=image, seen=look(image, "image")))
    texts = read_text(signed(Making(work=work, effort="low", created=1), ready()))
    assert json.loads(texts["Comment"])["strength"] == 0.3


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_other_formats_say_it_too(kind: Any) -> None:
    made = making(prompt="a çat 猫", output_format=kind)
    picture = ready(seed=8, form=FileFormat(kind=kind))
    body = json.loads(as_base64(made, [picture]))
    file = base64.b64decode(body["data"][0]["b64_json"])
    assert (body["output_format"], kind_of(file)) == (kind, kind)
    told = json.loads(comment_of(file))
    assert (told["prompt"], told["seed"], told["software"]) == ("a çat 猫", 8, "Hearth")
