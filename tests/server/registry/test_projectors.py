"""Which projector belongs to which model."""

from pathlib import Path

import pytest

from server.core.models import ModelCard, ModelId, ModelKind, TextFacts
from server.registry.catalog import Catalog
from server.registry.hashes import HashCache
from server.registry.projectors import base_name, with_projectors
from tests.support.tiny_gguf import tiny_gguf
from tests.support.tiny_projector import tiny_llava


def model(name: str, *, pooling: str = "") -> ModelCard:
    path = Path("/m") / name
    return ModelCard(
        id=ModelId(path.stem),
        name=name,
        kind=ModelKind.TEXT,
        files=(f"{path}.gguf",),
        text=TextFacts(pooling=pooling),
    )


def projector(name: str, broken: str | None = None) -> ModelCard:
    path = f"/m/{name}.gguf"
    return ModelCard(id=ModelId(name), name=f"{name}.gguf", kind=ModelKind.PROJECTOR, files=(path,), broken=broken)


def found(cards: list[ModelCard], chosen: dict[str, str] | None = None) -> dict[str, str]:
    """Return the projector's stem for each model that has one."""
    told = with_projectors(cards, chosen or {})
    return {card.id: Path(card.projector).stem for card in told if card.projector}


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("gemma-3-4b-it-Q4_K_M", "gemma-3-4b-it"),
        ("mmproj-gemma-3-4b-it-f16", "gemma-3-4b-it"),
        ("gemma-3-4b-it-mmproj-Q8_0", "gemma-3-4b-it"),
        ("gemma-3-4b-it.mmproj", "gemma-3-4b-it"),
        ("mmproj-model-f16", ""),
        ("mmproj-F16", ""),
        ("mmproj", ""),
        ("llava-v1.5-7b-mmproj-model-f16", "llava-v1.5-7b"),
        ("Qwen2.5-VL-7B-Instruct-UD-Q4_K_XL", "qwen2.5-vl-7b-instruct"),
        ("big-IQ4_NL-00001-of-00003", "big"),
        ("SmolVLM_256M-BF16", "smolvlm-256m"),
        ("q8 model", "q8 model"),
    ],
)
def test_base_names(stem: str, expected: str) -> None:
    assert base_name(stem) == expected


@pytest.mark.parametrize(
    ("models", "projectors", "expected"),
    [
        (["a-Q4_0"], ["mmproj-a-f16"], {"a-Q4_0": "mmproj-a-f16"}),
        (["a-Q4_0", "a-Q8_0"], ["mmproj-F16"], {"a-Q4_0": "mmproj-F16", "a-Q8_0": "mmproj-F16"}),
        (["a-Q4_0", "b-Q4_0"], ["mmproj-F16"], {}),
        (["a-Q4_0", "b-Q4_0"], ["mmproj-b-F16"], {"b-Q4_0": "mmproj-b-F16"}),
        (["a-Q4_0"], ["mmproj-b-F16"], {}),
        (["g-it-Q4_0", "g-it-qat-Q4_0"], ["mmproj-g-it"], {"g-it-Q4_0": "mmproj-g-it", "g-it-qat-Q4_0": "mmproj-g-it"}),
        (["vl-2b-Q4_0", "vl-7b-Q4_0"], ["mmproj-vl"], {}),
        (["a-Q4_0"], ["mmproj-F16", "mmproj-a-Q8_0"], {"a-Q4_0": "mmproj-a-Q8_0"}),
        (["a"], ["mmproj-a-Q8_0", "mmproj-a-F16", "mmproj-a-F32", "mmproj-a-Q4_0"], {"a": "mmproj-a-F16"}),
        (["ab-Q4_0"], ["mmproj-a-F16"], {}),
        (["A-Q4_0"], ["mmproj-a-F16"], {"A-Q4_0": "mmproj-a-F16"}),
    ],
)
def test_by_name(models: list[str], projectors: list[str], expected: dict[str, str]) -> None:
    assert found([*map(model, models), *map(projector, projectors)]) == expected


def test_only_in_one_folder_only_whole_ones_and_only_for_writers() -> None:
    assert found([model("sub/a-Q4_0"), projector("mmproj-a")]) == {}
    assert found([model("a-Q4_0"), projector("mmproj-a", broken="cut short")]) == {}
    assert found([model("a-Q4_0", pooling="mean"), projector("mmproj-a")]) == {}
    both = [model("a-Q4_0"), model("e-Q4_0", pooling="mean"), projector("mmproj")]
    assert found(both) == {"a-Q4_0": "mmproj"}


def test_the_configuration_wins() -> None:
    cards = [model("a-Q4_0"), model("b-Q4_0"), projector("mmproj-a")]
    assert found(cards, {"a-Q4_0": "none"}) == {}
    assert found(cards, {"": "none"}) == {}
    assert found(cards, {"": "none", "A-q4_0": "other.gguf"}) == {"a-Q4_0": "other"}
    told = with_projectors(cards, {"b-Q4_0": "eyes/mmproj.gguf", "a-Q4_0": "/far/mmproj.gguf"})
    assert [card.projector for card in told[:2]] == ["/far/mmproj.gguf", "/m/eyes/mmproj.gguf"]


def test_a_catalog_pairs_files(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    folder.mkdir()
    tiny_gguf(folder / "seer-Q4_0.gguf")
    eyes = tiny_llava(folder / "mmproj-seer.gguf")
    (folder / "mmproj-broken.gguf").write_bytes(eyes.read_bytes()[:2000])
    catalog = Catalog([tmp_path], hashes=HashCache())
    catalog.scan()
    (seer,) = [card for card in catalog.cards(ModelKind.TEXT) if card.broken is None]
    assert (seer.id, seer.projector) == ("seer-Q4_0", str(eyes))
    (card,) = catalog.cards(ModelKind.PROJECTOR)
    assert (card.id, card.kind, card.architecture, card.runtime) == ("mmproj-seer", ModelKind.PROJECTOR, "mlp", None)
    assert card.text is not None and card.text.parameters > 1000
