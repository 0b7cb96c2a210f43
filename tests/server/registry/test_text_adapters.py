"""Which adapters a text model is loaded with: by place and header, or by the configuration."""

import msgspec
import pytest

from server.core.models import Adapter, ModelCard, ModelId, ModelKind, TextFacts
from server.registry.text_adapters import chosen_adapters, fitting_adapters


def model(name: str = "m.gguf", **facts: object) -> ModelCard:
    figures = {"width": 64, "layers": 4, **facts}
    return ModelCard(
        id=ModelId("m"),
        name=name,
        kind=ModelKind.TEXT,
        files=(f"/models/text/{name}",),
        architecture="llama",
        text=TextFacts(**figures),  # type: ignore[arg-type]
    )


def adapter(path: str, *, width: int = 64, layers: int = 4, **fields: object) -> ModelCard:
    given = {"architecture": "llama", "text": TextFacts(width=width, layers=layers), **fields}
    stem = path.rsplit("/", 1)[-1].removesuffix(".gguf")
    name = path.removeprefix("/models/text/")
    return ModelCard(id=ModelId(stem), name=name, kind=ModelKind.TEXT_LORA, files=(path,), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "path", "there"),
    [
        ("m.gguf", "/models/text/a.gguf", True),
        ("m.gguf", "/models/text/lora/a.gguf", True),
        ("m.gguf", "/models/text/LoRA/a.gguf", True),
        ("m.gguf", "/models/text/other/a.gguf", False),
        ("m.gguf", "/models/lora/a.gguf", False),
        ("sub/m.gguf", "/models/text/sub/a.gguf", True),
        ("sub/m.gguf", "/models/text/sub/lora/a.gguf", True),
        ("sub/m.gguf", "/models/text/lora/a.gguf", True),
        ("sub/m.gguf", "/models/text/a.gguf", False),
    ],
)
def test_where_adapters_of_a_model_lie(name: str, path: str, there: bool) -> None:
    assert fitting_adapters(model(name), [adapter(path)]) == ((Adapter(name="a", file=path),) if there else ())


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, True),
        ({"layers": 2}, True),
        ({"layers": 5}, False),
        ({"width": 0}, True),
        ({"width": 32}, False),
        ({"architecture": "qwen2"}, False),
        ({"broken": "cut"}, False),
        ({"text": None}, False),
    ],
)
def test_which_adapters_fit(fields: dict[str, object], fits: bool) -> None:
    found = fitting_adapters(model(), [adapter("/models/text/a.gguf", **fields)])  # type: ignore[arg-type]
    assert bool(found) == fits


def test_models_that_make_vectors_have_none() -> None:
    assert fitting_adapters(model(pooling="mean"), [adapter("/models/text/a.gguf")]) == ()


def test_the_configuration_names_adapters_in_its_own_order() -> None:
    cards = {"a": adapter("/x/a.gguf"), "b": adapter("/y/b.gguf", broken="cut short")}
    wanted = ("b", Adapter(name="a", scale=0.5), Adapter(name="own", file="/z.gguf"), "c")
    found = chosen_adapters(wanted, cards.get)
    assert [(item.name, item.scale, item.file) for item in found] == [
        ("b", 0.0, "/y/b.gguf"),
        ("a", 0.5, "/x/a.gguf"),
        ("own", 0.0, "/z.gguf"),
        ("c", 0.0, ""),
    ]
    assert [bool(item.problem) for item in found] == [True, False, False, True]


def test_what_is_found_by_another_name_has_the_name_of_its_card() -> None:
    card = msgspec.structs.replace(adapter("/x/a.gguf"), id=ModelId("lora/a"))
    (found,) = chosen_adapters(("a.gguf",), lambda _: card)
    assert found.name == "lora/a"
