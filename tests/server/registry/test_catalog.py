"""The catalog on an A1111 `models` folder: what is listed, under which names, and what must never hurt it."""

import contextlib
import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from server.core.errors import UnknownModel
from server.core.models import ModelKind
from server.registry import folders
from server.registry.catalog import Catalog
from server.registry.hashes import HashCache
from tests.support.model_files import (
    LLAMA,
    gguf_bytes,
    lora,
    sd1,
    typed,
    write_diffusers_folder,
    write_gguf,
    write_safetensors_header,
)
from tests.support.shared import SHARED, golden, needs_shared
from tests.support.tiny_gguf import tiny_gguf
from tests.support.tiny_lora import TinyLora


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def checkpoint(path, **options):
    return write_safetensors_header(path, typed(sd1(**options)))


def catalog(*folders, hashes=None, **options):
    made = Catalog(folders, hashes=hashes or HashCache(), **options)
    made.scan()
    return made


def names(found, *kinds):
    return [card.name for card in found.cards(*kinds)]


def test_adapters_of_text_models_are_parts_and_no_models(models):
    (models / "text").mkdir()
    model = tiny_gguf(models / "text" / "talker.gguf")
    TinyLora(1).write(models / "text" / "style.gguf")
    TinyLora(2).write(models / "text" / "lora" / "sub.gguf")
    TinyLora(3).write(models / "text" / "lora" / "other.gguf", architecture="qwen2")
    found = catalog(models, aliases={"nice": "style"})
    assert names(found, ModelKind.TEXT) == ["talker.gguf"]
    assert names(found, ModelKind.TEXT_LORA) == ["lora/other.gguf", "lora/sub.gguf", "style.gguf"]
    (card,) = found.cards(ModelKind.TEXT)
    assert [(item.name, item.scale) for item in found.text_adapters(card, None)] == [("sub", 0.0), ("style", 0.0)]
    chosen = found.text_adapters(card, ("nice", "lora/sub.gguf", "talker"))
    assert [(item.name, bool(item.problem)) for item in chosen] == [("style", False), ("sub", False), ("talker", True)]
    assert found.find("talker").files == (str(model),)


def test_every_folder_of_a1111_has_its_kind_in_any_case(models):
    checkpoint(models / "stable-Diffusion" / "sub" / "a.safetensors")
    checkpoint(models / "stable-Diffusion" / "a.vae.safetensors")
    write_safetensors_header(models / "VAE" / "v.safetensors", typed({"decoder.conv_in.weight": (8, 4, 3, 3)}))
    write_safetensors_header(models / "Lora" / "l.safetensors", typed(lora()))
    write_safetensors_header(models / "LyCORIS" / "y.safetensors", typed(lora()))
    write_safetensors_header(models.parent / "embeddings" / "e.safetensors", typed({"emb_params": (2, 8)}))
    write_safetensors_header(models / "ControlNet" / "c.safetensors", typed({"control_model.x": (2, 8)}))
    encoder = {"vision_model.embeddings.patch_embedding.weight": (2, 3, 4, 4)}
    write_safetensors_header(models / "clip_vision" / "i.safetensors", typed(encoder))
    for upscaler in ("ESRGAN", "RealESRGAN", "SwinIR", "DAT"):
        write_safetensors_header(models / upscaler / f"{upscaler}.safetensors", typed({"conv.weight": (2, 8)}))
    write_safetensors_header(models / "VAE-approx" / "p.safetensors", typed({"conv1.weight": (2, 8)}))
    write_safetensors_header(models / "hypernetworks" / "h.safetensors", typed({"768.0.weight": (2, 8)}))
    write_safetensors_header(models / "annotators" / "n.safetensors", typed({"block1.weight": (2, 8)}))
    downloads = models.parent / "extensions" / "sd-webui-controlnet" / "annotator" / "downloads"
    write_safetensors_header(downloads / "net" / "d.safetensors", typed({"block1.weight": (2, 8)}))
    write_gguf(models / "text" / "t.gguf")
    write_gguf(models / "LLM" / "deep" / "u.gguf")
    write_gguf(models / "root.gguf")
    (models / "Stable-diffusion").mkdir(exist_ok=True)
    (models / "styles.csv").write_text("name,prompt,negative_prompt\n")
    found = catalog(models)
    by_kind = {kind: names(found, kind) for kind in ModelKind}
    assert by_kind == {
        ModelKind.TEXT: ["deep/u.gguf", "root.gguf", "t.gguf"],
        ModelKind.TEXT_LORA: [],
        ModelKind.PROJECTOR: [],
        ModelKind.CHECKPOINT: ["sub/a.safetensors"],
        ModelKind.VAE: ["a.vae.safetensors", "v.safetensors"],
        ModelKind.LORA: ["l.safetensors", "y.safetensors"],
        ModelKind.EMBEDDING: ["e.safetensors"],
        ModelKind.HYPERNETWORK: ["h.safetensors"],
        ModelKind.CONTROLNET: ["c.safetensors"],
        ModelKind.IMAGE_ENCODER: ["i.safetensors"],
        ModelKind.UPSCALER: [
            "DAT.safetensors",
            "ESRGAN.safetensors",
            "RealESRGAN.safetensors",
            "SwinIR.safetensors",
        ],
        ModelKind.ANNOTATOR: ["n.safetensors", "net/d.safetensors"],
        ModelKind.PREVIEW: ["p.safetensors"],
    }
    assert [card for card in found.cards() if card.broken] == []
    assert found.styles_file() == models / "styles.csv"


