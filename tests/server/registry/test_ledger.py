"""The ledger: settings per model, estimate, measure, remember."""

import asyncio
import hashlib

import msgspec
import pytest

from server.core.errors import LoadFailed
from server.core.image import Size
from server.core.memory import GIB, RAM, DeviceProfile, Footprint, vram
from server.core.models import (
    Adapter,
    ImageFacts,
    ImageSettings,
    ModelCard,
    ModelId,
    ModelKind,
    Runtime,
    TextFacts,
    TextSettings,
)
from server.registry.footprint import draft_cache_bytes, estimate, kv_cache_bytes, vae_bytes
from server.registry.hashes import HashCache
from server.registry.ledger import Ledger
from tests.support.builders import chat, image

CPU = DeviceProfile(id="cpu", backend="cpu", name="", total=32 * GIB, pool=RAM)
TEXT = ModelCard(
    id=ModelId("chat"),
    name="sub/chat.gguf",
    kind=ModelKind.TEXT,
    files=("/m/chat.gguf",),
    aliases=("gpt-4",),
    size=GIB,
    modified=7,
    text=TextFacts(layers=2, kv_heads=2, key_length=8, value_length=8, context_length=512),
)
IMAGE = ModelCard(id=ModelId("paint"), name="paint.safetensors", kind=ModelKind.CHECKPOINT, files=("/m/p",), size=GIB)
MEASURED = Footprint(resident={RAM: 123}, working={RAM: 4})


def ledger(**options):
    made = {"text": TextSettings(), "image": ImageSettings(), "devices": [CPU], "hashes": HashCache(), **options}
    return Ledger(**made)


@pytest.mark.parametrize("name", ["chat", "sub/chat.gguf", "GPT-4", "Chat"])
def test_settings_of_one_model_are_found_by_any_of_its_names(name):
    own = ledger(overrides={name: {"context": 99, "slots": 2, "device": "cpu"}})
    assert own.settings(TEXT) == TextSettings(context=99, slots=2)
    assert own.settings(IMAGE) == ImageSettings()


def test_image_models_are_told_what_their_pool_may_hold():
    gpu = DeviceProfile(id="cuda:0", backend="cuda", name="", total=8 * GIB, pool=vram(0))
    limits = {RAM: 10 * GIB, vram(0): 7 * GIB}
    assert ledger(limits=limits).settings(IMAGE).memory_limit == 10 * GIB
    assert ledger(limits=limits, devices=[CPU, gpu]).settings(IMAGE).memory_limit == 7 * GIB
    own = ledger(limits=limits, overrides={"paint": {"memory_limit": 5}})
    assert own.settings(IMAGE).memory_limit == 5
    assert ledger(limits=limits).settings(TEXT) == TextSettings()


def test_settings_that_make_no_sense_refuse_the_load():
    with pytest.raises(LoadFailed, match="chat"):
        ledger(overrides={"chat": {"slots": "many"}}).settings(TEXT)


def text_card(name: str, **fields: object) -> ModelCard:
    return msgspec.structs.replace(TEXT, id=ModelId(name), name=f"{name}.gguf", files=(f"/m/{name}.gguf",), **fields)


def test_a_draft_is_found_by_its_name_or_its_file(tmp_path):
    small, broken = text_card("small"), text_card("broken", broken="damaged")
    known = {"small": small, "broken": broken}
    file = tmp_path / "other.gguf"
    file.write_bytes(b"GGUF")

    def drafted(name, card=TEXT, **fields):
        own = ledger(text=TextSettings(draft=name, **fields), draft_for=known.get)
        return own.settings(card).draft

    assert drafted("") == ""
    assert drafted("small") == "/m/small.gguf"
    assert drafted(str(file)) == str(file)
    assert drafted("small", speculation=False) == ""
    assert drafted("small", card=small) == "", "a model does not guess for itself"
    for wrong in ("nowhere", "broken", str(tmp_path / "gone.gguf")):
        with pytest.raises(LoadFailed, match="draft"):
            drafted(wrong)
    with pytest.raises(LoadFailed, match="draft_tokens"):
        drafted("small", draft_tokens=0)


