import json
from pathlib import Path
from typing import Any

import pytest

from compat.a1111.option_defaults import OPTION_DEFAULTS
from compat.a1111.options import MOST_KEYS, OptionStore, OptionValues
from server.core.errors import InvalidValue


@pytest.mark.parametrize(
    ("value", "read"),
    [(2, 2), (2.0, 2), ("2", 2), ("two", 1), (None, 1), ([], 1), (13, 1), (0, 1), (1e400, 1), (True, 1)],
)
def test_whole_numbers(value: Any, read: int) -> None:
    values = OptionValues({"CLIP_stop_at_last_layers": value})
    assert values.integer("CLIP_stop_at_last_layers", 1, 12) == read


@pytest.mark.parametrize(
    ("value", "read"), [(1.5, 1.5), ("1.5", 1.5), (2, 2.0), ("x", 0.0), (float("nan"), 0.0), ({}, 0.0)]
)
def test_numbers(value: Any, read: float) -> None:
    assert OptionValues({"s_churn": value}).number("s_churn") == read


def test_flags_and_texts() -> None:
    values = OptionValues({"tiling": 1, "randn_source": 5, "pad_cond_uncond": "yes"})
    assert values.flag("tiling") is True
    assert values.flag("pad_cond_uncond") is False
    assert values.text("randn_source") == "GPU"


def test_overrides_leave_the_stored_values_alone() -> None:
    stored = OptionValues({"tiling": True})
    assert stored.with_overrides({"tiling": False}).flag("tiling") is False
    assert stored.flag("tiling") is True


def test_options_outlive_the_process(tmp_path: Path) -> None:
    file = tmp_path / "state" / "options.json"
    store = OptionStore(str(file))
    store.update({"send_seed": False, "made_by_a_client": {"a": [1]}})
    store.save()
    again = OptionStore(str(file))
    assert again.shown()["send_seed"] is False
    assert again.shown()["made_by_a_client"] == {"a": [1]}
    assert [path.name for path in file.parent.iterdir()] == ["options.json"]


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "options.json"
    store = OptionStore(str(file))
    store.update({"send_seed": False})
    store.save()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    store.update({"send_seed": True})
    monkeypatch.setattr("compat.a1111.options.json.dump", full)
    with pytest.raises(OSError):
        store.save()
    assert json.loads(file.read_text()) == {"send_seed": False}
    assert [path.name for path in tmp_path.iterdir()] == ["options.json"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_a_broken_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "options.json"
    file.write_bytes(content)
    assert OptionStore(str(file)).shown()["send_seed"] is True


def test_what_is_shown_can_be_posted_back() -> None:
    store = OptionStore(None)
    store.save()
    before = store.shown()
    store.update(before)
    assert store.shown() == before
    assert list(before) == list(OPTION_DEFAULTS)


def test_whole_numbers_are_shown_as_floats_unless_their_default_is_zero() -> None:
    store = OptionStore(None)
    store.update({"CLIP_stop_at_last_layers": 2, "eta_noise_seed_delta": 31337})
    shown = store.shown()
    assert repr(shown["CLIP_stop_at_last_layers"]) == "2.0"
    assert repr(shown["eta_noise_seed_delta"]) == "31337"


def test_fixed_options_and_explanations_are_not_stored() -> None:
    store = OptionStore(None)
    before = store.shown()
    store.update({"api_useragent": "x", "sd_vae_explanation": "x", "sd_checkpoint_hash": "x"})
    assert store.shown() == before


@pytest.mark.parametrize("changes", [{f"key{index}": 1 for index in range(MOST_KEYS + 1)}, {"long": "x" * 3_000_000}])
def test_options_have_bounds(changes: dict[str, Any]) -> None:
    store = OptionStore(None)
    with pytest.raises(InvalidValue):
        store.update(changes)
    assert "key1" not in store.shown()
