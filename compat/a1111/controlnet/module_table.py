"""The extension's preprocessors: names, labels, sliders, types. A table and nothing else.

A slider is (name, least, largest, step, value). `softedge_plain` is our own, for those that need networks.
"""

from typing import Final

import msgspec

Slider = tuple[str, float, float, float, float]

RESOLUTION: Final[Slider] = ("Resolution", 64, 2048, 8, 512)
FINE: Final[Slider] = ("Resolution", 64, 2048, 8, 1280)

NETWORK: Final = "it needs a neural network that this server does not have"
REFERENCE: Final = "following a reference picture is not offered yet"
VISION: Final = "what it makes of an image encoder is not offered yet"
ENCODER: Final = "it needs an image encoder, and none is there: put one (CLIP ViT-H or bigG) into models/clip_vision"
FACES: Final = "it needs a face detector, which this server does not have"
COLOUR_FIX: Final = "correcting colours in every step is not offered yet"


class Module(msgspec.Struct, frozen=True):
    """A preprocessor. `reason` is why it can never work here, "" when it may.

    One that `looks` gives no map: an image encoder sees the picture.
    """

    name: str
    tags: tuple[str, ...] = ()
    reason: str = ""
    label: str = ""
    priority: int = 0
    resolution: Slider | None = RESOLUTION
    sliders: tuple[Slider, ...] = ()
    model_free: bool = False
    needs_mask: bool = False
    looks: bool = False

    @property
    def shown(self) -> str:
        """The name that menus show."""
        return self.label or self.name


_FIDELITY: Slider = ("Style Fidelity (only for Balanced mode)", 0, 1, 0.01, 0.5)
_GAMMA: Slider = ("Gamma Correction", 0.1, 2, 0.001, 1)
_SAFE: Slider = ("Safe Steps", 0, 10, 1, 2)
_VARIATION: Slider = ("Variation", 3, 32, 1, 8)
_NEAR: Slider = ("Remove Near %", 0, 100, 0.1, 0)
_FAR: Slider = ("Remove Background %", 0, 100, 0.1, 0)
_AUGMENT: Slider = ("Noise Augmentation", 0, 1, 0.01, 0)
_SKETCHES = ("Scribble", "SparseCtrl")
_PLAIN = ("Canny", "Lineart", "Scribble", "MLSD")

