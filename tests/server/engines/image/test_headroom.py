from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from server.core.errors import DoesNotFit
from server.core.image import HiresPass, ImageRequest, InitImages, Seeds, Size
from server.core.image_memory import job_bytes
from server.core.memory import GIB, MIB, RAM
from server.core.prompt import plain
from server.engines.image import headroom
from server.engines.image.checkpoint import Checkpoint
from server.engines.image.headroom import Room, available_bytes, fitting_offload, footprint, room_of, total_bytes
from server.engines.image.placement import Placement
from server.engines.meminfo import process_bytes
from tests.server.engines.image.conftest import FLOAT32

pytestmark = pytest.mark.torch

CPU = Placement(device=torch.device("cpu"), precision=FLOAT32)
ELSEWHERE = Placement(device=torch.device("cuda"), precision=FLOAT32, offload="medium", moving=lambda *_: None)

ROOM = Room(family="sd1", unet_width=320, vae_width=128, placement=CPU, limit=8 * GIB)


def request(width: int, height: int, **fields: Any) -> ImageRequest:
    base = ImageRequest(model="x", prompt=plain(""), negative=plain(""), size=Size(width, height), seeds=Seeds(first=1))
    return msgspec.structs.replace(base, **fields)


def test_a_usual_picture_fits_and_a_huge_one_is_refused() -> None:
    ROOM.check(ROOM.needed(request(512, 512), sees_picture=False), None)
    with pytest.raises(DoesNotFit, match=r"needs about .* GiB of ram to work in, 8.0 GiB are there") as caught:
        ROOM.check(ROOM.needed(request(4096, 4096), sees_picture=False), None)
    facts = caught.value.facts
    assert (facts["pool"], facts["limit"]) == (RAM, 8 * GIB)
    assert isinstance(facts["needed"], int)
    assert facts["needed"] > 16 * GIB


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_size": 16},
        {"hires": True},
        {"init": InitImages(images=(b"",), strength=0.5)},
    ],
)
def test_all_that_a_request_asks_for_counts(fields: dict[str, Any]) -> None:
    if "hires" in fields:
        size = Size(2048, 2048)
        fields = {
            "hires": HiresPass(
                size=size,
                scale_to=size,
                upscaler="latent",
                strength=0.5,
                denoise=request(8, 8).denoise,
                prompt=plain(""),
                negative=plain(""),
            )
        }
    base = ROOM.needed(request(768, 768), sees_picture=False)
    assert ROOM.needed(request(768, 768, **fields), sees_picture=False) > base


def test_what_is_free_now_counts_too() -> None:
    ROOM.check(GIB, 2 * GIB)
    with pytest.raises(DoesNotFit, match=r"1\.0 GiB are there"):
        ROOM.check(2 * GIB, GIB)
    Room(family="sd1", unet_width=320, vae_width=128, placement=CPU, limit=None).check(2**60, None)


def test_decodes_that_do_not_fit_are_cut_up() -> None:
    assert ROOM.has_whole_decode(512, 512)
    assert not ROOM.has_whole_decode(4096, 4096)


def test_footprint_counts_at_least_the_weights(tiny: Checkpoint) -> None:
    weights = sum(headroom.weights_of(tiny))
    base = 2 * process_bytes()
    room = room_of(tiny, CPU, base=base)
    found = footprint(tiny, room, base=base)
    assert found.resident[RAM] == base + weights
    assert found.working[RAM] >= 64 * MIB
    assert footprint(tiny, room, base=0).resident[RAM] >= weights


def test_the_limit_is_what_the_model_leaves(tiny: Checkpoint) -> None:
    base = 2 * process_bytes()
    held = footprint(tiny, room_of(tiny, CPU, base=base), base=base).resident[RAM]
    assert room_of(tiny, CPU, base=base, limit=held + GIB).limit == GIB


def test_a_model_that_takes_turns_holds_ram_and_seats_its_largest_part(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headroom, "total_bytes", lambda device: 8 * GIB)
    room = room_of(tiny, ELSEWHERE, base=0)
    found = footprint(tiny, room, base=0)
    largest = max(headroom.weights_of(tiny))
    assert set(found.resident) == {RAM}
    assert set(found.working) == {ELSEWHERE.pool}
    assert found.working[ELSEWHERE.pool] > largest
    assert room.limit == 8 * GIB - largest


@pytest.mark.parametrize(("short", "mode"), [(0, "none"), (1, "medium"), (None, "low")])
def test_the_mode_follows_what_is_free(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, short: int | None, mode: str
) -> None:
    """All parts and a picture of the usual size, or the largest part and such a picture, or less."""
    monkeypatch.setattr(headroom, "total_bytes", lambda device: 8 * GIB)
    parts = headroom.weights_of(tiny)
    working = job_bytes(room_of(tiny, ELSEWHERE, base=0).workload(Size(512, 512), 2))
    free = working + (max(parts) - 1 if short is None else sum(parts) - short)
    monkeypatch.setattr(headroom, "available_bytes", lambda device: free)
    assert fitting_offload(tiny, ELSEWHERE) == mode
    monkeypatch.setattr(headroom, "available_bytes", lambda device: 8 * GIB)
    assert fitting_offload(tiny, ELSEWHERE, limit=free) == mode
    assert fitting_offload(tiny, CPU) == "none"


def test_the_system_tells_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    free, total = available_bytes(device), total_bytes(device)
    assert free is not None
    assert total is not None
    assert 0 < free <= total
    for text in ("", "MemTotal: many kB\n"):
        (tmp_path / "meminfo").write_text(text)
        monkeypatch.setattr(headroom, "MEMINFO", tmp_path / "meminfo")
        assert total_bytes(device) is None
