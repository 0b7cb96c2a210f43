import io
import logging
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.vae import DecoderTiny
from PIL import Image
from safetensors.torch import save_file

from server.core.errors import LoadFailed
from server.engines.image.placement import Placement
from server.engines.image.preview import Previews, preview
from server.engines.image.tiny_decoder import BLOCKS, load_decoder
from tests.server.engines.image.conftest import FLOAT32

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
PLACE = Placement(device=CPU, precision=FLOAT32)
LATENTS = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def model() -> DecoderTiny:
    torch.manual_seed(1)
    return DecoderTiny(4, 3, BLOCKS, (8,) * 4, 2, "relu", "nearest")


def by_author(model: DecoderTiny) -> dict[str, torch.Tensor]:
    """Name the tensors as the author's files do: no `layers.`, and one layer more at the front."""
    named = {}
    for name, tensor in model.state_dict().items():
        _, number, rest = name.split(".", 2)
        named[f"{int(number) + 1}.{rest}"] = tensor
    return named


def by_library(model: DecoderTiny) -> dict[str, torch.Tensor]:
    encoder = {"encoder.layers.0.weight": torch.zeros(8, 3, 3, 3)}
    return {f"decoder.{name}": tensor for name, tensor in model.state_dict().items()} | encoder


@pytest.mark.parametrize("spelling", [by_author, by_library])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_both_spellings_in_both_kinds_of_files(
    model: DecoderTiny, tmp_path: Path, spelling: object, suffix: str
) -> None:
    assert callable(spelling)
    path = tmp_path / f"taesd_decoder.{suffix}"
    if suffix == "pth":
        torch.save(spelling(model), path)
    else:
        save_file(spelling(model), str(path))
    picture = load_decoder(str(path), CPU, allow_pickle=True).decode(LATENTS[0])
    assert picture.shape == (3, 24, 40)
    with torch.no_grad():
        assert torch.equal(picture, model(LATENTS[:1])[0])


def test_pickles_only_when_they_are_allowed(model: DecoderTiny, tmp_path: Path) -> None:
    torch.save(by_author(model), tmp_path / "taesd.pth")
    with pytest.raises(LoadFailed, match="pickle"):
        load_decoder(str(tmp_path / "taesd.pth"), CPU, allow_pickle=False)


@pytest.mark.parametrize(
    "tensors",
    [
        {"x": torch.zeros(1)},
        {"1.weight": torch.zeros(8, 4, 3, 3)},
        {"1.weight": torch.zeros(8, 16, 3, 3), "1.bias": torch.zeros(8)},
    ],
)
def test_other_files_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, str(tmp_path / "x.safetensors"))
    with pytest.raises(LoadFailed, match="TAESD"):
        load_decoder(str(tmp_path / "x.safetensors"), CPU, allow_pickle=False)


def test_previews_use_it(model: DecoderTiny, tmp_path: Path) -> None:
    save_file(by_author(model), str(tmp_path / "t.safetensors"))
    shown = Previews(str(tmp_path / "t.safetensors"), PLACE, allow_pickle=False).of(LATENTS)
    assert Image.open(io.BytesIO(shown)).size == (80, 24)
    assert shown != preview(LATENTS)


@pytest.mark.parametrize("exists", [True, False])
def test_previews_do_without_a_damaged_one(tmp_path: Path, caplog: pytest.LogCaptureFixture, exists: bool) -> None:
    path = tmp_path / "t.safetensors"
    if exists:
        path.write_bytes(b"no decoder")
    previews = Previews(str(path), PLACE, allow_pickle=False)
    with caplog.at_level(logging.WARNING):
        assert [previews.of(LATENTS) for _ in range(2)] == [preview(LATENTS)] * 2
    assert len(caplog.records) == 1


def test_previews_without_a_decoder_are_the_linear_map() -> None:
    assert Previews(None, PLACE, allow_pickle=False).of(LATENTS) == preview(LATENTS)
