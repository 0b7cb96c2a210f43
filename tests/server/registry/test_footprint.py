"""Estimates: by hand where there is a formula, by order of size where there is a guess."""

import msgspec
import pytest
from msgspec import structs

from server.core.memory import GIB, MIB, RAM, DeviceProfile, vram
from server.core.models import (
    ImageFacts,
    ImageSettings,
    ModelCard,
    ModelId,
    ModelKind,
    Runtime,
    TextFacts,
    TextSettings,
)
from server.registry.footprint import (
    GPU_CONTEXT,
    IMAGE_PROCESS,
    TEXT_PROCESS,
    compute_buffer_bytes,
    converted_bytes,
    estimate,
    kv_cache_bytes,
)

CPU = DeviceProfile(id="cpu", backend="cpu", name="", total=32 * GIB, pool=RAM)
GPU = DeviceProfile(id="cuda:0", backend="cuda", name="", total=24 * GIB, pool=vram(0))
SMALL_GPU = DeviceProfile(id="cuda:1", backend="cuda", name="", total=8 * GIB, pool=vram(1))
SHARED_GPU = DeviceProfile(id="rocm:0", backend="rocm", name="", total=16 * GIB, pool=RAM)

LLAMA_7B = TextFacts(
    context_length=4096,
    layers=32,
    width=4096,
    heads=32,
    kv_heads=32,
    key_length=128,
    value_length=128,
    vocabulary=32000,
)
SD15 = ImageFacts(
    family="sd1", dtype="F16", bytes_unet=1_720_000_000, bytes_vae=167_000_000, bytes_text_encoder=246_000_000
)


def text_card(facts=LLAMA_7B, size=4 * GIB):
    return ModelCard(id=ModelId("t"), name="t.gguf", kind=ModelKind.TEXT, files=("/t.gguf",), size=size, text=facts)


def image_card(facts=SD15, size=2_133_000_000):
    return ModelCard(
        id=ModelId("i"), name="i.safetensors", kind=ModelKind.CHECKPOINT, files=("/i",), size=size, image=facts
    )


def test_the_kv_cache_of_a_7b_model_is_half_a_mebibyte_a_token():
    assert kv_cache_bytes(LLAMA_7B, TextSettings(context=2048, slots=1)) == 2048 * MIB // 2
    assert kv_cache_bytes(LLAMA_7B, TextSettings(context=2048, slots=4)) == 4 * 2048 * MIB // 2


@pytest.mark.parametrize(("kind", "factor"), [("f32", 2.0), ("bf16", 1.0), ("q8_0", 34 / 64), ("q4_0", 18 / 64)])
def test_the_kv_cache_follows_its_type(kind, factor):
    usual = kv_cache_bytes(LLAMA_7B, TextSettings(slots=1))
    assert kv_cache_bytes(LLAMA_7B, TextSettings(slots=1, kv_type=kind)) == pytest.approx(usual * factor)


def test_a_model_that_makes_vectors_has_one_cache_and_no_logits():
    vectors = structs.replace(LLAMA_7B, pooling="last")
    settings = TextSettings(context=2048, slots=4, batch=512)
    assert kv_cache_bytes(vectors, settings) == kv_cache_bytes(LLAMA_7B, settings) // 4
    same_batch = structs.replace(settings, batch=2048)
    scored = structs.replace(same_batch, flash_attention=False)
    assert compute_buffer_bytes(vectors, settings) == compute_buffer_bytes(LLAMA_7B, scored) - 2048 * 4 * 32000


def test_the_context_is_the_models_up_to_the_cap():
    def tokens(**settings):
        return kv_cache_bytes(LLAMA_7B, TextSettings(slots=1, **settings)) / (MIB / 2)

    assert (tokens(), tokens(context_cap=1024), tokens(context=100)) == (4096, 1024, 100)


def test_the_compute_buffer_of_the_tiny_model_is_what_llama_cpp_prints():
    """llama.cpp prints 0.66 MiB for stories260K with 64 tokens a batch, 256 of context, without flash attention."""
    tiny = TextFacts(layers=5, width=64, heads=8, kv_heads=4, key_length=8, value_length=8, vocabulary=512)
    settings = TextSettings(context=256, slots=1, batch=64, flash_attention=False)
    assert 0.66 * MIB < compute_buffer_bytes(tiny, settings) < 2 * 0.66 * MIB


def test_without_a_gpu_text_is_all_in_ram():
    footprint = estimate(text_card(), TextSettings(slots=1), [CPU])
    assert footprint.resident == {RAM: TEXT_PROCESS + 4 * GIB + 2 * GIB}
    assert set(footprint.working) == {RAM}


def test_a_model_that_is_converted_takes_what_its_weights_become():
    settings = TextSettings()
    old = estimate(text_card(structs.replace(LLAMA_7B, container="ggjt v1", weights=6 * GIB)), settings, [])
    assert old == estimate(text_card(size=6 * GIB), settings, [])


