import pytest

from compat.a1111.controlnet.models import control_types, find, titled
from server.core.models import ModelCard, ModelKind
from tests.compat.a1111.asked import part


def control(name: str, digest: str = "0123abcd", **fields: object) -> ModelCard:
    hashes = {"short_hashes": (digest,)} if digest else {}
    return part(f"{name}.safetensors", ModelKind.CONTROLNET, **hashes, **fields)


CARDS = [
    control("sub/control_v11p_sd15_canny"),
    control("control_sd15_canny", "89abcdef"),
    control("control_v11p_sd15_softedge", ""),
    control("t2iadapter_sketch"),
    control("None"),
    control("bad_canny", broken="damaged"),
]


def test_titles_are_names_with_old_hashes() -> None:
    assert list(titled(CARDS)) == [
        "control_sd15_canny [89abcdef]",
        "control_v11p_sd15_canny [0123abcd]",
        "control_v11p_sd15_softedge",
        "t2iadapter_sketch [0123abcd]",
    ]


@pytest.mark.parametrize(
    "word, name",
    [
        ("control_sd15_canny [89abcdef]", "control_sd15_canny"),
        ("control_sd15_canny [ffffffff]", "control_sd15_canny"),
        ("Control_SD15_Canny", "control_sd15_canny"),
        ("canny", "control_sd15_canny"),
        ("v11p_sd15_canny", "sub/control_v11p_sd15_canny"),
        ("softedge", "control_v11p_sd15_softedge"),
        ("depth", None),
        ("", None),
        ("bad", None),
    ],
)
def test_what_finds_a_model(word: str, name: str | None) -> None:
    found = find(word, CARDS)
    assert (None if found is None else found.name.removesuffix(".safetensors")) == name


def test_menus_by_type() -> None:
    types = control_types(CARDS).control_types
    assert list(types)[:4] == ["All", "Canny", "Depth", "IP-Adapter"]
    assert len(types) == 21
    canny = types["Canny"]
    assert canny.module_list == ["none", "canny", "invert (from white bg & black line)"]
    assert canny.model_list == ["None", "control_sd15_canny [89abcdef]", "control_v11p_sd15_canny [0123abcd]"]
    assert (canny.default_option, canny.default_model) == ("canny", "control_v11p_sd15_canny [0123abcd]")
    assert types["Scribble"].model_list == ["None", "t2iadapter_sketch [0123abcd]"]
    assert types["T2I-Adapter"].default_model == "t2iadapter_sketch [0123abcd]"
    assert (types["Depth"].default_option, types["Depth"].default_model) == ("depth_midas", "None")
    assert types["InstructP2P"].module_list == ["none"]
    assert types["Instant-ID"].default_option == "instant_id_face_keypoints"
    assert types["T2I-Adapter"].default_option == "t2ia_style_clipvision"
    assert (types["All"].default_option, types["All"].default_model) == ("none", "None")
    assert len(types["All"].model_list) == 5


def test_without_models() -> None:
    assert all(one.model_list == ["None"] for one in control_types([]).control_types.values())
