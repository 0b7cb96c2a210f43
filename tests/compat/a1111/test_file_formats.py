import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from compat.a1111.file_formats import Form, extension_of, form_of, groups
from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from server.core.errors import WorkerDied
from server.core.image import FileFormat, ImageFinished, ImageStarted
from server.core.jobs import CancelMode
from server.core.pixels import BUILT_IN, GridRequest, UpscaleRequest
from server.http.picture_files import comment_of, kind_of
from server.http.png import read_text
from tests.compat.a1111.test_routes import API, House, run
from tests.support.fake_images import pictures, ready, tiny_png

JPEG_33 = FileFormat(kind="jpeg", quality=33)
LOSSLESS = FileFormat(kind="webp", lossless=True)


def form(**options: Any) -> Form:
    return form_of(OptionValues(options))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Form()),
        ({"samples_format": "PNG"}, Form()),
        ({"samples_format": "jpg"}, Form(extension="jpg", file=FileFormat(kind="jpeg", quality=80))),
        ({"samples_format": "jpeg", "jpeg_quality": 33.0}, Form(extension="jpeg", file=JPEG_33)),
        ({"samples_format": "webp", "jpeg_quality": 999}, Form(extension="webp", file=FileFormat(kind="webp"))),
        ({"samples_format": "webp", "webp_lossless": True}, Form(extension="webp", file=LOSSLESS)),
        ({"samples_format": "jpg", "webp_lossless": True}, Form(extension="jpg", file=FileFormat(kind="jpeg"))),
        ({"samples_format": 5}, Form()),
    ],
)  # fmt: skip
def test_what_options_ask_for(options: dict[str, Any], expected: Form) -> None:
    assert form(**options) == expected


@pytest.mark.parametrize("name", ["gif", "avif", "", "png "])
def test_formats_that_nobody_makes(name: str) -> None:
    with pytest.raises(Refused, match="Invalid image format"):
        form(samples_format=name)


def test_endings_of_names() -> None:
    assert extension_of(ready(form=FileFormat(kind="jpeg")).file, form(samples_format="jpg")) == "jpg"
    assert extension_of(tiny_png(), form(samples_format="jpg")) == "png"


def test_groups_fit_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compat.a1111.file_formats.MOST_BYTES", 10)
    monkeypatch.setattr("compat.a1111.file_formats.MOST_PICTURES", 3)
    files = [b"x" * size for size in (4, 6, 1, 20, 1, 1, 1, 1)]
    assert [[len(one) for one in group] for group in groups(files)] == [[4, 6], [1], [20], [1, 1, 1], [1]]
    assert list(groups([])) == []


async def with_options(house: House, **options: Any) -> None:
    assert (await house.ask(f"{API}/options", options)).status == 200


@pytest.mark.parametrize(("name", "kind"), [("jpg", "jpeg"), ("webp", "webp")])
def test_answers_are_in_the_format_with_their_infotexts(name: str, kind: str) -> None:
    async def test(house: House) -> None:
        await with_options(house, samples_format=name, jpeg_quality=50)
        answer = await house.make(2, prompt="a cat 猫", n_iter=2)
        files = [base64.b64decode(one) for one in answer["images"]]
        assert [kind_of(file) for file in files] == [kind] * 2
        assert [comment_of(file) for file in files] == json.loads(answer["info"])["infotexts"]
        work = house.service.last
        assert isinstance(work, UpscaleRequest)
        assert (work.model, work.kernel, work.file.quality, len(work.pictures)) == (BUILT_IN, "none", 50, 2)

    run(test)


def test_a_request_may_ask_for_itself() -> None:
    async def test(house: House) -> None:
        answer = await house.make(1, override_settings={"samples_format": "webp", "enable_pnginfo": False})
        (file,) = (base64.b64decode(one) for one in answer["images"])
        assert (kind_of(file), comment_of(file)) == ("webp", "")
        answer = await house.make(1)
        assert kind_of(base64.b64decode(answer["images"][0])) == "png"

    run(test)


