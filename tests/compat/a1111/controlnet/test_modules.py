import pytest

from compat.a1111.controlnet import modules
from compat.a1111.controlnet.module_table import MODULES
from compat.a1111.controlnet.modules import find, listing, ordered, resolution_of, threshold_of, working_resolution
from compat.a1111.controlnet.networks import WANTED, Have
from server.engines.image.preprocess.modules import MODULES as ENGINE


def test_what_works_here_is_what_the_engine_has() -> None:
    works = {modules.core_name(module) for module in MODULES if not module.reason}
    assert works == set(ENGINE) | set(WANTED)
    assert not set(ENGINE) & set(WANTED)
    assert {module.name for module in MODULES if module.needs_mask} > {"inpaint", "inpaint_only"}


def test_names_and_labels_are_unique_and_find_their_module() -> None:
    words = [word for module in MODULES for word in {module.name, module.shown}]
    assert len(words) == len(set(words))
    assert find("softedge_pidinet") is find("pidinet")
    assert find("inpaint_global_harmonious") is find("inpaint")
    assert find("Canny") is None


def test_none_comes_first_then_the_default_of_the_type() -> None:
    assert [module.name for module in ordered("Canny")] == ["none", "canny", "invert"]
    assert [module.name for module in ordered("Shuffle")] == ["none", "shuffle"]
    assert [module.shown for module in ordered("Tile")] == [
        *("none", "tile_resample", "tile_colorfix+sharp", "tile_colorfix", "blur_gaussian"),
    ]
    assert len(ordered()) == len(MODULES)
    assert ordered()[0].name == "none"


def test_the_listing_says_what_does_not_work_and_why() -> None:
    named, labelled = listing(Have(), labels=False), listing(Have(sees=True), labels=True)
    assert {"inpaint_only+lama", "tile_resample", "canny"} <= set(named.module_list)
    assert "softedge_hed" in labelled.module_list
    assert "hed" not in labelled.module_list
    assert set(named.module_detail) == set(named.module_list)
    canny, pose = named.module_detail["canny"], named.module_detail["openpose_full"]
    assert canny.unavailable is None
    assert pose.unavailable == "it needs a neural network that this server does not have"
    assert [(one.name, one.value, one.min, one.max) for one in canny.sliders] == [
        ("Resolution", 512, 64, 2048),
        ("Low Threshold", 100, 1, 255),
        ("High Threshold", 200, 1, 255),
    ]
    assert "clip_vision" in (named.module_detail["ip-adapter-auto"].unavailable or "")
    assert labelled.module_detail["ip-adapter-auto"].unavailable is None
    assert "face detector" in (labelled.module_detail["ip-adapter_face_id"].unavailable or "")
    assert named.module_detail["reference_only"].model_free
    assert named.module_detail["none"].sliders == []


@pytest.mark.parametrize(
    "module, asked, resolution, a, works_at",
    [
        ("canny", -1, 512, 100, 512),
        ("canny", 128, 128, 128, 128),
        ("canny", 4096, 512, 100, 512),
        ("canny", None, 512, 100, 512),
        ("softedge_anyline", -1, 1280, 2, 1280),
        ("none", -1, 0.5, 0.5, 512),
        ("none", 512, 0.5, 0.5, 512),
        ("shuffle", 64, 0.5, 0.5, 512),
        ("tile_resample", 2, 0.5, 2, 512),
    ],
)
def test_numbers_out_of_range_are_the_modules_own(
    module: str, asked: float | None, resolution: float, a: float, works_at: int
) -> None:
    found = find(module)
    assert found is not None
    assert resolution_of(found, asked) == resolution
    assert threshold_of(found, 0, asked) == a
    assert working_resolution(found, resolution) == works_at


def test_modules_that_give_no_picture() -> None:
    assert all(find(name) is not None for name in modules.UNSUPPORTED)
