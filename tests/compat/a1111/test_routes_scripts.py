import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from compat.a1111.scripts import xyz_plot
from server.core.image import ImageFinished, ImageRequest, ImageStarted, StepDone
from server.core.jobs import CancelMode
from server.core.pixels import GridRequest, JoinRequest, SplitRequest, UpscaleRequest
from server.http.png import read_text
from tests.compat.a1111.test_routes import API, House, run
from tests.support.fake_images import pictures, ready, tiny_png

PICTURE = base64.b64encode(tiny_png()).decode()


def plot(x: str, values: str, y: str = "Nothing", y_values: str = "", **at: Any) -> dict[str, Any]:
    args = list(xyz_plot.DEFAULTS)
    args[0], args[1], args[3], args[4] = x, values, y, y_values
    for place, value in at.items():
        args[int(place.removeprefix("at"))] = value
    return {"script_name": "X/Y/Z plot", "script_args": args}


async def made(house: House, cells: int, route: str = "txt2img", **fields: Any) -> tuple[Any, Any]:
    for _ in range(cells):
        house.service.script(*pictures())
    answer = await house.json(f"{API}/{route}", fields)
    return answer, json.loads(answer["info"])


def works(house: House) -> list[Any]:
    return [submission.work for submission in house.service.submissions]


def test_a_plot() -> None:
    async def test(house: House) -> None:
        answer, info = await made(house, 4, prompt="a cat", **plot("Steps", "2, 3", "CFG Scale", "1, 5"))
        *cells, grid = works(house)
        assert [(one.denoise.steps, one.denoise.cfg_scale) for one in cells] == [
            (2, 1.0),
            (2, 5.0),
            (3, 1.0),
            (3, 5.0),
        ] or [(one.denoise.steps, one.denoise.cfg_scale) for one in cells] == [(2, 1.0), (3, 1.0), (2, 5.0), (3, 5.0)]
        assert len({one.seeds.first for one in cells}) == 1, "an open seed is drawn once"
        assert isinstance(grid, GridRequest)
        assert (grid.columns, len(grid.pictures)) == (2, 4)
        assert [lines[0].text for lines in grid.column_titles] == ["Steps: 2", "Steps: 3"]
        assert [lines[0].text for lines in grid.row_titles] == ["CFG Scale: 1.0", "CFG Scale: 5.0"]
        shown = [read_text(picture)["parameters"] for picture in grid.pictures]
        assert ["Steps: 2" in text for text in shown] == [True, False, True, False], "x runs across"
        assert len(answer["images"]) == 1
        assert answer["parameters"]["script_name"] == "X/Y/Z plot"
        text = read_text(base64.b64decode(answer["images"][0]))["parameters"]
        assert text == info["infotexts"][0]
        assert 'Script: X/Y/Z plot, X Type: Steps, X Values: "2, 3", Y Type: CFG Scale' in text
        assert len(info["infotexts"]) == 5
        assert (info["index_of_first_image"], len(info["all_seeds"])) == (1, 4)

    run(test)


def test_a_plot_with_its_pictures_and_sub_grids() -> None:
    async def test(house: House) -> None:
        fields = plot("Steps", "2, 3", at6="Seed", at7="5, 6", at10=True, at11=True)
        answer, info = await made(house, 4, **fields)
        grids = [work for work in works(house) if isinstance(work, GridRequest)]
        assert [grid.columns for grid in grids] == [2, 2, 2]
        assert len(answer["images"]) == 1 + 2 + 4
        assert len(info["infotexts"]) == 1 + 2 + 4
        assert [lines[0].text for lines in grids[2].column_titles] == ["Seed: 5", "Seed: 6"]

    run(test)


def test_mistakes_are_told_before_anything_is_made() -> None:
    async def test(house: House) -> None:
        for fields in (
            plot("Steps", "2, 0"),
            plot("Sampler", "Euler, Nope"),
            plot("Token merging ratio", "0.5"),
            plot("FP8 mode", "Enable"),
            plot("Prompt S/R", "missing, x"),
            {"script_name": "X/Y/Z plot", "script_args": [{}]},
        ):
            exchange = await house.ask(f"{API}/txt2img", fields)
            assert exchange.status == 422, fields
        assert house.service.submissions == []

    run(test)


