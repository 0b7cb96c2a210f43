from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from server.core.image import LoraRef
from server.engines.image.adapters import Adapters
from server.engines.image.checkpoint import Checkpoint, Precision, bare_text_model, load
from tests.support.tiny_checkpoint import CHANNELS, TEXT, write_tiny_checkpoint

pytestmark = pytest.mark.torch

UNET = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
WORDS = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


def ref(path: Path, text: float = 1.0, unet: float = 1.0) -> LoraRef:
    return LoraRef(name=path.stem, path=str(path), text_weight=text, unet_weight=unet)


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    path = tmp_path / "one.safetensors"
    tensors = {}
    for name, width in ((UNET, CHANNELS), (WORDS, TEXT)):
        tensors[f"{name}.lora_up.weight"] = torch.full((width, 1), 0.5)
        tensors[f"{name}.lora_down.weight"] = torch.ones(1, width)
        tensors[f"{name}.alpha"] = torch.tensor(1.0)
    save_file(tensors, str(path))
    return path


def weights(tiny: Checkpoint) -> dict[str, torch.Tensor]:
    """Return copies of all weights as they are now."""
    return {name: tensor.clone() for name, tensor in data(tiny).items()}


def data(tiny: Checkpoint) -> dict[str, torch.Tensor]:
    modules = {"unet": tiny.unet, "text": bare_text_model(tiny.text_encoder)}
    return {f"{part}.{name}": p.data for part, module in modules.items() for name, p in module.named_parameters()}


