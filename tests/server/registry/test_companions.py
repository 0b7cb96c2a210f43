import pytest

from server.core.models import ImageFacts, ModelCard, ModelId, ModelKind
from server.registry.companions import preview_decoder


def card(family: str) -> ModelCard:
    return ModelCard(
        id=ModelId("m"), name="m.safetensors", kind=ModelKind.CHECKPOINT, files=("/m",), image=ImageFacts(family=family)
    )


def decoder(name: str, broken: str | None = None) -> ModelCard:
    return ModelCard(id=ModelId(name), name=name, kind=ModelKind.PREVIEW, files=(f"/a/{name}",), broken=broken)


ALL = tuple(
    decoder(name)
    for name in ("taesd3_decoder.pth", "taesd_encoder.pth", "taesdxl_decoder.pth", "taesd_decoder.pth", "vaeapprox.pt")
)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("sd1", "/a/taesd_decoder.pth"),
        ("sd2", "/a/taesd_decoder.pth"),
        ("sdxl", "/a/taesdxl_decoder.pth"),
        ("sdxl_refiner", "/a/taesdxl_decoder.pth"),
        ("sd3", None),
        ("", None),
    ],
)
def test_the_decoder_of_a_family(family: str, expected: str | None) -> None:
    assert preview_decoder(card(family), ALL) == expected


def test_only_decoders_that_can_be_read() -> None:
    assert preview_decoder(card("sd1"), (decoder("taesd_decoder.pth", broken="a pickle"),)) is None
    assert preview_decoder(card("sd1"), (decoder("taesd_encoder.pth"),)) is None
    assert preview_decoder(card("sd1"), ()) is None


def test_a_card_without_facts_has_none() -> None:
    plain = ModelCard(id=ModelId("m"), name="m", kind=ModelKind.CHECKPOINT, files=("/m",))
    assert preview_decoder(plain, ALL) is None