def test_unknown_scripts() -> None:
    async def test(house: House) -> None:
        for name, route in (("nope", "txt2img"), ("sd upscale", "txt2img"), ("custom code", "img2img")):
            exchange = await house.ask(f"{API}/{route}", {"script_name": name, "init_images": [PICTURE]})
            assert exchange.status == 422
            assert json.loads(exchange.body)["detail"] == f"Script '{name}' not found"

    run(test)


def test_a_prompt_matrix(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        answer, info = await made(house, 4, prompt="a|b|c", script_name="prompt matrix", seed=3, save_images=True)
        assert [one.texts[0].pieces[0].text for one in (work.prompt.parts[0] for work in works(house)[:4])] == [
            "a",
            "a, b",
            "a, c",
            "a, b, c",
        ]
        assert info["all_prompts"] == ["a", "a, b", "a, c", "a, b, c"]
        assert info["all_seeds"] == [3, 3, 3, 3]
        assert len(answer["images"]) == 5
        assert len(info["infotexts"]) == 5
        names = sorted(path.name for path in tmp_path.rglob("*.png"))
        assert names == ["00000-3.png", "00001-3.png", "00002-3.png", "00003-3.png", "prompt_matrix-0000.png"]

    run(test, output_dir=str(tmp_path))


def test_prompts_from_a_file() -> None:
    async def test(house: House) -> None:
        args = [False, True, "start", "a cat\n--prompt dog --steps 3"]
        answer, info = await made(house, 2, script_name="Prompts from file or textbox", script_args=args)
        assert info["all_prompts"] == ["a cat", "dog"]
        assert len(set(info["all_seeds"])) == 1
        assert [work.denoise.steps for work in works(house)] == [50, 3]
        assert len(answer["images"]) == 2
        assert info["index_of_first_image"] == 0
        empty = await house.ask(f"{API}/txt2img", {"script_name": "prompts from file or textbox"})
        assert empty.status == 422

    run(test)


def test_loopback() -> None:
    async def test(house: House) -> None:
        fields = {
            "init_images": [PICTURE],
            "denoising_strength": 0.4,
            "seed": 7,
            "script_name": "Loopback",
            "script_args": [3, 0.8, "Linear", "None"],
        }
        answer, info = await made(house, 3, "img2img", **fields)
        *loops, grid = works(house)
        assert [round(one.init.strength, 3) for one in loops] == [0.4, 0.6, 0.8]
        assert [one.seeds.first for one in loops] == [7, 8, 9]
        assert [one.init.images[0] == tiny_png() for one in loops] == [True, True, True], (
            "the fake makes the same again"
        )
        assert isinstance(grid, GridRequest)
        assert len(answer["images"]) == 4
        assert "Final denoising strength: 0.8, Denoising curve: Linear" in info["infotexts"][1]
        assert answer["parameters"]["init_images"] is None

    run(test)


def test_loopback_in_several_rounds_shows_the_last_ones() -> None:
    async def test(house: House) -> None:
        fields = {
            "init_images": [PICTURE],
            "n_iter": 2,
            "script_name": "loopback",
            "script_args": [2, 0.5, "Lazy", "None"],
        }
        answer, _ = await made(house, 4, "img2img", **fields)
        assert len(answer["images"]) == 3, "two last pictures and their grid"

    run(test)


def test_sd_upscale() -> None:
    async def test(house: House) -> None:
        house.service.script(*pictures())
        house.service.script(
            ImageStarted(passes=1, steps=1), ready(0), ready(1), ready(2), ImageFinished(reason="complete")
        )
        fields = {
            "init_images": [PICTURE],
            "width": 64,
            "height": 64,
            "batch_size": 2,
            "seed": 5,
            "script_name": "SD upscale",
            "script_args": ["", 16, "Lanczos", 2.0],
        }
        house.service.script(*pictures(2))
        house.service.script(*pictures(1))
        answer = await house.json(f"{API}/img2img", fields)
        enlarge, split, first, second, join = works(house)
        assert isinstance(enlarge, UpscaleRequest)
        assert (enlarge.kernel, enlarge.factor) == ("lanczos", 2.0)
        assert isinstance(split, SplitRequest)
        assert (split.tile.width, split.overlap) == (64, 16)
        assert isinstance(first, ImageRequest)
        assert [(one.batch_size, one.seeds.first, len(one.init.images)) for one in (first, second)] == [
            (2, 5, 2),
            (1, 6, 1),
        ]
        assert isinstance(join, JoinRequest)
        assert len(join.pictures) == 3
        assert len(answer["images"]) == 1
        text = read_text(base64.b64decode(answer["images"][0]))["parameters"]
        assert "SD upscale overlap: 16, SD upscale upscaler: Lanczos" in text

    run(test)


def test_interrupt_ends_the_whole_script() -> None:
    async def test(house: House) -> None:
        running = asyncio.Event()
        house.service.script(*pictures())
        house.service.script(ImageStarted(passes=1, steps=9), StepDone(pass_index=0, step=1, steps=9), running)
        asking = asyncio.create_task(house.json(f"{API}/txt2img", plot("Seed", "1, 2, 3")))
        while len(house.service.submissions) < 2 or not [job for job in house.service.live() if job.step]:
            await asyncio.sleep(0)
        told = await house.json(f"{API}/progress")
        assert (told["state"]["job_count"], told["state"]["job_no"]) == (3, 1)
        assert told["state"]["job"] == "scripts_txt2img"
        assert 0.34 < told["progress"] < 0.68
        assert await house.json(f"{API}/interrupt", {}) == {}
        answer = await asking
        assert house.service.submissions[1].cancels == [CancelMode.STOP]
        *cells, grid = works(house)
        assert len(cells) == 2, "the third was not begun"
        assert isinstance(grid, GridRequest)
        assert [bool(picture) for picture in grid.pictures] == [True, False, False]
        assert len(answer["images"]) == 1
        idle = await house.json(f"{API}/progress")
        assert (idle["progress"], idle["state"]["job_count"]) == (0, 0)

    run(test)


def test_skip_ends_one_cell() -> None:
    async def test(house: House) -> None:
        running = asyncio.Event()
        house.service.script(ImageStarted(passes=1, steps=9), running, ready(0), ImageFinished(reason="complete"))
        house.service.script(*pictures())
        asking = asyncio.create_task(house.json(f"{API}/txt2img", plot("Seed", "1, 2")))
        while not house.service.live():
            await asyncio.sleep(0)
        assert await house.json(f"{API}/skip", {}) is None
        running.set()
        await asking
        assert len(works(house)) == 3

    run(test)


def test_a_client_that_leaves_ends_its_script() -> None:
    async def test(house: House) -> None:
        house.service.script(ImageStarted(passes=1, steps=9), asyncio.Event())
        asking = asyncio.create_task(house.json(f"{API}/txt2img", plot("Seed", "1, 2")))
        while not house.service.live():
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert house.service.submissions[0].cancels == [CancelMode.ABANDON]
        assert len(works(house)) == 1
        idle = await house.json(f"{API}/progress")
        assert idle["state"]["job_count"] == 0

    run(test)


def test_a_job_that_fails_fails_the_script() -> None:
    from server.core.errors import OutOfMemory

    async def test(house: House) -> None:
        house.service.script(*pictures())
        house.service.script(ImageStarted(passes=1, steps=1), OutOfMemory("no memory", device="cpu"))
        exchange = await house.ask(f"{API}/txt2img", plot("Seed", "1, 2, 3"))
        assert exchange.status == 503
        assert len(works(house)) == 2

    run(test)
