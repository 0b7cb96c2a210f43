"""What a loaded checkpoint does not do twice: a job like the last one encodes and merges nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from server.core.image import Denoise, ImageRequest, InitImages, LoraRef, Seeds, Size
from server.core.models import ImageSettings
from server.core.prompt import plain
from server.engines.image import adapters
from server.engines.image.diffusion import DiffusionEngine, DiffusionLoader
from tests.support.golden_images import card_of, pictures
from tests.support.picture_files import file_of, noise_image
from tests.support.tiny_checkpoint import CHANNELS, TEXT, write_tiny_checkpoint

pytestmark = pytest.mark.torch

SETTINGS = ImageSettings(device="cpu", dtype="float32", threads=1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiffusionEngine]:
    path = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")
    engine = DiffusionLoader().load(card_of(path), SETTINGS, lambda fraction: None)
    yield engine
    engine.close()


@pytest.fixture
def lora(tmp_path: Path) -> LoraRef:
    names = {"lora_unet_mid_block_attentions_0_proj_in": CHANNELS, "lora_te_text_model_encoder_layers_0_mlp_fc1": TEXT}
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, width in names.items():
        out = width if "unet" in name else 4 * width
        tensors[f"{name}.lora_up.weight"] = torch.randn(out, 2, generator=generator)
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, width, generator=generator)
    save_file(tensors, str(tmp_path / "x.safetensors"))
    return LoraRef(name="x", path=str(tmp_path / "x.safetensors"))


class Counts:
    """How often the parts of a checkpoint worked, and LoRA files were read, since the last look."""

    def __init__(self, engine: DiffusionEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        assert engine._parts is not None
        vae: Any = engine._parts.vae_module
        self.text = self.encoder = self.loras = 0
        self._hooks = [
            engine._parts.text.towers[0].register_forward_hook(lambda *_: self._count("text")),
            vae.encoder.register_forward_hook(lambda *_: self._count("encoder")),
        ]
        read = adapters.read_groups

        def counting(*args: Any, **fields: Any) -> Any:
            self._count("loras")
            return read(*args, **fields)

        monkeypatch.setattr(adapters, "read_groups", counting)

    def take(self) -> tuple[bool, bool, bool]:
        """Return whether prompts and pictures were encoded and LoRAs read, and begin anew."""
        found = self.text > 0, self.encoder > 0, self.loras > 0
        self.text = self.encoder = self.loras = 0
        return found

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _count(self, name: str) -> None:
        setattr(self, name, getattr(self, name) + 1)


@pytest.fixture
def counts(engine: DiffusionEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    counts = Counts(engine, monkeypatch)
    yield counts
    counts.close()


def request(**fields: Any) -> ImageRequest:
    base = ImageRequest(
        model="tiny",
        prompt=plain("a cat"),
        negative=plain("grey"),
        size=Size(32, 32),
        seeds=Seeds(first=7),
        denoise=Denoise(steps=2),
    )
    return msgspec.structs.replace(base, **fields)


def test_only_what_changed_is_done_again(engine: DiffusionEngine, counts: Counts, lora: LoraRef) -> None:
    old = InitImages(images=(file_of(noise_image(32, 32)),), strength=0.6)
    new = msgspec.structs.replace(old, images=(file_of(noise_image(32, 32, seed=4)),))
    weaker = msgspec.structs.replace(lora, unet_weight=0.5)
    first = request(init=old, adapters=(lora,))
    jobs: list[tuple[ImageRequest, tuple[bool, bool, bool]]] = [
        (first, (True, True, True)),
        (first, (False, False, False)),
        (msgspec.structs.replace(first, seeds=Seeds(first=8)), (False, False, False)),
        (msgspec.structs.replace(first, prompt=plain("a dog")), (True, False, False)),
        (msgspec.structs.replace(first, init=new), (False, True, False)),
        (msgspec.structs.replace(first, adapters=(weaker,)), (True, False, True)),
        (msgspec.structs.replace(first, adapters=()), (True, False, False)),
        (first, (False, False, True)),
        (msgspec.structs.replace(first, tiling=True), (False, True, False)),
    ]
    for number, (work, expected) in enumerate(jobs):
        pictures(engine, work)
        assert (number, counts.take()) == (number, expected)


def test_what_was_kept_makes_the_same_picture(engine: DiffusionEngine, counts: Counts, lora: LoraRef) -> None:
    work = request(init=InitImages(images=(file_of(noise_image(32, 32, seed=5)),), strength=0.6), adapters=(lora,))
    (fresh,) = pictures(engine, work)
    pictures(engine, request())
    (kept,) = pictures(engine, work)
    assert (kept == fresh).all()
    assert not (pictures(engine, request(init=work.init))[0] == fresh).all()