def test_a_draft_of_2023_must_have_been_converted(tmp_path):
    made = tmp_path / "small.gguf"
    facts = msgspec.structs.replace(text_card("small").text, container="ggjt v3")
    small = msgspec.structs.replace(text_card("small"), text=facts, converted=str(made))
    own = ledger(text=TextSettings(draft="small"), draft_for=lambda _: small)
    with pytest.raises(LoadFailed, match="2023"):
        own.settings(TEXT)
    made.write_bytes(b"GGUF")
    assert own.settings(TEXT).draft == str(made)


def test_a_draft_counts_with_its_cache(tmp_path):
    file = tmp_path / "small.gguf"
    file.write_bytes(bytes(5000))
    small = msgspec.structs.replace(text_card("small"), files=(str(file),))
    alone = ledger().expected(TEXT).total()[RAM]
    pair = ledger(text=TextSettings(draft="small"), draft_for=lambda _: small).expected(TEXT).total()[RAM]
    assert pair - alone == 5000 + draft_cache_bytes(small.text, TextSettings())
    assert draft_cache_bytes(small.text, TextSettings(slots=16)) == kv_cache_bytes(small.text, TextSettings(slots=4))


def test_settings_out_of_bounds_are_named_by_their_key():
    with pytest.raises(LoadFailed, match="rope_scaling"):
        ledger(overrides={"chat": {"rope_scaling": "dynamic"}}).settings(TEXT)


def test_a_text_model_is_loaded_with_its_adapters_and_they_are_counted(tmp_path):
    file = tmp_path / "style.gguf"
    file.write_bytes(bytes(1000))
    asked = []

    def adapters_for(card, wanted):
        asked.append((card.id, wanted))
        return (Adapter(name="style", file=str(file), scale=0.5),)

    named = {"chat": {"loras": ["style", {"name": "other", "scale": 2}]}}
    own = ledger(overrides=named, adapters_for=adapters_for)
    assert own.settings(TEXT).loras == (Adapter(name="style", file=str(file), scale=0.5),)
    assert asked == [("chat", ("style", Adapter(name="other", scale=2.0)))]
    plain = ledger(adapters_for=lambda card, wanted: ())
    assert own.expected(TEXT).resident[RAM] == plain.expected(TEXT).resident[RAM] + 1000


def test_pinned_models_are_known_by_any_of_their_names():
    own = ledger(pinned=("gpt-4",))
    assert own.is_pinned(TEXT) and not own.is_pinned(IMAGE)


def test_a_footprint_is_estimated_then_measured_then_remembered(tmp_path):
    file = tmp_path / "state" / "footprints.json"
    own = ledger(file=file)
    assert own.expected(TEXT) == estimate(TEXT, TextSettings(), [CPU])
    own.learn(TEXT, MEASURED)
    assert own.expected(TEXT) == MEASURED
    assert ledger(file=file).expected(TEXT) == MEASURED


def test_what_was_measured_holds_for_the_same_file_and_settings_alone(tmp_path):
    file = tmp_path / "footprints.json"
    ledger(file=file).learn(TEXT, MEASURED)
    changed = msgspec.structs.replace(TEXT, modified=8)
    assert ledger(file=file).expected(changed) != MEASURED
    assert ledger(file=file, text=TextSettings(slots=1)).expected(TEXT) != MEASURED


def test_a_worker_that_measured_nothing_teaches_nothing():
    own = ledger()
    own.learn(TEXT, Footprint())
    assert own.expected(TEXT) == estimate(TEXT, TextSettings(), [CPU])


def test_a_damaged_file_is_ignored(tmp_path):
    file = tmp_path / "footprints.json"
    file.write_bytes(b'{"a": 1')
    assert ledger(file=file).expected(TEXT) == estimate(TEXT, TextSettings(), [CPU])


def test_the_vae_of_a_checkpoint_is_found_unless_one_is_set(tmp_path):
    vae = tmp_path / "v.safetensors"
    vae.write_bytes(bytes(1000))
    found = ledger(vae_for=lambda card: str(vae))
    assert found.settings(IMAGE).vae == str(vae)
    assert found.expected(IMAGE).resident[RAM] > ledger().expected(IMAGE).resident[RAM]
    named = ledger(vae_for=lambda card: str(vae), image=ImageSettings(vae="/x"))
    assert named.settings(IMAGE).vae == "/x"