def test_a_format_that_is_none_is_told_before_the_work() -> None:
    async def test(house: House) -> None:
        for override in ({"samples_format": "bmp"}, {"grid_format": "bmp"}):
            told = await house.ask(f"{API}/txt2img", {"override_settings": override})
            assert told.status == 422
            assert json.loads(told.body)["detail"] == "Invalid image format"
        assert house.service.submissions == []

    run(test)


def test_nothing_is_rewritten_that_nobody_gets() -> None:
    async def test(house: House) -> None:
        await with_options(house, samples_format="jpg")
        answer = await house.make(1, send_images=False)
        assert answer["images"] == [] and len(house.service.submissions) == 1

    run(test)


def test_saved_files_and_grids_have_formats_of_their_own(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        names = {"save_to_dirs": False, "grid_save_to_dirs": False, "samples_filename_pattern": "[seed]"}
        await with_options(house, samples_format="webp", grid_format="jpg", **names)
        answer = await house.make(2, n_iter=2, seed=5, save_images=True)
        saved = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.glob("*/*")}
        texts = json.loads(answer["info"])["infotexts"]
        assert {name: (kind_of(file), comment_of(file)) for name, file in saved.items()} == {
            "txt2img-grids/grid-0000.jpg": ("jpeg", texts[0]),
            "txt2img-images/00000-5.webp": ("webp", texts[1]),
            "txt2img-images/00001-6.webp": ("webp", texts[2]),
        }
        assert [kind_of(base64.b64decode(one)) for one in answer["images"]] == ["webp"] * 3
        (grid,) = (one.work for one in house.service.submissions if isinstance(one.work, GridRequest))
        assert all(kind_of(picture) == "png" for picture in grid.pictures), "a grid loses nothing twice"

    run(test, output_dir=str(tmp_path))


def test_pictures_that_cannot_be_rewritten_are_handed_over_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    async def test(house: House) -> None:
        await with_options(house, samples_format="jpg")
        house.service.script(*pictures(1))
        house.service.script(WorkerDied("the worker died"))
        answer = await house.json(f"{API}/txt2img", {"prompt": "a cat"})
        (file,) = (base64.b64decode(one) for one in answer["images"])
        assert read_text(file)["parameters"].startswith("a cat")
        assert "the worker died" in caplog.text
        house.service.script(*pictures(1))
        house.service.script(ImageStarted(passes=1, steps=1), ImageFinished(reason="stopped"))
        answer = await house.json(f"{API}/txt2img", {"prompt": "a dog"})
        assert kind_of(base64.b64decode(answer["images"][0])) == "png"

    run(test)


def test_a_client_that_leaves_ends_the_rewriting() -> None:
    from tests.support.asgi import Exchange, http_scope

    async def test(house: House) -> None:
        await with_options(house, samples_format="jpg")
        never = asyncio.Event()
        house.service.script(*pictures(1))
        house.service.script(ImageStarted(passes=1, steps=1), never)
        exchange = Exchange([b"{}"])
        asked = asyncio.create_task(house.app(http_scope(f"{API}/txt2img", "POST"), exchange.receive, exchange.send))  # type: ignore[arg-type]
        while len(house.service.submissions) < 2:
            await asyncio.sleep(0)
        exchange.leave()
        await asked
        assert house.service.submissions[1].cancels == [CancelMode.ABANDON]
        never.set()

    run(test)


def test_extras_keep_the_texts_of_what_they_enlarge() -> None:
    async def test(house: House) -> None:
        made = await house.make(1, prompt="a cat", override_settings={"samples_format": "jpg"})
        await with_options(house, samples_format="webp")
        answer = await house.json(f"{API}/extra-single-image", {"image": made["images"][0], "upscaler_1": "Lanczos"})
        file = base64.b64decode(answer["image"])
        assert kind_of(file) == "webp"
        assert comment_of(file) == json.loads(made["info"])["infotexts"][0]

    run(test)