def test_styles_one_level_up_are_found(models):
    assert catalog(models).styles_file() is None
    (models.parent / "styles.csv").write_text("name,prompt,negative_prompt\n")
    assert catalog(models).styles_file() == models.parent / "styles.csv"


def test_a_checkpoint_answers_to_all_its_names(models):
    path = checkpoint(models / "Stable-diffusion" / "sub" / "Deliberate v2.safetensors")
    hashes = HashCache()
    found = catalog(models, hashes=hashes, aliases={"gpt-image-1": "Deliberate v2"})
    sha = hashes.compute_now(str(path))
    assert sha == hashlib.sha256(path.read_bytes()).hexdigest()
    card = found.find("sub_Deliberate v2", ModelKind.CHECKPOINT)
    assert card.id == "sub_Deliberate v2" and card.sha256 == sha and card.short_hashes[0] == sha[:10]
    old = card.short_hashes[1]
    for name in (
        "sub/Deliberate v2.safetensors",
        "Deliberate v2",
        "sub/Deliberate v2",
        f"sub/Deliberate v2.safetensors [{sha[:10]}]",
        f"Deliberate v2 [{sha[:10]}]",
        f"sub/Deliberate v2.safetensors [{old}]",
        sha,
        sha[:10],
        old,
        "gpt-image-1",
        "SUB/deliberate V2.SAFETENSORS",
        "DELIBERATE V2",
    ):
        assert found.find(name, ModelKind.CHECKPOINT) == card, name
    assert "gpt-image-1" in card.aliases


def test_a_title_that_another_program_hashed_finds_the_file_until_its_hash_is_known(models):
    path = checkpoint(models / "Stable-diffusion" / "a.safetensors")
    hashes = HashCache()
    found = catalog(models, hashes=hashes)
    assert found.find("a.safetensors [0123456789]").id == "a"
    hashes.compute_now(str(path))
    with pytest.raises(UnknownModel):
        found.find("a.safetensors [0123456789]")


def test_unknown_names_get_close_ones_and_kinds_are_kept_apart(models):
    write_gguf(models / "text" / "mistral-7b.gguf")
    found = catalog(models)
    with pytest.raises(UnknownModel) as caught:
        found.find("mistral-7", ModelKind.TEXT)
    assert caught.value.facts["close"] == ["mistral-7b"]
    with pytest.raises(UnknownModel) as caught:
        found.find("mistral-7b", ModelKind.CHECKPOINT)
    assert caught.value.facts["close"] == []


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "/etc/passwd", "a\x00b", "x" * 100_000, "text/../secret.gguf"]
)
def test_paths_and_rubbish_are_just_unknown(models, name):
    (models / "secret.gguf").write_text("no model")
    with pytest.raises(UnknownModel) as caught:
        catalog(models).find(name)
    assert len(caught.value.message) < 1000


