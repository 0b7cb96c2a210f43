import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from compat.a1111.saving import OutputFolder
from server.core.image import ImageFinished, ImageStarted
from server.core.pixels import GridRequest
from server.http.png import read_text
from tests.compat.a1111.test_routes import API, House, run
from tests.support.fake_images import pictures, ready, tiny_png

PICTURE = base64.b64encode(tiny_png()).decode()
TODAY = time.strftime("%Y-%m-%d")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_pictures_and_their_grid(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        answer = await house.make(3, prompt="a cat", n_iter=3, seed=5, save_images=True)
        today = time.strftime("%Y-%m-%d") if time.strftime("%Y-%m-%d") != TODAY else TODAY
        assert files(tmp_path / "out") == [
            "params.txt",
            f"txt2img-grids/{today}/grid-0000.png",
            f"txt2img-images/{today}/00000-5.png",
            f"txt2img-images/{today}/00001-6.png",
            f"txt2img-images/{today}/00002-7.png",
        ]
        info = json.loads(answer["info"])
        assert len(answer["images"]) == 4
        assert info["index_of_first_image"] == 1
        assert info["infotexts"][0] == info["infotexts"][1]
        assert (tmp_path / "out" / "params.txt").read_text() == info["infotexts"][0]
        saved = (tmp_path / "out" / f"txt2img-images/{today}/00001-6.png").read_bytes()
        assert read_text(saved)["parameters"] == info["infotexts"][2]
        assert saved == base64.b64decode(answer["images"][2])
        work = house.service.last
        assert isinstance(work, GridRequest)
        assert (len(work.pictures), work.columns, work.background) == (3, 2, (255, 255, 255))

    run(test, output_dir=str(tmp_path / "out"))


def test_what_is_not_asked_for_is_not_saved(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.make(2, n_iter=2)
        assert files(tmp_path) == []
        answer = await house.make(1, save_images=True)
        assert len(answer["images"]) == 1, "no grid of one picture"
        assert json.loads(answer["info"])["index_of_first_image"] == 0

    run(test, output_dir=str(tmp_path))


def test_options_of_saving(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        body = {
            "samples_save": False,
            "return_grid": False,
            "grid_save_to_dirs": False,
            "outdir_txt2img_grids": "../../x",
        }
        assert (await house.ask(f"{API}/options", body)).status == 200
        answer = await house.make(2, n_iter=2, save_images=True)
        assert len(answer["images"]) == 2
        assert files(tmp_path) == ["_/_/x/grid-0000.png"] or files(tmp_path) == ["x/grid-0000.png"]
        house.service.script(*pictures())
        await house.json(
            f"{API}/txt2img", {"save_images": True, "override_settings": {"samples_save": True, "save_txt": True}}
        )
        assert len([name for name in files(tmp_path) if name.endswith(".txt")]) == 2

    run(test, output_dir=str(tmp_path))


def inpainted(mask: bytes, composite: bytes) -> list[Any]:
    done = msgspec.structs.replace(ready(0), further=(mask, composite))
    return [ImageStarted(passes=1, steps=1), done, ImageFinished(reason="complete")]


@pytest.mark.parametrize("returned", [False, True])
def test_masks_are_saved_beside_their_pictures(tmp_path: Path, returned: bool) -> None:
    async def test(house: House) -> None:
        options = {"save_mask": True, "save_mask_composite": True, "save_to_dirs": False, "return_mask": returned}
        fields = {"init_images": [PICTURE], "mask": PICTURE, "seed": 5, "override_settings": options}
        house.service.script(*inpainted(tiny_png(3), tiny_png(4)))
        answer = await house.json(f"{API}/img2img", fields | {"save_images": True})
        folder = tmp_path / "img2img-images"
        names = ["00000-5-.png", "00001-5--mask.png", "00002-5--mask-composite.png"]
        assert files(folder) == names
        assert (folder / names[1]).read_bytes() == tiny_png(3)
        assert (folder / names[2]).read_bytes() == tiny_png(4)
        assert len([one for one in answer["images"] if base64.b64decode(one) == tiny_png(3)]) == returned
        inpaint = house.service.submissions[0].work.init.inpaint  # type: ignore[union-attr]
        assert (inpaint.return_mask, inpaint.return_composite) == (True, True)
        house.service.script(*inpainted(tiny_png(3), tiny_png(4)))
        await house.json(f"{API}/img2img", fields)
        assert files(folder) == names, "only where the request saves"
        inpaint = house.service.last.init.inpaint  # type: ignore[union-attr]
        assert (inpaint.return_mask, inpaint.return_composite) == (returned, False)

    run(test, output_dir=str(tmp_path))


def test_init_pictures_are_saved_once_by_their_digest(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        fields = {"init_images": [PICTURE], "override_settings": {"save_init_img": True}}
        for _ in range(2):
            house.service.script(*pictures())
            info = json.loads((await house.json(f"{API}/img2img", fields))["info"])
        digest = hashlib.md5(base64.b64decode(PICTURE)).hexdigest()
        assert files(tmp_path) == [f"init-images/{digest}.png"]
        assert f", Init image hash: {digest}" in info["infotexts"][0]
        house.service.script(*pictures())
        info = json.loads((await house.json(f"{API}/img2img", {"init_images": [PICTURE]}))["info"])
        assert "Init image hash" not in info["infotexts"][0]

    run(test, output_dir=str(tmp_path))


@pytest.mark.parametrize(("option", "count"), [(False, 2), (True, 4)])
def test_what_an_interrupt_left_unfinished_is_shown_and_not_saved(tmp_path: Path, option: bool, count: int) -> None:
    async def test(house: House) -> None:
        events = [ImageStarted(passes=2, steps=1), *(ready(k) for k in range(4)), ImageFinished(reason="stopped")]
        house.service.script(*events)
        options = {"save_incomplete_images": option, "save_to_dirs": False, "grid_save": False, "return_grid": False}
        fields = {"batch_size": 2, "n_iter": 2, "save_images": True, "override_settings": options}
        answer = await house.json(f"{API}/txt2img", fields)
        assert len(answer["images"]) == 4
        assert len(files(tmp_path / "txt2img-images")) == count

    run(test, output_dir=str(tmp_path))


def test_without_a_folder_it_is_said() -> None:
    async def test(house: House) -> None:
        house.service.script(*pictures())
        exchange = await house.ask(f"{API}/txt2img", {"save_images": True})
        assert exchange.status == 200
        assert exchange.headers["x-hearth-ignored"] == "save_images"

    run(test)


def test_a_full_disk_loses_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OutputFolder, "save", full)

    async def test(house: House) -> None:
        answer = await house.make(1, save_images=True)
        assert len(answer["images"]) == 1
        assert "could not be written" in json.loads(answer["info"])["save_error"]

    run(test, output_dir=str(tmp_path))


def test_saved_pictures_without_sending_them(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        answer = await house.make(1, save_images=True, send_images=False)
        assert answer["images"] == []
        assert len(files(tmp_path)) == 2

    run(test, output_dir=str(tmp_path))


def test_saved_pictures_are_handed_out_again(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.make(1, save_images=True)
        (saved,) = (tmp_path / "outputs").rglob("*.png")
        exchange = await house.ask(f"/internal/file?name={saved}")
        assert exchange.status == 200
        assert exchange.headers["content-type"] == "image/png"
        assert exchange.body == saved.read_bytes()
        for name in ("/etc/passwd", "../x", str(tmp_path / "outputs" / "params.txt"), "nothing.png", ""):
            assert (await house.ask(f"/internal/file?name={name}")).status == 404

    run(test, output_dir=str(tmp_path / "outputs"))


def test_no_folder_no_files() -> None:
    async def test(house: House) -> None:
        assert (await house.ask("/internal/file?name=/etc/passwd")).status == 404

    run(test)


def test_sysinfo_is_text() -> None:
    async def test(house: House) -> None:
        for path in ("/internal/sysinfo", "/internal/sysinfo-download"):
            exchange = await house.ask(path)
            assert exchange.headers["content-type"].startswith("text/plain")
            assert "Python" in json.loads(exchange.body)

    run(test)


def test_an_infotext_fills_what_was_not_sent() -> None:
    async def test(house: House) -> None:
        answer = await house.make(1, infotext="a cat\nSteps: 3, Seed: 9, Size: 64x80", steps=4)
        assert (answer["parameters"]["prompt"], answer["parameters"]["steps"], answer["parameters"]["seed"]) == (
            "a cat",
            4,
            9,
        )
        assert json.loads(answer["info"])["height"] == 80

    run(test)