def test_layers_on_a_gpu_take_their_share_of_weights_and_cache():
    every = estimate(text_card(), TextSettings(slots=1), [CPU, GPU])
    assert every.resident == {RAM: TEXT_PROCESS, vram(0): 6 * GIB + GPU_CONTEXT}
    some = estimate(text_card(), TextSettings(slots=1, gpu_layers=11), [CPU, GPU])
    assert some.resident[vram(0)] == pytest.approx(2 * GIB + GPU_CONTEXT, abs=8)
    none = estimate(text_card(), TextSettings(slots=1, gpu_layers=0), [CPU, GPU])
    assert set(none.total()) == {RAM}


def test_two_gpus_share_in_proportion_and_a_shared_one_takes_ram():
    two = estimate(text_card(), TextSettings(slots=1), [CPU, GPU, SMALL_GPU]).resident
    assert two[vram(0)] - GPU_CONTEXT == pytest.approx(3 * (two[vram(1)] - GPU_CONTEXT), rel=1e-6)
    shared = estimate(text_card(), TextSettings(slots=1), [CPU, SHARED_GPU]).resident
    assert shared == {RAM: TEXT_PROCESS + 6 * GIB + GPU_CONTEXT}


@pytest.mark.parametrize(
    ("fields", "shares"),
    [
        ({"tensor_split": (1.0, 1.0)}, (0.5, 0.5)),
        ({"tensor_split": (0.0, 2.0)}, (0.0, 1.0)),
        ({"tensor_split": (1.0,)}, (1.0, 0.0)),
        ({"split_mode": "none"}, (1.0, 0.0)),
        ({"split_mode": "none", "main_gpu": 1}, (0.0, 1.0)),
        ({"split_mode": "none", "main_gpu": 9}, (1.0, 0.0)),
    ],
)
def test_devices_share_as_is_set(fields, shares):
    resident = estimate(text_card(), TextSettings(slots=1, **fields), [CPU, GPU, SMALL_GPU]).resident
    for pool, share in zip((vram(0), vram(1)), shares, strict=True):
        assert resident[pool] == pytest.approx(GPU_CONTEXT + share * 6 * GIB, abs=8)


def test_keys_and_values_may_be_kept_in_different_types():
    usual = kv_cache_bytes(LLAMA_7B, TextSettings(slots=1))
    for key in ("kv_type_k", "kv_type_v"):
        assert kv_cache_bytes(LLAMA_7B, TextSettings(slots=1, **{key: "f32"})) == 1.5 * usual
    both = TextSettings(slots=1, kv_type_k="q8_0", kv_type_v="q8_0")
    assert kv_cache_bytes(LLAMA_7B, both) == kv_cache_bytes(LLAMA_7B, TextSettings(slots=1, kv_type="q8_0"))


def test_adapters_go_where_the_model_goes():
    for devices in ([CPU], [CPU, GPU]):
        plain, more = (estimate(text_card(), TextSettings(slots=1), devices, more_bytes=n) for n in (0, MIB))
        pool = vram(0) if GPU in devices else RAM
        assert more.resident[pool] - plain.resident[pool] == MIB


def test_sd15_in_float32_on_a_cpu_is_near_the_6_5_gib_that_were_measured():
    total = estimate(image_card(), ImageSettings(), [CPU]).total()[RAM]
    assert 6.5 * GIB <= total < 1.15 * 6.5 * GIB


@pytest.mark.parametrize(
    ("fields", "devices", "converted"),
    [
        ({}, [CPU], 2 * (1_720_000_000 + 167_000_000 + 246_000_000)),
        ({"dtype": "bfloat16"}, [CPU], 1_720_000_000 + 167_000_000 + 246_000_000),
        ({}, [structs.replace(CPU, bfloat16=True)], 1_720_000_000 + 167_000_000 + 246_000_000),
        ({"dtype": "float16"}, [CPU], 0),
        ({"dtype": "float16", "vae_dtype": "float32"}, [CPU], 2 * 167_000_000),
        ({}, [CPU, GPU], 0),
        ({"device": "cpu"}, [CPU, GPU], 2 * (1_720_000_000 + 167_000_000 + 246_000_000)),
    ],
)
def test_weights_are_converted_on_the_cpu_when_the_file_has_another_type(fields, devices, converted):
    assert converted_bytes(image_card(), ImageSettings(**fields), devices) == converted


def test_half_precision_halves_weights():
    full = estimate(image_card(), ImageSettings(), [CPU]).resident[RAM] - IMAGE_PROCESS
    half = (
        estimate(image_card(), ImageSettings(dtype="bfloat16", vae_dtype="bfloat16"), [CPU]).resident[RAM]
        - IMAGE_PROCESS
    )
    assert full == 2 * half == 2 * (1_720_000_000 + 167_000_000 + 246_000_000)


def test_a_cpu_with_bfloat16_takes_it_by_itself_and_the_vae_goes_with_the_model():
    halves = msgspec.structs.replace(CPU, bfloat16=True)
    told = ImageSettings(dtype="bfloat16", vae_dtype="bfloat16")
    assert estimate(image_card(), ImageSettings(), [halves]) == estimate(image_card(), told, [CPU])
    full = ImageSettings(dtype="float32")
    assert estimate(image_card(), full, [halves]) == estimate(image_card(), ImageSettings(), [CPU])


