"""Whether parts make a model, and what it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from server.core.ggml.checkpoint import Checkpoint, assemble, facts, parts_of, training
from server.core.ggml.reading import GgmlError, Part, read_part
from tests.support.ggml_writer import GGJT1, GGJT3, GGML, Q4_0, Q8_0, Era, entries, tiny_weights, write_ggml


def parts(folder: Path, tensors: Mapping[str, Any] | None = None, **options: Any) -> list[Part]:
    known = entries()
    weights = tiny_weights(len(known)) if tensors is None else tensors
    written = write_ggml(folder / "x.bin", weights, known, **{"heads": 4, **options})
    found = []
    for path in sorted(folder.glob(f"{written.path.name}*")):
        with path.open("rb", buffering=0) as file:
            found.append(read_part(file, path.stat().st_size))
    return found


def model(folder: Path, **options: Any) -> Checkpoint:
    return assemble(parts(folder, **options))


def test_figures_come_from_header_and_shapes(tmp_path: Path) -> None:
    weights = tiny_weights(len(entries()), width=64, kv_heads=2)
    told = facts(model(tmp_path, tensors=weights), "x.bin")
    assert (told.layers, told.width, told.heads, told.kv_heads, told.key_length) == (2, 64, 4, 2, 16)
    assert told.vocabulary == len(entries())
    assert told.parameters == sum(tensor.size for tensor in weights.values())
    assert (told.quantisation, told.container) == ("Q4_0", "ggjt v3")


def test_the_size_is_that_of_what_is_loaded(tmp_path: Path) -> None:
    """Scales shrink to 16 bits: 18 bytes for 20 of the first days."""
    old, new = (model(tmp_path, era=era, code=Q4_0) for era in (GGML, GGJT3))
    assert old.weights_size() == new.weights_size() == sum(part.size for each in new.tensors for part in each.records)
    assert sum(part.size for each in old.tensors for part in each.records) > old.weights_size()


@pytest.mark.parametrize("count", [2, 4])
def test_parts_join_to_the_shapes_of_the_whole(tmp_path: Path, count: int) -> None:
    weights = tiny_weights(len(entries()) // count * count, width=128)
    known = entries()[: len(entries()) // count * count]
    written = write_ggml(tmp_path / "x.bin", weights, known, heads=4, era=GGML, parts=count)
    found = []
    for path in [written.path, *(tmp_path / f"x.bin.{number}" for number in range(1, count))]:
        with path.open("rb", buffering=0) as file:
            found.append(read_part(file, path.stat().st_size))
    assert parts_of(found[0]) == count
    joined = {tensor.name: (tensor.columns, tensor.rows) for tensor in assemble(found).tensors}
    assert joined == {name: (tensor.shape[-1], tensor.size // tensor.shape[-1]) for name, tensor in weights.items()}


def test_parts_of_different_models_are_not_joined(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    known = entries()[: len(entries()) // 2 * 2]
    for folder, heads in (("a", 4), ("b", 8)):
        write_ggml(
            tmp_path / folder / "x.bin", tiny_weights(len(known), width=128), known, heads=heads, era=GGML, parts=2
        )
    found = []
    for path in (tmp_path / "a" / "x.bin", tmp_path / "b" / "x.bin.1"):
        with path.open("rb", buffering=0) as file:
            found.append(read_part(file, path.stat().st_size))
    with pytest.raises(GgmlError, match="same model"):
        assemble(found)


def without(name: str) -> dict[str, Any]:
    return {key: tensor for key, tensor in tiny_weights(len(entries())).items() if key != name}


@pytest.mark.parametrize("name", ["output.weight", "blk.1.ffn_down.weight", "blk.0.attn_norm.weight"])
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(GgmlError, match="missing"):
        model(tmp_path, tensors=without(name))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blk.0.attn_q.weight", (32, 64)),
        ("blk.1.attn_k.weight", (32, 64)),
        ("blk.1.ffn_up.weight", (64, 64)),
        ("blk.0.ffn_down.weight", (64, 64)),
        ("output.weight", (320, 64)),
        ("output_norm.weight", (32,)),
        ("blk.0.ffn_norm.weight", (64, 64)),
        ("blk.0.attn_k.weight", (24, 64)),
        ("token_embd.weight", (320, 64)),
    ],
)
def test_a_shape_that_contradicts_is_refused(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    weights = tiny_weights(len(entries())) | {name: np.ones(shape, np.float32)}
    with pytest.raises(GgmlError):
        model(tmp_path, tensors=weights)


def test_a_width_that_is_no_multiple_of_its_parts_is_refused(tmp_path: Path) -> None:
    (first,) = parts(tmp_path)
    wide = msgspec.structs.replace(first, hyper=first.hyper._replace(width=96))
    with pytest.raises(GgmlError, match="columns"):
        parts_of(wide)


@pytest.mark.parametrize(
    ("era", "kv_heads", "name", "context", "epsilon"),
    [
        (GGJT3, 4, "wizard.ggmlv3.q4_0.bin", 2048, 1e-6),
        (GGJT3, 4, "llama-2-7b-chat.ggmlv3.q4_0.bin", 4096, 1e-5),
        (GGJT3, 4, "Nous-Hermes-Llama2-13b.ggmlv3.q4_0.bin", 4096, 1e-5),
        (GGJT3, 4, "llama-25b.bin", 2048, 1e-6),
        (GGJT3, 2, "x.bin", 4096, 1e-5),
        (GGJT1, 4, "llama-2.bin", 2048, 1e-6),
    ],
)
def test_what_no_header_says(tmp_path: Path, era: Era, kv_heads: int, name: str, context: int, epsilon: float) -> None:
    weights = tiny_weights(len(entries()), kv_heads=kv_heads)
    told = training(model(tmp_path, tensors=weights, era=era), name)
    assert (told.context, told.epsilon) == (context, epsilon)


def test_the_quantisation_is_that_of_the_weights(tmp_path: Path) -> None:
    mixed = {name: Q8_0 for name in tiny_weights(len(entries())) if "norm" not in name}
    assert facts(model(tmp_path, mixed=mixed), "x").quantisation == "Q8_0"