def test_ids_are_unique_and_do_not_depend_on_the_order_on_disk(models):
    write_gguf(models / "text" / "a" / "same.gguf")
    write_gguf(models / "text" / "b" / "same.gguf")
    checkpoint(models / "Stable-diffusion" / "same.safetensors")
    checkpoint(models / "Stable-diffusion" / "x" / "same.safetensors")
    checkpoint(models / "Stable-diffusion" / "x_same.safetensors")
    found = catalog(models)
    ids = {card.id: card.name for card in found.cards()}
    assert ids == {
        "same": "a/same.gguf",
        "b/same": "b/same.gguf",
        "same.safetensors": "same.safetensors",
        "x_same": "x/same.safetensors",
        "x_same.safetensors": "x_same.safetensors",
    }
    assert found.find("same", ModelKind.CHECKPOINT).name == "same.safetensors"


def test_the_same_names_in_two_folders_give_two_cards(tmp_path):
    for folder in ("one", "two"):
        write_gguf(tmp_path / folder / "text" / "m.gguf")
    found = catalog(tmp_path / "one", tmp_path / "two")
    assert [(card.id, card.files[0]) for card in found.cards()] == [
        ("m", str(tmp_path / "one" / "text" / "m.gguf")),
        ("m.gguf", str(tmp_path / "two" / "text" / "m.gguf")),
    ]


def test_names_sort_as_people_count(models):
    for number in (10, 9, 1):
        write_gguf(models / "text" / f"m-{number}.gguf")
    assert names(catalog(models)) == ["m-1.gguf", "m-9.gguf", "m-10.gguf"]


def split(folder, part, parts, **kv):
    head = {**LLAMA, **kv} if part == 1 else kv
    marks = {"split.no": part - 1, "split.count": parts}
    return write_gguf(folder / f"big-{part:05d}-of-{parts:05d}.gguf", {**head, **marks})


def test_a_split_model_is_one_card_with_all_its_files(models):
    files = [split(models / "text", part, 3) for part in (1, 2, 3)]
    (card,) = catalog(models).cards()
    assert card.id == "big" and card.broken is None
    assert card.files == tuple(map(str, files))
    assert card.size == sum(path.stat().st_size for path in files)
    assert card.text.parameters == 3 * (64 * 4 + 64 * 64 + 64)


def test_a_split_model_with_missing_parts_is_broken(models):
    split(models / "text", 1, 3)
    split(models / "text", 3, 3)
    (card,) = catalog(models).cards()
    assert card.broken == "of 3 parts these are missing: 2"


def test_a_part_under_a_name_of_its_own_is_broken(models):
    split(models / "text", 1, 2).rename(models / "text" / "renamed.gguf")
    (card,) = catalog(models).cards()
    assert "2 parts" in card.broken


def test_a_damaged_part_names_itself(models):
    split(models / "text", 1, 2)
    (models / "text" / "big-00002-of-00002.gguf").write_bytes(b"rubbish")
    (card,) = catalog(models).cards()
    assert card.broken.startswith("big-00002-of-00002.gguf: ")


def test_what_is_no_model_is_not_listed_but_told(models):
    write_gguf(models / "text" / "mmproj.gguf", {**LLAMA, "general.architecture": "clip"})
    found = catalog(models)
    assert found.cards() == ()
    assert "projector" in next(item.reason for item in found.skipped())


def test_hostile_entries_neither_hang_nor_crash_a_scan(models, tmp_path):
    text = models / "text"
    write_gguf(text / "good.gguf")
    outside = write_gguf(tmp_path / "outside.gguf")
    os.mkfifo(text / "pipe.gguf")
    (text / "folder.gguf").mkdir()
    (text / "dangling.gguf").symlink_to(text / "nowhere")
    (text / "ring.gguf").symlink_to(text / "ring.gguf")
    (text / "loop").symlink_to(text)
    (text / "outside.gguf").symlink_to(outside)
    (text / "secret.gguf").symlink_to("/etc/hostname")
    (text / "device.gguf").symlink_to("/dev/zero")
    (text / "inside.gguf").symlink_to(text / "good.gguf")
    (text / ".hidden.gguf").write_bytes(b"")
    (text / "line\nbreak.gguf").write_bytes(b"")
    (models / "away").symlink_to("/etc")
    with contextlib.suppress(OSError):  # some file systems take UTF-8 alone
        (text / os.fsdecode(b"caf\xe9.gguf")).write_bytes(b"GGUF")
    began = time.process_time()
    found = catalog(models, tmp_path / "missing")
    assert time.process_time() - began < 1
    assert {card.id: card.broken is None for card in found.cards()} == {
        "good": True,
        "inside": True,
        "outside": True,
        "secret": False,
    }
    for item in found.skipped():
        assert item.path.isprintable() and item.path.encode()
    reasons = " ".join(item.reason for item in found.skipped())
    assert "no such folder" in reasons and "not a regular file" in reasons and "leads nowhere" in reasons


