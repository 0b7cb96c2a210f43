"""Noise against A1111's recorded draws, bit for bit, and the rules of seeds."""

import hashlib
from typing import Any

import pytest
import torch

from server.core.errors import InvalidValue
from server.core.image import NoiseSource as NoiseKind
from server.core.image import Seeds, Size
from server.engines.image.seeds import NoiseSource, picture_seeds, slerp
from tests.support.shared import SHARED, golden, needs_shared

pytestmark = pytest.mark.torch

KINDS: dict[str, NoiseKind] = {"CPU": "cpu", "GPU": "device", "NV": "philox"}
CASES: list[dict[str, Any]] = golden("rng.json")["cases"] if SHARED.exists() else []


def sha256(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().astype("<f4").tobytes()).hexdigest()


def recorded_source(case: dict[str, Any], picture: int) -> NoiseSource:
    """The source of one picture: the recordings count seeds up where ours stand still, with variation seeds."""
    options = case["options"]
    variations = options.get("subseeds", [0] * len(case["seeds"]))
    seeds = Seeds(
        first=case["seeds"][picture],
        variation=variations[picture],
        variation_strength=options.get("subseed_strength", 0.0),
        resize_from=Size(options["seed_resize_from_w"], options["seed_resize_from_h"])
        if "seed_resize_from_w" in options
        else None,
        source=KINDS[case["source"]],
        later_delta=options.get("eta_noise_seed_delta", 0),
    )
    channels, height, width = case["shape"]
    return NoiseSource(seeds, [0], (channels, height, width))


@pytest.mark.golden
@needs_shared
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['source']}-{case['seeds']}-{case['options']}")
def test_recorded_draws(case: dict[str, Any]) -> None:
    sources = [recorded_source(case, picture) for picture in range(len(case["seeds"]))]
    draws = {
        "first": torch.cat([source.first() for source in sources]),
        "second": torch.cat([source.next() for source in sources]),
        "third": torch.cat([source.next() for source in sources]),
    }
    for name, drawn in draws.items():
        assert list(drawn.shape) == case[name]["shape"]
        assert drawn.flatten()[:8].tolist() == pytest.approx(case[name]["first8"], abs=1e-6)
        assert sha256(drawn) == case[name]["sha256_f32"], name


def test_cpu_check_vectors() -> None:
    for seed, first, second in (
        (0, [-1.1258398, -1.1523602, -0.2505786, -0.4338788, 0.8487104], [-0.5518361, 1.5398073, 1.0035588]),
        (12345, [-1.4798077, 0.4873060, -3.0127938, 0.4438552, 0.3597562], [-0.6980994, -0.2630799, -0.9115852]),
    ):
        source = NoiseSource(Seeds(first=seed, source="cpu"), [0], (4, 64, 64))
        assert source.first().flatten()[:5].tolist() == pytest.approx(first, abs=1e-6)
        assert source.next().flatten()[:3].tolist() == pytest.approx(second, abs=1e-6)


def test_slerp_check_vector() -> None:
    a, b = (NoiseSource(Seeds(first=seed, source="cpu"), [0], (4, 64, 64)).first()[0] for seed in (1, 2))
    mixed = slerp(0.25, a, b).flatten()[:4].tolist()
    assert mixed == pytest.approx([-1.7895772, -0.3424935, -1.0490118, -1.8624628], abs=1e-6)


def test_slerp_of_equal_tensors_is_that_tensor() -> None:
    a = NoiseSource(Seeds(first=1), [0], (4, 8, 8)).first()[0]
    assert torch.allclose(slerp(0.3, a, a), a, atol=1e-6)


@pytest.mark.parametrize(
    ("seeds", "index", "expected"),
    [
        (Seeds(first=10, variation=20), 3, (13, 23)),
        (Seeds(first=10, variation=20, variation_strength=0.1), 3, (10, 23)),
    ],
)
def test_seeds_of_a_picture(seeds: Seeds, index: int, expected: tuple[int, int]) -> None:
    assert picture_seeds(seeds, index) == expected


@pytest.mark.parametrize("kind", ["cpu", "device", "philox"])
@pytest.mark.parametrize("strength", [0.0, 0.4])
def test_batch_equals_single_pictures(kind: NoiseKind, strength: float) -> None:
    seeds = Seeds(first=5, variation=9, variation_strength=strength, source=kind, later_delta=3)
    together = NoiseSource(seeds, [2, 3], (4, 8, 8))
    alone = [NoiseSource(seeds, [k], (4, 8, 8)) for k in (2, 3)]
    assert torch.equal(together.first(), torch.cat([source.first() for source in alone]))
    assert torch.equal(together.next(), torch.cat([source.next() for source in alone]))


def test_first_begins_anew() -> None:
    source = NoiseSource(Seeds(first=5), [0], (4, 8, 8))
    once, later = source.first(), source.next()
    assert torch.equal(source.first(), once)
    assert torch.equal(source.next(), later)


def test_resize_larger_than_the_picture_keeps_its_middle() -> None:
    wide = NoiseSource(Seeds(first=5, source="philox"), [0], (4, 12, 16)).first()
    source = NoiseSource(Seeds(first=5, source="philox", resize_from=Size(128, 96)), [0], (4, 8, 8))
    assert torch.equal(source.first(), wide[:, :, 2:10, 4:12])


def test_resize_of_an_odd_margin_leaves_a_frame() -> None:
    plain = NoiseSource(Seeds(first=5, source="philox"), [0], (4, 8, 8)).first()
    source = NoiseSource(Seeds(first=5, source="philox", resize_from=Size(17 * 8, 8 * 8)), [0], (4, 8, 8))
    assert torch.equal(source.first()[..., -1], plain[..., -1])


def test_resize_from_the_same_size_changes_nothing() -> None:
    plain = NoiseSource(Seeds(first=5), [0], (4, 8, 8)).first()
    assert torch.equal(NoiseSource(Seeds(first=5, resize_from=Size(64, 64)), [0], (4, 8, 8)).first(), plain)


def test_posterior_noise_follows_the_last_picture() -> None:
    generator = NoiseSource(Seeds(first=5), [0, 1], (4, 8, 8)).posterior()
    assert generator is not None
    assert generator.initial_seed() == 6
    assert NoiseSource(Seeds(first=5, source="philox"), [0, 1], (4, 8, 8)).posterior() is None


def test_dtype_of_later_draws() -> None:
    source = NoiseSource(Seeds(first=5), [0], (4, 8, 8), dtype=torch.float16)
    assert source.first().dtype == torch.float32
    assert source.next().dtype == torch.float16


@pytest.mark.parametrize("seeds", [Seeds(first=2**64), Seeds(first=-(2**63) - 1)])
def test_seed_out_of_range(seeds: Seeds) -> None:
    with pytest.raises(InvalidValue, match="outside") as raised:
        NoiseSource(seeds, [0], (4, 8, 8))
    assert raised.value.fact("param") == "seed"


def test_later_seed_out_of_range() -> None:
    source = NoiseSource(Seeds(first=2**64 - 1, later_delta=1), [0], (4, 8, 8))
    with pytest.raises(InvalidValue):
        source.first()
