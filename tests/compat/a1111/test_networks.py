import time
from typing import Any

import pytest

from compat.a1111.networks import Tag, cut_tags, embeddings_for, find_networks, mentioned_embeddings
from server.core.errors import Unsupported
from server.core.models import ModelKind
from tests.compat.a1111.asked import part

CARDS = (
    part("x.safetensors"),
    part("sub/y.safetensors", metadata={"ss_output_name": "made-by-me"}),
    part("z.safetensors", metadata={"ss_output_name": "shared"}),
    part("w.safetensors", metadata={"ss_output_name": "shared"}),
    part("broken.safetensors", broken="cut off"),
)


def weights(prompt: str) -> list[tuple[str, float, float]]:
    found = find_networks(cut_tags(prompt)[1], CARDS, ())
    return [(one.name, one.text_weight, one.unet_weight) for one in found.adapters]


@pytest.mark.parametrize(
    ("prompt", "rest", "tags"),
    [
        ("a <lora:x:0.8> b", "a  b", [Tag("lora", ("x", "0.8"))]),
        ("<foo:bar>", "", [Tag("foo", ("bar",))]),
        ("<a:b<c:d>e", "e", [Tag("a", ("b<c", "d"))]),
        ("a < b > c", "a < b > c", []),
        ("<lora:>", "<lora:>", []),
        ("<lora:x", "<lora:x", []),
        ("<a b:c>", "<a b:c>", []),
    ],
)
def test_tags_are_cut(prompt: str, rest: str, tags: list[Tag]) -> None:
    assert cut_tags(prompt) == (rest, tuple(tags))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<lora:x>", [("x", 1.0, 1.0)]),
        ("<lora:x:0.8>", [("x", 0.8, 0.8)]),
        ("<lyco:x:0:1>", [("x", 0.0, 1.0)]),
        ("<lora:x:te=0.5:unet=1.5>", [("x", 0.5, 1.5)]),
        ("<lora:x:unet=2>", [("x", 1.0, 2.0)]),
        ("<lora:y:1><lora:x:2>", [("y", 1.0, 1.0), ("x", 2.0, 2.0)]),
        ("<lora:made-by-me:1>", [("y", 1.0, 1.0)]),
        ("<lora:shared:1>", []),
        ("<lora:z:1>", [("z", 1.0, 1.0)]),
        ("<lora:X:1>", []),
        ("<lora:broken:1>", []),
        ("<lora:x:1><lora:x:2>", [("x", 2.0, 2.0), ("x", 2.0, 2.0)]),
        ("<lora:x:heavy><lora:y:1>", []),
        ("<lora:x:nan>", []),
        ("<other:x:1>", []),
    ],
)
def test_weights(prompt: str, expected: list[tuple[str, float, float]]) -> None:
    assert weights(prompt) == expected


def test_what_is_missing_is_told() -> None:
    assert find_networks(cut_tags("<lora:nope:1> <lora:x:1>")[1], CARDS, ()).missing == ("nope",)
    assert find_networks(cut_tags("<lora:x:heavy>")[1], CARDS, ()).missing == ("x",)


@pytest.mark.parametrize("prompt", ["<lora:x:1:1:4>", "<lora:x:1:dyn=4>"])
def test_a_number_of_ranks_is_refused(prompt: str) -> None:
    with pytest.raises(Unsupported):
        weights(prompt)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a good cat, bad", ["good", "bad"]),
        ("BAD, Good", ["bad", "good"]),
        ("goodness badly", []),
        ("(good:1.2)", ["good"]),
    ],
)
def test_embeddings_are_named_by_words(text: str, names: list[str]) -> None:
    cards: list[Any] = [part(f"{name}.pt", ModelKind.EMBEDDING) for name in ("bad", "good")]
    assert [one.name for one in mentioned_embeddings(text, cards)] == names


@pytest.mark.parametrize("hostile", ["<a:" * 20_000, "<" * 64_000, "<a:b" * 16_000 + ">", "<" + "a" * 64_000])
def test_hostile_tags_cost_little_time(hostile: str) -> None:
    began = time.process_time()
    cut_tags(hostile)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<hypernet:h>", [("h", 1.0)]),
        ("<hypernet:h:0.3> <hypernet:i:-1>", [("h", 0.3), ("i", -1.0)]),
        ("<hypernet:nope:1> <hypernet:i>", [("i", 1.0)]),
        ("<hypernet:h:much> <hypernet:i>", []),
        ("<hypernet:h:nan>", []),
        ("<lora:h:1>", []),
    ],
)
def test_hypernetworks(prompt: str, expected: list[tuple[str, float]]) -> None:
    cards = [part(name, ModelKind.HYPERNETWORK) for name in ("h.pt", "i.pt")]
    found = find_networks(cut_tags(prompt)[1], (), cards).hypernetworks
    assert [(ref.name, ref.multiplier) for ref in found] == expected


def test_embeddings_in_pictures_go_by_the_name_inside() -> None:
    cards = [part("file.png", ModelKind.EMBEDDING, metadata={"embedding.name": "my-style"})]
    assert [(ref.name, ref.path) for ref in embeddings_for(["a My-Style cat"], cards)] == [
        ("my-style", "/models/file.png")
    ]
    assert [one.name for one in mentioned_embeddings("my-style", cards)] == ["my-style"]
    assert embeddings_for(["a file"], cards) == ()
