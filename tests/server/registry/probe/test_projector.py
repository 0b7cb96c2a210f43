import io
from pathlib import Path
from typing import Any

import pytest

from server.core.models import ModelKind
from server.registry.probe.base import NotMine
from server.registry.probe.text import probe_gguf
from tests.support.gguf_writer import BOOL, STRING, gguf
from tests.support.tiny_projector import tiny_gemma_eye, tiny_idefics, tiny_llava, tiny_qwen_eye

VISION = {"general.architecture": (STRING, "clip"), "clip.has_vision_encoder": (BOOL, True)}


def probed(values: dict[str, tuple[int, Any]]) -> Any:
    data = gguf(values, {})
    return probe_gguf(io.BytesIO(data), len(data))


@pytest.mark.parametrize(
    ("write", "kind"),
    [(tiny_llava, "mlp"), (tiny_gemma_eye, "gemma3"), (tiny_qwen_eye, "qwen2vl_merger"), (tiny_idefics, "idefics3")],
)
def test_projectors(tmp_path: Path, write: Any, kind: str) -> None:
    data = write(tmp_path / "p.gguf").read_bytes()
    finding = probe_gguf(io.BytesIO(data), len(data))
    assert (finding.kind, finding.architecture, finding.broken) == (ModelKind.PROJECTOR, kind, None)
    assert finding.metadata["general.type"] == "mmproj"


def test_the_kind_may_stand_with_the_eyes_of_several_senses() -> None:
    finding = probed(VISION | {"clip.vision.projector_type": (STRING, "qwen2.5o")})
    assert finding.architecture == "qwen2.5o"


def test_what_cannot_be_used() -> None:
    assert "what kind" in (probed(VISION).broken or "")
    assert "no weights" in (probed(VISION | {"clip.projector_type": (STRING, "mlp")}).broken or "")
    with pytest.raises(NotMine, match="sounds"):
        probed({"general.architecture": (STRING, "clip"), "clip.has_audio_encoder": (BOOL, True)})
    with pytest.raises(NotMine, match="sounds"):
        probed({"general.architecture": (STRING, "clip")})
