import asyncio
import base64
from typing import Any

import msgspec
import pytest

from compat.a1111 import wire
from compat.a1111.addresses import Addresses
from compat.a1111.controlnet.wire import DetectRequest
from compat.a1111.postprocess_wire import BatchExtras, SingleExtras
from compat.a1111.refusals import Refused
from compat.a1111.settings import A1111Settings
from server.core.errors import InvalidValue
from server.http.fetch import Fetcher

URL, OTHER = "https://example.com/a.png", "http://example.com/b.png"


class Web(Fetcher):
    """Answers each address with itself; what ends in `gone` is not there."""

    def __init__(self) -> None:
        super().__init__(allowed=True)
        self.asked: list[str] = []

    async def fetch(self, url: str, param: str) -> bytes:
        self.asked.append(url)
        if url.endswith("gone"):
            raise InvalidValue.of(param, "not there")
        return url.encode()


def file(url: str) -> str:
    return base64.b64encode(url.encode()).decode()


def fetched(request: msgspec.Struct, *, allowed: bool = True) -> Any:
    return asyncio.run(Addresses(A1111Settings(fetch_images=allowed), Web()).fetched(request))


@pytest.mark.parametrize(
    ("request_", "field", "found"),
    [
        (wire.Img2Img(init_images=[URL, "iVBO"], mask=OTHER), "init_images", [file(URL), "iVBO"]),
        (wire.Img2Img(init_images=[URL, "iVBO"], mask=OTHER), "mask", file(OTHER)),
        (wire.InterrogateRequest(image=URL), "image", file(URL)),
        (SingleExtras(image=URL), "image", file(URL)),
        (BatchExtras(imageList=[{"data": URL, "name": URL}]), "imageList", [{"data": file(URL), "name": URL}]),
        (DetectRequest(controlnet_input_images=[URL]), "controlnet_input_images", [file(URL)]),
        (
            wire.Txt2Img(alwayson_scripts={"ControlNet": {"args": [{"image": {"image": URL}, "model": URL}]}}),
            "alwayson_scripts",
            {"ControlNet": {"args": [{"image": {"image": file(URL)}, "model": URL}]}},
        ),
    ],
)
def test_pictures_stand_in_the_place_of_their_addresses(request_: msgspec.Struct, field: str, found: Any) -> None:
    assert getattr(fetched(request_), field) == found


def test_prompts_and_other_scripts_are_left_alone() -> None:
    request = wire.Txt2Img(prompt=URL, alwayson_scripts={"ADetailer": {"args": [{"image": URL}]}})
    assert fetched(request) is request


def test_without_leave_nothing_is_fetched() -> None:
    request = wire.Img2Img(init_images=[URL])
    assert fetched(request, allowed=False) is request


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://example.com/gone", "Invalid image url"),
        ("http://127.0.0.1/x.png", "Request to local resource not allowed"),
        ("HTTP://localhost/x.png", "Request to local resource not allowed"),
    ],
)
def test_refusals_are_in_the_originals_words(url: str, told: str) -> None:
    with pytest.raises(Refused) as caught:
        fetched(wire.Img2Img(init_images=[url]))
    assert caught.value.fact("detail") == told


def test_too_many() -> None:
    with pytest.raises(InvalidValue):
        fetched(wire.Img2Img(init_images=[f"{URL}?{n}" for n in range(200)]))
