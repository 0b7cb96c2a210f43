import json
from pathlib import Path

import pytest

from server.core.errors import LoadFailed
from server.engines.image.layouts import sidecar
from tests.support.golden_images import CHECKPOINT
from tests.support.shared import needs_shared

FULL = """
model:
  target: os.system
  params:
    linear_start: 0.001
    linear_end: 0.02
    scale_factor: 0.2
    parameterization: v
    unet_config: {params: {num_heads: 4, num_head_channels: -1}}
    cond_stage_config: {params: {version: somebody/clip}}
"""


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert sidecar.read(tmp_path / "x.safetensors") == sidecar.Sidecar()


def test_numbers_are_taken(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(FULL)
    folder = tmp_path / "somebody" / "clip"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 2}))
    assert sidecar.read(tmp_path / "x.safetensors") == sidecar.Sidecar(
        unet_heads=4, text_heads=2, latent_scale=0.2, first_beta=0.001, last_beta=0.02, prediction="v"
    )


@pytest.mark.parametrize(
    ("params", "prediction"),
    [
        ("parameterization: eps", "eps"),
        ("parameterization: x0", None),
        ("denoiser_config: {params: {scaling_config: {target: sgm.modules.VScaling}}}", "v"),
        ("denoiser_config: {params: {scaling_config: {target: sgm.modules.EpsScaling}}}", "eps"),
        ("denoiser_config: {params: {scaling_config: {target: sgm.modules.EDMScaling}}}", None),
        ("linear_start: 0.001", None),
    ],
)
def test_predictions_are_named_outright_or_by_a_class(tmp_path: Path, params: str, prediction: str | None) -> None:
    (tmp_path / "x.yaml").write_text(f"model: {{params: {{{params}}}}}")
    assert sidecar.read(tmp_path / "x.safetensors").prediction == prediction


@pytest.mark.parametrize("version", ["../outside", "/etc", "nowhere/clip", "7", "[1, 2]"])
def test_text_encoders_elsewhere_are_not_looked_for(tmp_path: Path, version: str) -> None:
    inside = tmp_path / "inside"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "config.json").write_text(json.dumps({"num_attention_heads": 2}))
    inside.mkdir()
    (inside / "x.yaml").write_text(FULL.replace("somebody/clip", version))
    assert sidecar.read(inside / "x.safetensors").text_heads is None


@pytest.mark.parametrize("text", ["", "[]", "model: 5", "model: {params: {unet_config: {params: {num_heads: many}}}}"])
def test_odd_files_say_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert sidecar.read(tmp_path / "x.safetensors") == sidecar.Sidecar()


@pytest.mark.parametrize("text", ["{", "a: !!python/object/apply:os.getpid []", "\udcff"])
def test_unreadable_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LoadFailed, match="YAML"):
        sidecar.read(tmp_path / "x.safetensors")


@needs_shared
@pytest.mark.golden
def test_the_recorded_checkpoint() -> None:
    found = sidecar.read(CHECKPOINT)
    assert (found.unet_heads, found.text_heads, found.prediction) == (8, 4, None)