MODULES: Final[tuple[Module, ...]] = (
    Module("none", priority=100, resolution=None),
    Module("threshold", sliders=(("Binarization Threshold", 0, 255, 1, 127),)),
    Module(
        "mediapipe_face",
        reason=NETWORK,
        sliders=(("Max Faces", 1, 10, 1, 1), ("Min Face Confidence", 0.01, 1, 0.01, 0.5)),
    ),
    Module("facexlib", reason=NETWORK, resolution=None),
    Module(
        "canny",
        ("Canny",),
        priority=100,
        sliders=(("Low Threshold", 1, 255, 1, 100), ("High Threshold", 1, 255, 1, 200)),
    ),
    Module("invert", _PLAIN, label="invert (from white bg & black line)", priority=20, resolution=None),
    Module("depth", ("Depth",), label="depth_midas", priority=100),
    Module("depth_leres", ("Depth",), NETWORK, sliders=(_NEAR, _FAR)),
    Module("depth_leres++", ("Depth",), NETWORK, sliders=(_NEAR, _FAR)),
    Module("depth_zoe", ("Depth",)),
    Module("depth_anything", ("Depth",)),
    Module("depth_anything_v2", ("Depth",)),
    Module("depth_hand_refiner", ("Depth",), NETWORK),
    Module("normal_bae", ("NormalMap",), NETWORK, priority=100),
    Module(
        "normal_map",
        ("NormalMap",),
        NETWORK,
        label="normal_midas",
        sliders=(("Normal Background Threshold", 0, 1, 0.01, 0.4),),
    ),
    Module("normal_dsine", ("NormalMap",), NETWORK, sliders=(("Fov", 0, 360, 0.1, 60), ("Iterations", 1, 20, 1, 5))),
    Module("openpose_full", ("OpenPose",), NETWORK, priority=100),
    Module("openpose", ("OpenPose",)),
    Module("openpose_face", ("OpenPose",), NETWORK),
    Module("openpose_faceonly", ("OpenPose",), NETWORK),
    Module("openpose_hand", ("OpenPose",), NETWORK),
    Module("dw_openpose_full", ("OpenPose",), NETWORK),
    Module("animal_openpose", ("OpenPose",), NETWORK),
    Module("densepose", ("OpenPose",), NETWORK, label="densepose (pruple bg & purple torso)"),
    Module("densepose_parula", ("OpenPose",), NETWORK, label="densepose_parula (black bg & blue torso)"),
    Module(
        "mlsd",
        ("MLSD",),
        NETWORK,
        priority=100,
        sliders=(("MLSD Value Threshold", 0.01, 2, 0.01, 0.1), ("MLSD Distance Threshold", 0.01, 20, 0.01, 0.1)),
    ),
    Module("lineart_standard", ("Lineart",), label="lineart_standard (from white bg & black line)", priority=100),
    Module("lineart", ("Lineart",), label="lineart_realistic"),
    Module("lineart_anime", ("Lineart",)),
    Module("lineart_anime_denoise", ("Lineart",), NETWORK),
    Module("lineart_coarse", ("Lineart",)),
    Module("pidinet", ("SoftEdge",), NETWORK, label="softedge_pidinet", priority=100),
    Module("pidinet_safe", ("SoftEdge",), NETWORK, label="softedge_pidisafe"),
    Module("hed", ("SoftEdge",), label="softedge_hed"),
    Module("hed_safe", ("SoftEdge",), label="softedge_hedsafe"),
    Module("softedge_plain", ("SoftEdge",)),
    Module("softedge_teed", ("SoftEdge",), NETWORK, sliders=(_SAFE,)),
    Module("softedge_anyline", ("SoftEdge",), NETWORK, resolution=FINE, sliders=(_SAFE,)),
    Module("pidinet_scribble", _SKETCHES, NETWORK, label="scribble_pidinet", priority=100),
    Module("scribble_hed", _SKETCHES),
    Module("scribble_xdog", _SKETCHES, sliders=(("XDoG Threshold", 1, 64, 1, 32),)),
    Module("oneformer_ade20k", ("Segmentation",), NETWORK, label="seg_ofade20k", priority=100),
    Module("oneformer_coco", ("Segmentation",), NETWORK, label="seg_ofcoco"),
    Module("segmentation", ("Segmentation",), NETWORK, label="seg_ufade20k"),
    Module("anime_face_segment", ("Segmentation",), NETWORK, label="seg_anime_face"),
    Module("mobile_sam", ("Segmentation",), NETWORK),
    Module("shuffle", ("Shuffle",), priority=100, resolution=None),
    Module(
        "tile_resample",
        ("Tile",),
        priority=100,
        resolution=None,
        sliders=(("Down Sampling Rate", 1, 8, 0.01, 1),),
    ),
    Module("tile_colorfix", ("Tile",), COLOUR_FIX, resolution=None, sliders=(_VARIATION,)),
    Module(
        "tile_colorfix+sharp",
        ("Tile",),
        COLOUR_FIX,
        resolution=None,
        sliders=(_VARIATION, ("Sharpness", 0, 2, 0.01, 1)),
    ),
    Module("blur_gaussian", ("Tile",), sliders=(("Sigma", 0.01, 64, 0.01, 9),)),
    Module("inpaint_only", ("Inpaint",), priority=100, resolution=None, needs_mask=True),
    Module("inpaint", ("Inpaint",), label="inpaint_global_harmonious", resolution=None, needs_mask=True),
    Module("inpaint_only+lama", ("Inpaint",), NETWORK, resolution=None, needs_mask=True),
    Module(
        "reference_only",
        ("Reference",),
        REFERENCE,
        priority=100,
        resolution=None,
        sliders=(_FIDELITY,),
        model_free=True,
    ),
    Module("reference_adain", ("Reference",), REFERENCE, resolution=None, sliders=(_FIDELITY,), model_free=True),
    Module("reference_adain+attn", ("Reference",), REFERENCE, resolution=None, sliders=(_FIDELITY,), model_free=True),
    Module("recolor_luminance", ("Recolor",), priority=100, resolution=None, sliders=(_GAMMA,)),
    Module("recolor_intensity", ("Recolor",), resolution=None, sliders=(_GAMMA,)),
    Module(
        "revision_clipvision",
        ("Revision",),
        VISION,
        priority=100,
        resolution=None,
        sliders=(_AUGMENT,),
        model_free=True,
    ),
    Module("revision_ignore_prompt", ("Revision",), VISION, resolution=None, sliders=(_AUGMENT,), model_free=True),
    Module("color", ("T2I-Adapter",), label="t2ia_color_grid"),
    Module("pidinet_sketch", ("T2I-Adapter",), NETWORK, label="t2ia_sketch_pidi"),
    Module("clip_vision", ("T2I-Adapter",), VISION, label="t2ia_style_clipvision"),
    Module("ip-adapter-auto", ("IP-Adapter",), priority=100, resolution=None, looks=True),
    Module("ip-adapter_clip_sd15", ("IP-Adapter",), label="ip-adapter_clip_h", resolution=None, looks=True),
    Module("ip-adapter_clip_sdxl", ("IP-Adapter",), label="ip-adapter_clip_g", resolution=None, looks=True),
    Module("ip-adapter_clip_sdxl_plus_vith", ("IP-Adapter",), resolution=None, looks=True),
    Module("ip-adapter_face_id", ("IP-Adapter",), FACES, resolution=None),
    Module("ip-adapter_face_id_plus", ("IP-Adapter",), FACES, resolution=None),
    Module("ip-adapter_pulid", ("IP-Adapter",), FACES, resolution=None),
    Module("instant_id_face_embedding", ("Instant-ID",), FACES, resolution=None),
    Module("instant_id_face_keypoints", ("Instant-ID",), FACES, resolution=None),
)