def test_auto_is_the_mode_that_fits_the_device():
    xl = ImageFacts(
        family="sdxl",
        dtype="F16",
        bytes_unet=5_135_000_000,
        bytes_vae=167_000_000,
        bytes_text_encoder=1_640_000_000,
    )
    card = image_card(xl, 6_940_000_000)
    sizes = {24: "none", 8: "medium", 6: "low"}
    for gib, mode in sizes.items():
        device = msgspec.structs.replace(GPU, total=gib * GIB)
        assert estimate(card, ImageSettings(), [CPU, device]) == estimate(
            card, ImageSettings(offload=mode), [CPU, device]
        ), mode
    small = ImageSettings(sdxl_offload="low")
    assert estimate(card, small, [CPU, GPU]) == estimate(card, ImageSettings(offload="low"), [CPU, GPU])


def test_a_replaced_vae_counts_instead_of_the_checkpoints():
    own = estimate(image_card(), ImageSettings(), [CPU]).resident[RAM]
    other = estimate(image_card(), ImageSettings(), [CPU], more_bytes=267_000_000).resident[RAM]
    assert other - own == 2 * 100_000_000


def test_on_a_gpu_parts_are_in_vram_and_offload_moves_them_to_ram():
    none = estimate(image_card(), ImageSettings(), [CPU, GPU])
    medium = estimate(image_card(), ImageSettings(offload="medium"), [CPU, GPU])
    low = estimate(image_card(), ImageSettings(offload="low"), [CPU, GPU])
    assert none.resident[vram(0)] == 2_133_000_000 + GPU_CONTEXT
    totals = [item.total()[vram(0)] for item in (none, medium, low)]
    assert totals == sorted(totals, reverse=True)
    assert medium.resident[RAM] - none.resident[RAM] == 2_133_000_000


@pytest.mark.parametrize(
    ("device", "pool"), [("cpu", RAM), ("cuda", vram(0)), ("cuda:1", vram(1)), ("auto", vram(0)), ("xpu", RAM)]
)
def test_the_named_device_is_charged(device, pool):
    assert pool in estimate(image_card(), ImageSettings(device=device), [CPU, GPU, SMALL_GPU]).working


def test_a_tiny_checkpoint_needs_little_and_an_unread_one_a_lot():
    tiny = ImageFacts(
        family="sd1", dtype="F16", bytes_unet=8_614_792, bytes_vae=4_089_294, bytes_text_encoder=6_734_824
    )
    small = estimate(image_card(tiny, 19_617_182), ImageSettings(), [CPU]).total()[RAM]
    unread = estimate(image_card(None, 2_133_000_000), ImageSettings(), [CPU]).total()[RAM]
    assert small < GIB
    assert unread > 2 * 2_133_000_000


def upscaler_card(size=67 * MIB, runtime=Runtime.UPSCALER):
    return ModelCard(id=ModelId("u"), name="u.pth", kind=ModelKind.UPSCALER, files=("/u",), size=size, runtime=runtime)


def test_an_upscaler_needs_its_weights_and_room_for_a_picture():
    small, large = (estimate(upscaler_card(size), ImageSettings(), [CPU]) for size in (MIB, 200 * MIB))
    assert IMAGE_PROCESS < small.resident[RAM] < large.resident[RAM] < GIB
    assert 512 * MIB <= small.working[RAM] <= 2 * GIB


def test_on_a_gpu_an_upscaler_leaves_the_picture_in_ram():
    found = estimate(upscaler_card(), ImageSettings(), [CPU, GPU])
    assert found.resident[vram(0)] == GPU_CONTEXT + 2 * 67 * MIB
    assert found.working[RAM] > 0 < found.working[vram(0)]


def test_the_built_in_worker_is_small_wherever_models_run():
    found = estimate(upscaler_card(0, Runtime.PIXELS), ImageSettings(), [CPU, GPU])
    assert found.resident.keys() == {RAM}
    assert found.resident[RAM] < 128 * MIB


def test_a_transformer_needs_its_weights_and_room_by_its_width():
    """Flux: 12 billion weights of 3072 channels, in bfloat16; a picture of 1024 x 1024 takes two or three GiB more."""
    facts = ImageFacts(family="flux", dtype="BF16", token_width=3072, bytes_unet=24 * GIB, bytes_text_encoder=9 * GIB)
    card = msgspec.structs.replace(image_card(), image=facts)
    found = estimate(card, ImageSettings(dtype="bfloat16"), [CPU])
    assert 33 * GIB < found.resident[RAM] < 34 * GIB
    assert 2 * GIB < found.working[RAM] < 5 * GIB
    wide = msgspec.structs.replace(card, image=msgspec.structs.replace(facts, token_width=6144))
    assert estimate(wide, ImageSettings(dtype="bfloat16"), [CPU]).working[RAM] > found.working[RAM]