def gained(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return what was added to the changed weights (constant over each, as the LoRA here makes it)."""
    changed = {name: after[name] - before[name] for name in before if not torch.equal(before[name], after[name])}
    assert all(torch.allclose(delta, delta.flatten()[0].expand_as(delta), atol=1e-6) for delta in changed.values())
    return {name: round(float(delta.flatten()[0]), 4) for name, delta in changed.items()}


QUERY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
TEXT_QUERY = "text.encoder.layers.0.self_attn.q_proj.weight"


def test_both_parts_change_by_their_own_weight(tiny: Checkpoint, lora: Path) -> None:
    before, adapters = weights(tiny), Adapters(tiny, allow_pickle=False)
    assert adapters.use([ref(lora, text=0.4, unet=2.0)]) == ()
    assert gained(before, weights(tiny)) == {QUERY: 1.0, TEXT_QUERY: 0.2}
    adapters.clear()


def test_removal_is_exact(tiny: Checkpoint, lora: Path) -> None:
    before, adapters = weights(tiny), Adapters(tiny, allow_pickle=False)
    for strength in (0.3, 1.7, -2.0):
        adapters.use([ref(lora, strength, strength), ref(lora, 0.1, 0.1)])
    adapters.use([])
    assert all(torch.equal(before[name], found) for name, found in weights(tiny).items())


def test_several_add_up_in_order(tiny: Checkpoint, lora: Path) -> None:
    before, adapters = weights(tiny), Adapters(tiny, allow_pickle=False)
    adapters.use([ref(lora, 1.0, 1.0), ref(lora, 0.0, -0.4)])
    assert gained(before, weights(tiny)) == {QUERY: 0.3, TEXT_QUERY: 0.5}
    adapters.clear()


def test_the_same_set_is_not_merged_again(tiny: Checkpoint, lora: Path) -> None:
    adapters = Adapters(tiny, allow_pickle=False)
    before = weights(tiny)
    adapters.use([ref(lora)])
    data(tiny)[QUERY].zero_()
    adapters.use([ref(lora)])
    assert not weights(tiny)[QUERY].any(), "nobody has touched it"
    adapters.use([ref(lora, unet=0.5)])
    assert gained(before, weights(tiny)) == {QUERY: 0.25, TEXT_QUERY: 0.5}
    adapters.clear()


def test_what_is_left_out_is_noted(tiny: Checkpoint, lora: Path, tmp_path: Path) -> None:
    before, adapters = weights(tiny), Adapters(tiny, allow_pickle=False)
    foreign, odd = tmp_path / "foreign.safetensors", tmp_path / "odd.safetensors"
    save_file({"lora_unet_nowhere.lora_up.weight": torch.ones(1, 1)}, str(foreign))
    save_file({f"{UNET}.oft_blocks": torch.ones(1, 1, 1), f"{WORDS}.lora_up.weight": torch.ones(3, 1)}, str(odd))
    torch.save({"x": torch.ones(1)}, tmp_path / "pickled.pt")
    notes = adapters.use(
        [ref(tmp_path / "gone.safetensors"), ref(foreign), ref(odd), ref(tmp_path / "pickled.pt"), ref(lora)]
    )
    assert [note.split("'")[1] for note in notes] == ["gone", "foreign", "odd", "pickled"]
    assert gained(before, weights(tiny)) == {QUERY: 0.5, TEXT_QUERY: 0.5}
    assert adapters.use([ref(lora)]) == ()
    adapters.clear()


@pytest.fixture
def mapped(tmp_path: Path) -> Checkpoint:
    """A checkpoint whose file has the precision that it runs in: its weights are views of the file."""
    half = load_file(str(write_tiny_checkpoint(tmp_path / "half.safetensors")))
    save_file({name: tensor.float() for name, tensor in half.items()}, str(tmp_path / "full.safetensors"))
    full = Precision(model=torch.float32, vae=torch.float32)
    return load(
        tmp_path / "full.safetensors", precision=full, vae_path=None, allow_pickle=False, report=lambda fraction: None
    )


def test_converted_weights_change_where_they_lie_and_come_back_to_the_last_bit(tiny: Checkpoint, lora: Path) -> None:
    before = weights(tiny)
    places = {name: t.data_ptr() for name, t in data(tiny).items()}
    adapters = Adapters(tiny, allow_pickle=False)
    for text, unet in ((1.0, 0.3), (0.5, 2.0), (0.0, 1.0)):
        adapters.use([ref(lora, text, unet)])
        assert gained(before, weights(tiny)) == {
            **({TEXT_QUERY: round(0.5 * text, 4)} if text else {}),
            QUERY: round(0.5 * unet, 4),
        }
        assert {name: t.data_ptr() for name, t in data(tiny).items()} == places
    assert adapters.held == 2 * CHANNELS**2, "kept in the file's own precision"
    adapters.use([])
    assert all(torch.equal(before[name], t) for name, t in weights(tiny).items())
    assert adapters.held == 0


def test_weights_of_the_mapped_file_are_not_written_to(mapped: Checkpoint, lora: Path) -> None:
    given, values, adapters = data(mapped), weights(mapped), Adapters(mapped, allow_pickle=False)
    for weight in (1.0, 2.0):
        adapters.use([ref(lora, 0.0, weight)])
        assert gained(values, weights(mapped)) == {QUERY: round(0.5 * weight, 4)}
        assert all(torch.equal(values[name], given[name]) for name in values), "the tensors that the file gave"
    adapters.clear()
    assert all(t.data_ptr() == given[name].data_ptr() for name, t in data(mapped).items())


def test_an_error_in_between_leaves_nothing_behind(
    tiny: Checkpoint, lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, adapters = weights(tiny), Adapters(tiny, allow_pickle=False)
    with monkeypatch.context() as patched:
        patched.setattr(adapters, "_change", _failing_after(adapters._change, 1))
        with pytest.raises(MemoryError):
            adapters.use([ref(lora)])
    adapters.use([])
    assert all(torch.equal(before[name], t) for name, t in weights(tiny).items())


def _failing_after(call: Callable[..., None], count: int) -> Callable[..., None]:
    calls = iter(range(count))

    def failing(*arguments: Any) -> None:
        if next(calls, None) is None:
            raise MemoryError
        call(*arguments)

    return failing