def test_a_checkpoint_is_fingerprinted_with_its_vae_and_text_needs_no_hash(tmp_path):
    model, vae = tmp_path / "m.safetensors", tmp_path / "v.safetensors"
    model.write_bytes(b"model")
    vae.write_bytes(b"vae")
    hashes = HashCache()
    own = ledger(hashes=hashes, vae_for=lambda card: str(vae))
    asyncio.run(own.fingerprint(msgspec.structs.replace(TEXT, files=(str(model),))))
    assert hashes.known(model) is None
    asyncio.run(own.fingerprint(msgspec.structs.replace(IMAGE, files=(str(model),))))
    assert hashes.known(model) == hashlib.sha256(b"model").hexdigest()
    assert hashes.known(vae) == hashlib.sha256(b"vae").hexdigest()


def test_an_upscaler_has_no_vae(tmp_path):
    upscaler = msgspec.structs.replace(IMAGE, kind=ModelKind.UPSCALER)
    found = ledger(vae_for=lambda card: "/v", image=ImageSettings(vae="/x", device="cpu"))
    assert found.settings(upscaler) == ImageSettings(device="cpu")


def test_what_a_job_takes_is_estimated_then_measured_then_remembered(tmp_path):
    book = {"jobs_file": tmp_path / "jobs.json", "limits": {RAM: 20 * GIB}}
    own, usual, large = ledger(**book), image(), msgspec.structs.replace(image(), size=Size(2048, 2048))
    assert own.working(IMAGE, None) == own.expected(IMAGE).working
    assert own.working(IMAGE, large)[RAM] > own.working(IMAGE, usual)[RAM]
    own.note_job(IMAGE, large, {RAM: GIB})
    assert own.working(IMAGE, large)[RAM] == pytest.approx(GIB, rel=0.1)
    assert own.working(IMAGE, usual)[RAM] == ledger().working(IMAGE, usual)[RAM]
    smaller = ledger(**{**book, "limits": {RAM: 10 * GIB}})
    assert smaller.working(IMAGE, large) == own.working(IMAGE, large), "in RAM the limit changes nothing of it"
    vae = msgspec.structs.replace(usual, vae="/another.vae.pt")
    assert own.working(IMAGE, vae)[RAM] == own.working(IMAGE, usual)[RAM] + vae_bytes(IMAGE, ImageSettings(), [CPU])
    assert own.working(IMAGE, msgspec.structs.replace(usual, vae="/m/p")) == own.working(IMAGE, usual)
    own.note_job(TEXT, chat("a"), {RAM: 1})
    assert own.working(TEXT, chat("a")) == own.expected(TEXT).working


def test_a_spare_is_wished_for_while_a_checkpoint_is_not_loaded():
    ready = msgspec.structs.replace(IMAGE, runtime=Runtime.DIFFUSION)
    broken = msgspec.structs.replace(ready, id=ModelId("other"), broken="cut short")
    own = ledger(checkpoints=lambda: (broken, ready))
    wish = own.spare(())
    assert wish is not None
    assert wish.runtime is Runtime.DIFFUSION
    assert wish.need[RAM] > 0
    assert own.spare((IMAGE.id,)) is None
    assert ledger().spare(()) is None
    assert ledger(checkpoints=lambda: (ready,), image=ImageSettings(warm=False)).spare(()) is None


def test_a_spare_has_room_for_the_middle_one_of_what_may_come_and_jobs_keep_theirs():
    def checkpoint(name: str, unet: int, family: str = "sd1") -> ModelCard:
        facts = ImageFacts(family=family, dtype="F16", bytes_unet=unet)
        return msgspec.structs.replace(IMAGE, id=ModelId(name), name=name, runtime=Runtime.DIFFUSION, image=facts)

    small, middle, large = checkpoint("a", 10), checkpoint("b", 20), checkpoint("c", 30, "sdxl")
    wrong, later = checkpoint("d", 999), checkpoint("e", 5, "flux")
    own = ledger(checkpoints=lambda: (large, wrong, small, middle, later), overrides={"d": {"threads": "many"}})
    assert own.spare(()).room == 2 * 10, "half precision becomes full; nothing is converted of later families"
    assert own.spare(()).kept == {}
    loaded = own.spare((ModelId("a"), ModelId("c")))
    assert loaded.room == 0
    assert loaded.kept == own.expected(large).working
    assert own.spare((ModelId("a"), ModelId("e"))).room == 2 * 20
