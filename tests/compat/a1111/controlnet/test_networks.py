"""Which file draws for which preprocessor."""

import pytest

from compat.a1111.controlnet import modules
from compat.a1111.controlnet.networks import WANTED, Have, lacking, network_of
from server.core.models import ModelCard, ModelId, ModelKind


def card(name: str, *, broken: str | None = None) -> ModelCard:
    return ModelCard(
        id=ModelId(name), name=name, kind=ModelKind.ANNOTATOR, files=(f"/models/annotators/{name}",), broken=broken
    )


NAMES = (
    *("ControlNetHED.pth", "lineart/sk_model.pth", "lineart/sk_model2.pth", "lineart_anime/netG.pth"),
    *("openpose/body_pose_model.pth", "openpose/hand_pose_model.pth", "dpt-large/model.safetensors"),
    *("zoedepth-nyu-kitti/model.safetensors", "depth-anything-small-hf/model.safetensors"),
    *("Depth-Anything-V2-Small-hf/model.safetensors", "depth_anything_vitl14.pth"),
)
HAVE = Have(annotators=[card(name) for name in NAMES])


@pytest.mark.parametrize(
    "module, name",
    [
        *((module, "ControlNetHED.pth") for module in ("hed", "hed_safe", "scribble_hed")),
        ("lineart", "lineart/sk_model.pth"),
        ("lineart_coarse", "lineart/sk_model2.pth"),
        ("lineart_anime", "lineart_anime/netG.pth"),
        ("openpose", "openpose/body_pose_model.pth"),
        ("depth", "dpt-large/model.safetensors"),
        ("depth_zoe", "zoedepth-nyu-kitti/model.safetensors"),
        ("depth_anything", "depth-anything-small-hf/model.safetensors"),
        ("depth_anything_v2", "Depth-Anything-V2-Small-hf/model.safetensors"),
    ],
)
def test_files_are_known_by_their_usual_names(module: str, name: str) -> None:
    found = network_of(module, HAVE)
    assert found is not None
    assert found.name == name
    assert lacking(module, HAVE) == ""


def test_other_modules_have_none() -> None:
    assert network_of("canny", HAVE) is None
    assert network_of("openpose_full", HAVE) is None


@pytest.mark.parametrize("module", sorted(WANTED))
def test_what_is_not_there_is_named(module: str) -> None:
    assert "models/annotators" in lacking(module, Have())


def test_one_that_can_be_used_goes_before_a_broken_one() -> None:
    broken, good = card("ControlNetHED.pth", broken="a pickle"), card("sub/ControlNetHED.safetensors")
    assert network_of("hed", Have(annotators=[broken, good])) == good
    assert "a pickle" in lacking("hed", Have(annotators=[broken]))


def test_the_work_names_the_file() -> None:
    module = modules.find("depth_midas")
    assert module is not None
    work = modules.preprocessing(module, HAVE, resolution=384, thresholds=(0.5, 0.5))
    assert (work.module, work.resolution) == ("depth", 384)
    assert work.file.endswith("dpt-large/model.safetensors")


def test_the_listing_marks_what_is_there() -> None:
    detail = modules.listing(HAVE, labels=True).module_detail
    assert detail["depth_midas"].unavailable is None
    assert detail["softedge_hed"].unavailable is None
    assert detail["dw_openpose_full"].unavailable
    assert "ControlNetHED.pth" in (modules.listing(Have(), labels=True).module_detail["softedge_hed"].unavailable or "")
