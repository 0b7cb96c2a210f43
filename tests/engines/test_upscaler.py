"""An upscaler's file through the whole engine: loaded, asked, tiled."""

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

from server.core.errors import LoadFailed, Unsupported
from server.core.image import ImageReady, Size, StepDone
from server.core.jobs import CancelMode, JobDone, JobEvent, JobId, Outcome
from server.core.memory import RAM
from server.core.models import ImageSettings, ModelCard, ModelId, ModelKind, Runtime, TextSettings
from server.core.pixels import GridRequest, UpscaleRequest
from server.engines.image.upscaling.network import UpscalerEngine, UpscalerLoader
from tests.support.picture_files import file_of, image_in
from tests.support.tiny_upscaler import compact_state, rrdb_state, write_upscaler

pytestmark = pytest.mark.torch

CPU = ImageSettings(device="cpu", threads=1)


def card(path: Path) -> ModelCard:
    return ModelCard(
        id=ModelId(path.stem), name=path.name, kind=ModelKind.UPSCALER, files=(str(path),), runtime=Runtime.UPSCALER
    )


def loaded(folder: Path, state: dict[str, torch.Tensor] | None = None) -> UpscalerEngine:
    return UpscalerLoader().load(card(write_upscaler(folder, state=state)), CPU, lambda _: None)


def photo(width: int, height: int) -> Image.Image:
    """Return a picture with edges, ramps and noise."""
    noise = Image.effect_noise((width, height), 60)
    bands = [
        Image.linear_gradient("L").resize((width, height)),
        Image.radial_gradient("L").resize((width, height)),
        noise,
    ]
    return Image.merge("RGB", bands)


def outcomes(engine: UpscalerEngine, work: UpscaleRequest) -> list[Outcome]:
    engine.submit(JobId("1"), work)
    found: list[Outcome] = []
    while not engine.is_idle():
        found += engine.step()
    return found


def enlarged(engine: UpscalerEngine, image: Image.Image, **fields: object) -> Image.Image:
    work = UpscaleRequest(**{"model": "x", "pictures": (file_of(image),)} | fields)  # type: ignore[arg-type]
    items = [item.event for item in outcomes(engine, work) if isinstance(item, JobEvent)]
    (found,) = [event for event in items if isinstance(event, ImageReady)]
    return image_in(found.png)


@pytest.mark.parametrize(
    "state", [rrdb_state(), rrdb_state(fold=2, seed=4), rrdb_state(fold=4, seed=5), compact_state(scale=4, depth=4)]
)
def test_tiled_equals_whole(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    """A network sees nothing beyond a tile's edge; what the tiles share keeps that out of the picture."""
    engine = loaded(tmp_path, state)
    image = photo(151, 110)
    whole = enlarged(engine, image, factor=2.0, tile=0, overlap=0)
    tiled = enlarged(engine, image, factor=2.0, tile=64, overlap=16)
    assert whole.size == tiled.size == (296, 216)
    assert max(high for _, high in ImageChops.difference(whole, tiled).getextrema()) <= 1
    assert len(whole.getcolors(1 << 20) or []) > 100, "there is something to see"


def test_a_step_is_a_tile(tmp_path: Path) -> None:
    work = UpscaleRequest(model="x", pictures=(file_of(photo(100, 64)),), factor=4.0, tile=64, overlap=8)
    steps = [item.event for item in outcomes(loaded(tmp_path), work) if isinstance(item, JobEvent)]
    assert [(one.step, one.steps) for one in steps if isinstance(one, StepDone)] == [(1, 2), (2, 2)]


def test_a_size_is_reached_by_several_passes(tmp_path: Path) -> None:
    engine = loaded(tmp_path, rrdb_state(ups=1))
    assert enlarged(engine, photo(40, 40), size=Size(240, 160), crop=True).size == (240, 160)


def test_colours_keep_their_places(tmp_path: Path) -> None:
    """The network is handed colours in another order; its result must not be left in it."""
    zeros = {name: torch.zeros_like(tensor) for name, tensor in compact_state(scale=2).items()}
    found = enlarged(loaded(tmp_path, zeros), Image.new("RGB", (8, 8), (250, 100, 3)), factor=2.0)
    assert found.getcolors() == [(256, (250, 100, 3))]


def test_the_network_sees_blue_first(tmp_path: Path) -> None:
    state = {name: torch.zeros_like(tensor) for name, tensor in compact_state(scale=1).items()}
    last = max(int(name.split(".")[1]) for name in state)
    state[f"body.{last}.bias"][0] = 1.0
    found = enlarged(loaded(tmp_path, state), Image.new("RGB", (8, 8)), factor=1.0)
    assert found.getcolors() == [(64, (0, 0, 255))]


def test_what_it_is_and_holds(tmp_path: Path) -> None:
    facts = loaded(tmp_path).facts
    assert (facts.slots, facts.device, facts.dtype) == (1, "cpu", "float32")
    assert facts.footprint.resident[RAM] > 1 << 20
    assert facts.footprint.working[RAM] > 1 << 20


def test_stop_and_leave(tmp_path: Path) -> None:
    engine = loaded(tmp_path)
    for mode in (CancelMode.STOP, CancelMode.ABANDON):
        engine.submit(JobId("1"), UpscaleRequest(model="x", pictures=(file_of(photo(200, 200)),), tile=32, overlap=8))
        engine.step()
        engine.step()
        engine.cancel(JobId("1"), mode)
        rest: list[Outcome] = []
        while not engine.is_idle():
            rest += engine.step()
        assert rest[-1] == JobDone(JobId("1"))
        assert not [item for item in rest if isinstance(item, JobEvent) and isinstance(item.event, ImageReady)]
    engine.close()
    engine.close()


def test_other_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported):
        loaded(tmp_path).submit(JobId("1"), GridRequest(pictures=(b"x",), columns=1))


def test_loading_what_is_none(tmp_path: Path) -> None:
    file = tmp_path / "bad.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(LoadFailed):
        UpscalerLoader().load(card(file), CPU, lambda _: None)
    with pytest.raises(LoadFailed):
        UpscalerLoader().load(card(write_upscaler(tmp_path)), TextSettings(), lambda _: None)
