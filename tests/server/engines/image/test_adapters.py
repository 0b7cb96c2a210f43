from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from server.core.image import LoraRef
from server.engines.image.adapters import Adapters
from server.engines.image.checkpoint import Checkpoint, bare_text_model
from tests.support.tiny_checkpoint import CHANNELS, TEXT

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
    before, adapters = {name: t.clone() for name, t in weights(tiny).items()}, Adapters(tiny, allow_pickle=False)
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
    adapters.use([ref(lora)])
    merged = weights(tiny)[QUERY]
    adapters.use([ref(lora)])
    assert weights(tiny)[QUERY] is merged or weights(tiny)[QUERY].data_ptr() == merged.data_ptr()
    adapters.use([ref(lora, unet=0.5)])
    assert weights(tiny)[QUERY].data_ptr() != merged.data_ptr()
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
