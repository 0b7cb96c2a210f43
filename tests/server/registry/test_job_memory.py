"""What jobs of pictures are expected to take: more for more, and what files weigh."""

import msgspec
import pytest

from server.core.image import CheckpointRef, ControlUnit, HiresPass, ImageRequest, Refiner, Size, UpscalerRef
from server.core.image_memory import Workload, decode_bytes, job_bytes
from server.core.memory import GIB, MIB, RAM, Footprint, vram
from server.core.prompt import plain
from server.registry.job_memory import estimated, shape_of
from tests.support.builders import image

USUAL = Workload(family="sd1", pixels=512 * 512)
FOOTPRINT = Footprint(resident={RAM: 4 * GIB}, working={RAM: 3 * GIB})
WEIGHTS = {"net": 700 * MIB, "eyes": 600 * MIB, "other": 2 * GIB, "nets/up": 60 * MIB}


def asked(side: int = 512, **fields: object) -> ImageRequest:
    return msgspec.structs.replace(image(), size=Size(side, side), **fields)


def bytes_of(request: ImageRequest) -> int:
    return estimated(request, FOOTPRINT, USUAL, RAM, size_of=lambda file: WEIGHTS.get(file, 0))[RAM]


def hires(side: int, **fields: object) -> HiresPass:
    first = asked()
    return HiresPass(
        size=Size(side, side),
        scale_to=Size(side, side),
        upscaler="latent",
        strength=0.5,
        denoise=first.denoise,
        prompt=plain(""),
        negative=plain(""),
        **fields,  # type: ignore[arg-type]
    )


def test_the_usual_picture_takes_what_the_model_was_measured_to_want() -> None:
    assert bytes_of(asked()) == FOOTPRINT.working[RAM]


def test_a_decode_is_made_whole_where_it_fits_beside_the_model_and_in_tiles_where_not() -> None:
    def working(limit: int | None) -> int:
        return estimated(asked(2048), FOOTPRINT, USUAL, RAM, limit=limit)[RAM]

    large = Workload(family="sd1", pixels=2048 * 2048)
    whole = decode_bytes(large)
    assert working(None) == working(whole)
    tiled = working(whole - 1)
    assert working(whole) - tiled == job_bytes(large, tiles=False) - job_bytes(large)
    assert tiled < working(whole) / 2


def test_another_vae_counts_when_a_request_names_one() -> None:
    first = estimated(asked(), FOOTPRINT, USUAL, RAM, other_vae=5)[RAM]
    assert first == bytes_of(asked()) + 5
    assert shape_of(asked()) != shape_of(asked(vae="/v.safetensors"))


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (asked(64), asked(512)),
        (asked(512), asked(2048)),
        (asked(1024), asked(1024, batch_size=8)),
        (asked(), asked(hires=hires(2048))),
        (asked(1024, batch_size=4), asked(1024, batch_size=4, control=(ControlUnit(name="n", path="nothing"),))),
    ],
)
def test_more_takes_more(less: ImageRequest, more: ImageRequest) -> None:
    assert bytes_of(less) < bytes_of(more)


def test_a_batch_grows_with_its_pictures() -> None:
    one, two, three = (bytes_of(asked(2048, batch_size=count)) for count in (4, 8, 12))
    assert two - one == pytest.approx(three - two, rel=0.01)


def test_weights_that_a_request_brings_count_once_each() -> None:
    unit = ControlUnit(name="n", path="net", encoders=("eyes",))
    plain_one = bytes_of(asked(64))
    assert bytes_of(asked(64, control=(unit, unit))) - plain_one == pytest.approx(
        WEIGHTS["net"] + WEIGHTS["eyes"], rel=0.01
    )
    other = CheckpointRef(name="o", path="other")
    refined = asked(64, refiner=Refiner(checkpoint=other, switch_at=0.5), hires=hires(64, checkpoint=other))
    assert bytes_of(refined) - plain_one == WEIGHTS["other"]
    enlarged = asked(64, hires=hires(64, upscaler_file=UpscalerRef(name="u", path="nets/up")))
    assert bytes_of(enlarged) - plain_one >= WEIGHTS["nets/up"]


def test_other_pools_keep_what_the_model_wants_there() -> None:
    footprint = Footprint(working={RAM: 5, vram(0): GIB})
    found = estimated(asked(1024), footprint, USUAL, vram(0), size_of=lambda _: 0)
    assert found[RAM] == 5
    assert found[vram(0)] > GIB


def test_a_shape_is_what_decides_about_memory() -> None:
    first = asked()
    assert shape_of(first) == shape_of(msgspec.structs.replace(first, prompt=plain("another"), model="x"))
    others = [
        asked(64),
        asked(batch_size=2),
        asked(hires=hires(1024)),
        asked(control=(ControlUnit(name="n", path="net"),)),
    ]
    assert len({shape_of(each) for each in [first, *others]}) == 5
