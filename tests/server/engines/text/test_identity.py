"""What tells one model's cache from another's."""

import os
from pathlib import Path

import pytest

from server.core.models import TextSettings
from server.engines.text.identity import Identity, sample_of

SIZE = 5_000_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(SIZE))
    return path


def test_the_same_bytes_are_the_same_model_wherever_they_lie(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "moved.gguf"
    other.write_bytes(model.read_bytes())
    os.utime(other, (1, 1))
    assert sample_of(other) == sample_of(model)


@pytest.mark.parametrize("at", [0, 1000, SIZE // 2 - 1, SIZE - 1])
def test_other_bytes_are_another_model(model: Path, at: int) -> None:
    before = sample_of(model)
    changed = bytearray(SIZE)
    changed[at] = 1
    model.write_bytes(changed)
    assert sample_of(model) != before


@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE + 1])
def test_so_is_another_length(model: Path, size: int) -> None:
    before = sample_of(model)
    model.write_bytes(bytes(size))
    assert sample_of(model) != before


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"slots": 3, "threads": 2, "batch": 64}, True),
        ({"kv_type": "q8_0"}, False),
        ({"kv_type_v": "f32"}, False),
        ({"rope_frequency_scale": 0.5}, False),
        ({"norm_epsilon": 1e-5}, False),
    ],
)
def test_settings_count_where_they_change_what_is_computed(
    model: Path, settings: dict[str, object], same: bool
) -> None:
    changed = TextSettings(**settings)  # type: ignore[arg-type]
    usual = Identity([model], TextSettings(), {}).of(())
    assert (Identity([model], changed, {}).of(()) == usual) == same


def test_adapters_count_with_their_scales(model: Path, tmp_path: Path) -> None:
    loud = tmp_path / "loud.gguf"
    loud.write_bytes(b"loud")
    identity = Identity([model], TextSettings(), {1: loud})
    names = {identity.of(acting) for acting in ((), ((1, 0.5),), ((1, 1.0),))}
    loud.write_bytes(b"soft")
    names.add(Identity([model], TextSettings(), {1: loud}).of(((1, 1.0),)))
    assert len(names) == 4
