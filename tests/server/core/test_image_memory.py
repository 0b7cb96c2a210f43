"""What pictures take: figures that were counted, and how they grow."""

import msgspec
import pytest

from server.core.errors import LoadFailed
from server.core.image_memory import (
    OVERHEAD_CPU,
    SMALLEST,
    Workload,
    asked_offload,
    choose_offload,
    decode_bytes,
    denoise_bytes,
    encode_bytes,
    job_bytes,
    seated_bytes,
    tiled_decode_bytes,
)
from server.core.memory import GIB, MIB
from server.core.models import ImageSettings

SQUARE = Workload(family="sd1", pixels=512 * 512)


def changed(**fields: object) -> Workload:
    return msgspec.structs.replace(SQUARE, **fields)


@pytest.mark.parametrize(
    ("family", "pixels", "mib"),
    [
        ("sd1", 512 * 512, 260.5),
        ("sd1", 1024 * 1024, 1040.5),
        ("sd2", 512 * 512, 260.6),
        ("sdxl", 1024 * 1024, 631.2),
        ("sdxl_refiner", 1024 * 1024, 756.8),
    ],
)
def test_unets_take_what_was_counted(family: str, pixels: int, mib: float) -> None:
    """Counted in float32 for prompt and negative prompt, without what a process takes besides."""
    found = denoise_bytes(changed(family=family, pixels=pixels)) / OVERHEAD_CPU
    assert found == pytest.approx(mib * MIB, rel=0.015)


@pytest.mark.parametrize(("pixels", "mib"), [(256 * 256, 192), (512 * 512, 768), (1024 * 1024, 3072)])
def test_the_vae_takes_what_was_counted(pixels: int, mib: int) -> None:
    assert decode_bytes(changed(pixels=pixels)) / OVERHEAD_CPU == pytest.approx(mib * MIB, rel=0.001)
    assert encode_bytes(changed(pixels=pixels)) / OVERHEAD_CPU == pytest.approx(mib * MIB * 640 / 768, rel=0.001)


def test_a_float32_sd1_picture_on_a_cpu_takes_the_2_1_gib_that_were_seen() -> None:
    assert job_bytes(SQUARE, tiles=False) == pytest.approx(2.1 * GIB, rel=0.03)


@pytest.mark.parametrize(
    ("side", "width", "mib"), [(64, 320, 198), (128, 320, 205), (64, 32, 39), (256, 32, 85), (512, 32, 237)]
)
def test_small_pictures_take_no_less_than_was_seen_and_no_more_than_twice(side: int, width: int, mib: int) -> None:
    """Seen: whole jobs of one step in float32 on a CPU, with SD1's widths and with 32 channels throughout."""
    found = job_bytes(changed(pixels=side * side, unet_width=width, vae_width=min(width, 128)))
    assert mib * MIB <= found <= 2 * mib * MIB


def test_everything_grows_with_pixels_rows_and_width() -> None:
    double = {"pixels": 2 * SQUARE.pixels}
    assert decode_bytes(changed(**double)) == 2 * decode_bytes(SQUARE)
    assert denoise_bytes(changed(rows=8)) == pytest.approx(4 * denoise_bytes(SQUARE), abs=4)
    assert denoise_bytes(changed(unet_bytes=2)) == pytest.approx(denoise_bytes(SQUARE) / 2, abs=1)
    assert denoise_bytes(changed(unet_width=160)) == pytest.approx(denoise_bytes(SQUARE) / 2, abs=1)
    assert denoise_bytes(changed(on_cpu=False)) < denoise_bytes(SQUARE)


def test_tiles_make_large_pictures_small_and_small_ones_no_larger() -> None:
    large = changed(pixels=4096 * 4096)
    assert tiled_decode_bytes(large) < decode_bytes(large) / 15
    assert decode_bytes(SQUARE) <= tiled_decode_bytes(SQUARE) < 1.05 * decode_bytes(SQUARE)
    assert job_bytes(large) < job_bytes(large, tiles=False)


def test_a_job_takes_its_largest_part_and_never_nothing() -> None:
    assert job_bytes(changed(rows=64)) >= denoise_bytes(changed(rows=64))
    narrow = changed(pixels=64, unet_width=16, vae_width=16)
    assert SMALLEST < job_bytes(narrow) < 1.01 * SMALLEST
    assert job_bytes(changed(pixels=64, on_cpu=False)) == SMALLEST
    wide = changed(pixels=2048 * 2048, rows=2)
    assert job_bytes(wide, encodes=True) > job_bytes(wide)


@pytest.mark.parametrize(("free", "mode"), [(100, "none"), (99, "medium"), (60, "medium"), (59, "low"), (0, "low")])
def test_the_fastest_mode_that_fits(free: int, mode: str) -> None:
    assert choose_offload((50, 20, 20), 10, free) == mode


def test_what_sits_on_a_device_at_once() -> None:
    parts = (5000, 200, 1500)
    assert [seated_bytes(parts, mode) for mode in ("none", "medium", "low")] == [6700, 5000, 2350]
    assert seated_bytes((1000, 200, 1500), "low") == 1500
    assert [seated_bytes((), mode) for mode in ("none", "medium", "low")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("settings", "family", "mode"),
    [
        ({}, "sd1", None),
        ({"offload": "high"}, "sd1", "none"),
        ({"offload": "low"}, "sdxl", "low"),
        ({"offload": "none", "sdxl_offload": "medium"}, "sd1", "none"),
        ({"offload": "none", "sdxl_offload": "medium"}, "sdxl", "medium"),
        ({"offload": "none", "sdxl_offload": "auto"}, "sdxl_refiner", None),
    ],
)
def test_words_for_modes(settings: dict[str, str], family: str, mode: str | None) -> None:
    assert asked_offload(ImageSettings(**settings), family) == mode


def test_other_words_are_refused() -> None:
    with pytest.raises(LoadFailed, match="sideways"):
        asked_offload(ImageSettings(offload="sideways"), "sd1")