def test_a_link_to_a_huge_tree_is_read_only_so_far(models, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MOST_FOLDERS", 3)
    for number in range(5):
        write_gguf(tmp_path / "tree" / f"n{number}" / f"m{number}.gguf")
    (models / "text").mkdir(exist_ok=True)
    (models / "text" / "linked").symlink_to(tmp_path / "tree")
    found = catalog(models)
    assert [card.id for card in found.cards()] == ["m0"]
    assert "more than 3 folders" in " ".join(item.reason for item in found.skipped())


def test_a_kind_folder_that_is_a_link_counts_as_a_models_folder(models, tmp_path):
    checkpoint(tmp_path / "disk" / "a.safetensors")
    (models / "Stable-diffusion").symlink_to(tmp_path / "disk")
    (card,) = catalog(models).cards()
    assert card.id == "a" and card.broken is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_broken(models):
    write_gguf(models / "a.gguf").chmod(0)
    (card,) = catalog(models).cards()
    assert "cannot be opened" in card.broken


def test_a_lora_answers_to_its_trained_name_unless_two_claim_it(models):
    def trained(file, name):
        write_safetensors_header(models / "Lora" / file, typed(lora()), {"ss_output_name": name})

    trained("one.safetensors", "style")
    trained("two.safetensors", "both")
    trained("three.safetensors", "both")
    trained("four.safetensors", "none")
    found = catalog(models)
    assert found.find("style", ModelKind.LORA).id == "one"
    for name in ("both", "none"):
        with pytest.raises(UnknownModel):
            found.find(name, ModelKind.LORA)


def test_only_changed_files_are_opened_again(models, monkeypatch):
    for number in range(5):
        write_gguf(models / "text" / f"{number}.gguf")
    found = catalog(models)
    asked = []
    monkeypatch.setattr("server.registry.catalog.identify", lambda path, kind, **_: asked.append(path.name))
    found.scan()
    assert asked == []
    write_gguf(models / "text" / "3.gguf", {**LLAMA, "general.name": "Changed"})
    found.scan()
    assert asked == ["3.gguf"]


def test_a_file_that_goes_or_comes_shows_at_the_next_scan(models):
    first = write_gguf(models / "a.gguf")
    found = catalog(models)
    before = found.fingerprint()
    assert before == found.scanned
    first.unlink()
    write_gguf(models / "b.gguf")
    assert found.fingerprint() != before
    assert names(found) == ["a.gguf"]
    found.scan()
    assert names(found) == ["b.gguf"]


def test_readers_see_whole_states_while_scans_run(models):
    header, data = gguf_bytes()
    for number in range(20):
        (models / f"{number}.gguf").write_bytes(header + bytes(data))
    found = catalog(models)
    wrong = []

    def read():
        for _ in range(300):
            cards = found.cards(ModelKind.TEXT)
            if len(cards) != 20 or found.find("7").name != "7.gguf":
                wrong.append(len(cards))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(20):
        found.scan()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_five_hundred_files_are_scanned_in_seconds_and_again_in_less(models):
    for number in range(500):
        write_safetensors_header(models / "Lora" / f"{number}.safetensors", typed(lora()))
    found = Catalog([models], hashes=HashCache())
    began = time.process_time()
    assert len(found.scan()) == 500
    first = time.process_time() - began
    found.scan()
    assert first < 5 and time.process_time() - began - first < 1


@pytest.mark.parametrize(
    ("vaes", "expected"),
    [
        (
            ["VAE/model.vae.safetensors", "Stable-diffusion/model.vae.safetensors"],
            "Stable-diffusion/model.vae.safetensors",
        ),
        (["VAE/Model-fine.safetensors", "VAE/model.vae.safetensors"], "VAE/model.vae.safetensors"),
        (["VAE/other.safetensors"], None),
        (["VAE/model.vae.pt"], None),
    ],
)
def test_the_vae_named_after_a_checkpoint_is_found(models, vaes, expected):
    checkpoint(models / "Stable-diffusion" / "model.safetensors")
    for vae in vaes:
        write_safetensors_header(models / vae, typed({"decoder.conv_in.weight": (8, 4, 3, 3)}))
        if vae.endswith(".pt"):
            (models / vae).write_bytes(b"\x80\x02}q\x00.")
    found = catalog(models)
    chosen = found.automatic_vae(found.find("model", ModelKind.CHECKPOINT))
    assert chosen == (str(models / expected) if expected else None)


@needs_shared
@pytest.mark.golden
def test_the_recorded_models_have_the_names_that_a1111_gave_them():
    hashes = HashCache()
    found = catalog(SHARED / "golden" / "models", hashes=hashes)
    (recorded,) = golden("a1111-get/get-sd-models.json")["body"]
    card = found.find(recorded["model_name"], ModelKind.CHECKPOINT)
    hashes.compute_now(card.files[0])
    card = found.find(recorded["title"], ModelKind.CHECKPOINT)
    assert (card.id, card.sha256, card.short_hashes[0]) == ("tiny", recorded["sha256"], recorded["hash"])
    (lora_card,) = found.cards(ModelKind.LORA)
    (recorded_lora,) = golden("a1111-get/get-loras.json")["body"]
    assert lora_card.stem == recorded_lora["name"] and lora_card.metadata == recorded_lora["metadata"]
    loaded = golden("a1111-get/get-embeddings.json")["body"]["loaded"]
    embedding = found.find("tinyemb1", ModelKind.EMBEDDING)
    assert embedding.metadata["embedding.vectors"] == str(loaded["tinyemb1"]["vectors"])
    assert embedding.metadata["embedding.width"] == str(loaded["tinyemb1"]["shape"])
    assert found.find("tinypt1", ModelKind.EMBEDDING).broken is not None


def test_an_upscaler_does_not_share_its_id_with_a_checkpoint(models):
    checkpoint(models / "Stable-diffusion" / "same.safetensors")
    (models / "ESRGAN").mkdir(exist_ok=True)
    write_safetensors_header(models / "ESRGAN" / "same.safetensors", {"conv_first.weight": ("F32", [8, 3, 3, 3])})
    found = catalog(models)
    assert found.find("same", ModelKind.CHECKPOINT).id == "same"
    assert found.find("same", ModelKind.UPSCALER).id == "same.safetensors"


def test_a_folder_of_the_diffusers_library_is_one_card(models):
    write_diffusers_folder(models / "Stable-diffusion" / "sub" / "sd-v1.5")
    (card,) = catalog(models).cards()
    assert (card.name, card.stem, card.kind) == ("sub/sd-v1.5.diffusers", "sd-v1.5", ModelKind.CHECKPOINT)
    assert card.broken is None
    assert card.files[0].endswith("sub/sd-v1.5/model_index.json")
    assert len(card.files) == 4
    assert card.size == sum(Path(path).stat().st_size for path in card.files[1:])
    assert catalog(models).find("sd-v1.5").id == card.id


def test_a_changed_weight_in_a_folder_is_seen(models):
    folder = write_diffusers_folder(models / "Stable-diffusion" / "sd")
    found = catalog(models)
    before = found.fingerprint()
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert found.fingerprint() != before
    found.scan()
    assert "VAE has no weights" in found.cards()[0].broken


def test_an_index_in_the_folder_of_all_checkpoints_hides_none_of_them(models):
    checkpoint(models / "Stable-diffusion" / "a.safetensors")
    (models / "Stable-diffusion" / "model_index.json").write_text("{}")
    assert names(catalog(models)) == ["a.safetensors"]
