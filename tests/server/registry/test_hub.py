"""Pulling from a hub on loopback: what arrives, what is refused, and that nothing half-done is ever visible."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from server.core.errors import CannotServe, InvalidValue, NotNow, ServerError, UnknownModel
from server.core.models import ModelKind
from server.registry.catalog import Catalog
from server.registry.hashes import HashCache
from server.registry.hub import PARTIALS, hub_source, pull
from server.registry.hub_transfer import HubSource
from tests.support.fake_hub import FakeHub
from tests.support.model_files import F16, LLAMA, gguf_bytes, lora, safetensors_header, sd1, typed


def gguf(size: int = 300_000, **kv) -> bytes:
    header, data = gguf_bytes({**LLAMA, **kv}, {"token_embd.weight": ((64, size // 128), F16)})
    pattern = hashlib.sha256(str(kv).encode()).digest()
    return header + (pattern * (data // 32 + 1))[:data]


def projector(*, sees: bool = True) -> bytes:
    values = {"general.architecture": "clip", "clip.has_vision_encoder": sees, "clip.projector_type": "mlp"}
    header, data = gguf_bytes(values, {"mm.0.weight": ((64, 64), F16)})
    return header + bytes(data)


def safetensors(shapes) -> bytes:
    header, data = safetensors_header(typed(shapes))
    return header + bytes(data)


def get(hub, models, name="org/repo", *, token=None, pauses=None, **options):
    pauses = [] if pauses is None else pauses
    return pull(name, models, HubSource(hub.endpoint, token), pause=pauses.append, **options)


def visible(models):
    return sorted(
        path.relative_to(models).as_posix()
        for path in models.rglob("*")
        if path.is_file() and not _hidden(path, models)
    )


def _hidden(path, models):
    return any(part.startswith(".") for part in path.relative_to(models).parts)


def test_a_gguf_arrives_whole_in_its_place_and_the_catalog_knows_it(tmp_path):
    data = gguf()
    told = []
    hashes = HashCache()
    with FakeHub({"README.md": b"hi", "m.Q4_K_M.gguf": data, "m.Q8_0.gguf": gguf(x=1)}) as hub:
        done = get(hub, tmp_path, progress=lambda *args: told.append(args), hashes=hashes)
    assert done.files == done.fresh == (tmp_path / "text" / "m.Q4_K_M.gguf",)
    assert done.files[0].read_bytes() == data and done.commit == hub.commit
    assert visible(tmp_path) == ["text/m.Q4_K_M.gguf"]
    assert told[-1] == (len(data), len(data), "m.Q4_K_M.gguf")
    assert [step[0] for step in told] == sorted(step[0] for step in told)
    catalog = Catalog([tmp_path], hashes=hashes)
    (card,) = catalog.scan()
    assert card.broken is None and card.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("shapes", "kind", "place"),
    [
        (sd1(), None, "Stable-diffusion/a.safetensors"),
        (lora(), None, "Lora/a.safetensors"),
        ({"decoder.conv_in.weight": (8, 4, 3, 3)}, None, "VAE/a.safetensors"),
        ({"emb_params": (2, 8)}, None, "embeddings/a.safetensors"),
        ({"body.0.weight": (2, 8)}, ModelKind.UPSCALER, "ESRGAN/a.safetensors"),
    ],
)
def test_content_or_the_named_kind_decides_the_folder(tmp_path, shapes, kind, place):
    with FakeHub({"a.safetensors": safetensors(shapes)}) as hub:
        get(hub, tmp_path, kind=kind)
    assert visible(tmp_path) == [place]


def test_an_existing_folder_is_used_whatever_its_case(tmp_path):
    (tmp_path / "stable-diffusion").mkdir()
    with FakeHub({"a.safetensors": safetensors(sd1())}) as hub:
        get(hub, tmp_path)
    assert visible(tmp_path) == ["stable-diffusion/a.safetensors"]


@pytest.mark.parametrize("kind", [ModelKind.LORA, None])
def test_content_that_contradicts_or_does_not_say_is_refused(tmp_path, kind):
    shapes = sd1() if kind else {"body.0.weight": (2, 8)}
    with FakeHub({"a.safetensors": safetensors(shapes)}) as hub, pytest.raises(CannotServe, match="not put up"):
        get(hub, tmp_path, kind=kind)
    assert visible(tmp_path) == []


def test_generic_names_get_the_repositorys(tmp_path):
    with FakeHub({"model.safetensors": safetensors(sd1())}) as hub:
        get(hub, tmp_path)
    assert visible(tmp_path) == ["Stable-diffusion/repo-model.safetensors"]


def test_all_parts_appear_together(tmp_path):
    def part(number):
        header, data = gguf_bytes({**(LLAMA if number == 1 else {}), "split.no": number - 1, "split.count": 2})
        return header + bytes(data)

    names = [f"big-Q8_0-{number:05d}-of-00002.gguf" for number in (1, 2)]
    with FakeHub({name: part(number) for number, name in enumerate(names, 1)}) as hub:
        hub.status = lambda path: 404 if path.endswith(names[1]) else None
        with pytest.raises(UnknownModel):
            get(hub, tmp_path)
        assert visible(tmp_path) == []
        hub.status = lambda path: None
        get(hub, tmp_path)
    assert visible(tmp_path) == [f"text/{name}" for name in names]
    (card,) = Catalog([tmp_path], hashes=HashCache()).scan()
    assert card.broken is None and len(card.files) == 2


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_a_model_comes_with_its_projector_and_the_catalog_joins_them(tmp_path):
    sees = projector()
    files = {"a-7B-Q4_K_M.gguf": gguf(), "a-7B-Q8_0.gguf": gguf(x=1), "mmproj-F16.gguf": sees}
    with FakeHub(files) as hub:
        done = get(hub, tmp_path)
        with FakeHub({"b-Q4_0.gguf": gguf(x=2)}, repo="org/b") as other:
            get(other, tmp_path, "org/b")
        assert get(hub, tmp_path).fresh == ()
        assert visible(tmp_path) == ["text/a-7B-Q4_K_M.gguf", "text/b-Q4_0.gguf", "text/mmproj-a-7b-F16.gguf"]
    assert {path.name for path in done.fresh} == {"a-7B-Q4_K_M.gguf", "mmproj-a-7b-F16.gguf"}
    cards = Catalog([tmp_path], hashes=HashCache()).scan()
    projectors = {card.stem: Path(card.projector).name for card in cards if card.kind is ModelKind.TEXT}
    assert projectors == {"a-7B-Q4_K_M": "mmproj-a-7b-F16.gguf", "b-Q4_0": ""}


@pytest.mark.parametrize("options", [{"projector": False}, {"kind": ModelKind.LORA}])
def test_a_projector_that_is_not_wanted_is_not_fetched(tmp_path, options):
    with FakeHub({"a-Q4_0.gguf": gguf(), "mmproj-F16.gguf": projector()}) as hub:
        if "kind" in options:
            with pytest.raises(CannotServe):
                get(hub, tmp_path, **options)
        else:
            get(hub, tmp_path, **options)
        assert not [path for method, path, *_ in hub.seen if method == "GET" and "mmproj" in path]


def test_a_projector_alone_is_fetched_by_its_name(tmp_path):
    with FakeHub({"a-Q4_0.gguf": gguf(), "mmproj-a-F16.gguf": projector()}) as hub:
        get(hub, tmp_path, "org/repo:mmproj-a-F16.gguf")
    assert visible(tmp_path) == ["text/mmproj-a-F16.gguf"]


@pytest.mark.parametrize("case", ["for sounds", "another file is there"])
def test_a_projector_that_cannot_be_put_up_is_told_and_the_model_comes_without(tmp_path, case):
    if case == "another file is there":
        (tmp_path / "text").mkdir()
        (tmp_path / "text" / "mmproj-a-F16.gguf").write_bytes(b"mine")
    with FakeHub({"a-Q4_0.gguf": gguf(), "mmproj-F16.gguf": projector(sees=case != "for sounds")}) as hub:
        done = get(hub, tmp_path)
    assert [path.name for path in done.files] == ["a-Q4_0.gguf"]
    assert "without its projector" in done.notes[0]
    assert not [path for path in (tmp_path / PARTIALS).iterdir() if path.suffix == ".gguf"]


@pytest.mark.parametrize("large", [True, False], ids=["sha256", "git blob"])
def test_a_flipped_byte_is_refused_and_nothing_is_visible(tmp_path, large):
    with FakeHub({"m.Q4_K_M.gguf": gguf()}, large=large) as hub:
        hub.body = lambda name, data: flipped(data)
        with pytest.raises(CannotServe, match="damaged twice"):
            get(hub, tmp_path)
        assert len(hub.downloads()) == 2
    assert visible(tmp_path) == []
    assert list((tmp_path / PARTIALS).iterdir()) == []


def test_a_byte_flipped_once_is_fetched_again(tmp_path):
    data = gguf()
    with FakeHub({"m.Q4_K_M.gguf": data}) as hub:
        hub.body = lambda name, sent: flipped(sent) if len(hub.downloads()) == 1 else sent
        done = get(hub, tmp_path)
    assert done.files[0].read_bytes() == data


@pytest.mark.parametrize("path", ["../../x.gguf", "/etc/x.gguf", "a/../../x.gguf", "a\\..\\x.gguf"])
def test_a_listing_that_points_elsewhere_is_refused(tmp_path, path):
    with FakeHub({"m.Q4_K_M.gguf": gguf(), path: gguf()}) as hub:
        with pytest.raises(CannotServe, match="not allowed"):
            get(hub, tmp_path / "models")
        assert hub.downloads() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", [0, 1, 2**17 - 1, 2**17, 2**17 + 1, -1])
def test_a_cut_download_goes_on_where_it_ended(tmp_path, at):
    data = gguf()
    with FakeHub({"m.Q4_K_M.gguf": data}) as hub:
        hub.body = lambda name, sent: sent[:at] if len(hub.downloads()) == 1 else sent
        pauses = []
        done = get(hub, tmp_path, pauses=pauses)
        kept = len(data[:at])
        assert hub.downloads() == [None, f"bytes={kept}-" if kept else None]
    assert done.files[0].read_bytes() == data
    assert pauses != []


def test_a_pull_that_gave_up_is_taken_up_by_the_next(tmp_path):
    data = gguf()
    with FakeHub({"m.Q4_K_M.gguf": data}) as hub:
        hub.body = lambda name, sent: sent[:100_000]
        with pytest.raises(NotNow, match="is kept"):
            get(hub, tmp_path)
        assert visible(tmp_path) == []
        hub.seen.clear()
        hub.body = lambda name, sent: sent
        done = get(hub, tmp_path)
        assert hub.downloads() == ["bytes=100000-"]
    assert done.files[0].read_bytes() == data


def test_a_server_without_ranges_sends_all_again(tmp_path):
    data = gguf()
    with FakeHub({"m.Q4_K_M.gguf": data}) as hub:
        hub.ranges = False
        hub.body = lambda name, sent: sent[:1000] if len(hub.downloads()) == 1 else sent
        assert get(hub, tmp_path).files[0].read_bytes() == data


def test_another_content_starts_anew_and_does_not_go_on_with_the_old(tmp_path):
    with FakeHub({"m.Q4_K_M.gguf": gguf()}) as hub:
        hub.body = lambda name, sent: sent[:1000]
        with pytest.raises(NotNow):
            get(hub, tmp_path)
    data = gguf(other=1)
    with FakeHub({"m.Q4_K_M.gguf": data}) as hub:
        assert get(hub, tmp_path).files[0].read_bytes() == data
        assert hub.downloads() == [None]


def test_a_busy_hub_is_waited_for_as_it_asks(tmp_path):
    answers = iter([503, 429])
    with FakeHub({"m.Q4_K_M.gguf": gguf()}) as hub:
        hub.retry_after = "7"
        hub.status = lambda path: next(answers, None) if "/resolve/" in path else None
        pauses = []
        get(hub, tmp_path, pauses=pauses)
    assert pauses == [7.0, 7.0]


def test_storage_on_the_hubs_own_host_may_be_redirected_to(tmp_path):
    data = gguf()
    with FakeHub({"m.Q4_K_M.gguf": data, "stored": data}) as hub:
        hub.redirect = lambda name: f"/org/repo/resolve/{hub.commit}/stored" if name != "stored" else None
        done = get(hub, tmp_path, "org/repo:m.Q4_K_M.gguf", token="secret")
        assert {token for *_, token in hub.seen} == {"Bearer secret"}
    assert done.files[0].read_bytes() == data


@pytest.mark.parametrize(
    "place", ["{canary}/x", "https://127.0.0.1:1/x", "https://huggingface.co.evil.test/x", "file:///etc/passwd"]
)
def test_redirects_to_other_hosts_are_refused_and_the_token_never_goes_there(tmp_path, place):
    with FakeHub({"x": b"x"}) as canary, FakeHub({"m.Q4_K_M.gguf": gguf()}) as hub:
        hub.redirect = lambda name: place.format(canary=canary.endpoint)
        with pytest.raises(ServerError):
            get(hub, tmp_path, token="secret")
        assert canary.seen == []
    assert visible(tmp_path) == []


def test_sizes_that_the_listing_lacks_are_asked_for(tmp_path):
    data = gguf()
    with FakeHub({"m.Q4_K_M.gguf": data}) as hub:
        hub.listed_sizes = False
        hub.body = lambda name, sent: flipped(sent)
        with pytest.raises(CannotServe, match="damaged"):
            get(hub, tmp_path)
        hub.body = lambda name, sent: sent
        assert get(hub, tmp_path).files[0].read_bytes() == data
        assert "HEAD" in {method for method, *_ in hub.seen}


def test_what_is_there_is_not_fetched_again_and_a_newer_one_is_told(tmp_path):
    old = gguf()
    with FakeHub({"m.Q4_K_M.gguf": old}) as hub:
        first = get(hub, tmp_path)
        again = get(hub, tmp_path)
        assert (again.files, again.fresh, again.notes) == (first.files, (), ())
        hub.files["m.Q4_K_M.gguf"], hub.commit = gguf(new=1), "2" * 40
        moved = get(hub, tmp_path)
        assert len(hub.downloads()) == 1
    assert moved.fresh == () and "2" * 12 in moved.notes[0] and "1" * 12 in moved.notes[0]
    assert first.files[0].read_bytes() == old
    note = json.loads((tmp_path / "text" / ".m.Q4_K_M.gguf.pulled.json").read_text())
    assert note["commit"] == "1" * 40 and note["repo"] == "org/repo"


def test_a_file_of_somebody_else_is_never_overwritten(tmp_path):
    target = tmp_path / "text" / "m.Q4_K_M.gguf"
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with FakeHub({"m.Q4_K_M.gguf": gguf()}) as hub, pytest.raises(CannotServe, match="another file"):
        get(hub, tmp_path)
    assert target.read_bytes() == b"mine"


def test_the_same_file_put_there_by_hand_is_adopted(tmp_path):
    target = tmp_path / "text" / "m.Q4_K_M.gguf"
    target.parent.mkdir()
    target.write_bytes(gguf())
    with FakeHub({"m.Q4_K_M.gguf": gguf()}) as hub:
        assert get(hub, tmp_path).fresh == ()


def test_a_broken_model_is_refused_before_anybody_sees_it(tmp_path):
    with FakeHub({"m.Q4_K_M.gguf": b"GGUF" + bytes(1000)}) as hub, pytest.raises(CannotServe, match="not put up"):
        get(hub, tmp_path)
    assert visible(tmp_path) == []


def test_a_disk_without_room_is_told_before_anything_is_fetched(tmp_path):
    with FakeHub({"m.Q4_K_M.gguf": gguf()}) as hub:
        real = hub.listing()
        real["siblings"][0]["size"] = real["siblings"][0]["lfs"]["size"] = 1 << 60
        hub.listing = lambda: real
        with pytest.raises(CannotServe, match="free"):
            get(hub, tmp_path)
        assert hub.downloads() == []


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, CannotServe), (403, CannotServe), (404, UnknownModel), (429, NotNow), (500, NotNow), (418, CannotServe)],
)
def test_refusals_of_the_hub_are_core_errors(tmp_path, status, error):
    with FakeHub({"m.Q4_K_M.gguf": gguf()}) as hub:
        hub.status = lambda path: status if path.startswith("/api/") else None
        with pytest.raises(error):
            get(hub, tmp_path)


def test_a_hub_that_is_not_there_is_told(tmp_path):
    with FakeHub({}) as hub:
        gone = hub.endpoint
    with pytest.raises(NotNow, match="cannot be reached"):
        pull("org/repo", tmp_path, HubSource(gone))


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"siblings": 5}', b"[" * 100_000])
def test_a_listing_that_is_none_is_told(tmp_path, answer):
    with FakeHub({}) as hub:
        hub.listing = lambda: Raw(answer)
        with pytest.raises(CannotServe):
            get(hub, tmp_path)


class Raw(dict):
    """Bytes that json.dumps is made to print as they are."""

    def __init__(self, text):
        self.text = text


@pytest.fixture(autouse=True)
def raw_listings(monkeypatch):
    from tests.support import fake_hub

    whole = json.dumps
    monkeypatch.setattr(
        fake_hub.json,
        "dumps",
        lambda value, **rest: value.text.decode() if isinstance(value, Raw) else whole(value, **rest),
    )


def test_two_pulls_of_one_file_do_not_meet(tmp_path):
    data = gguf()
    refused = []
    with FakeHub({"m.Q4_K_M.gguf": data}) as hub:

        def second(done, total, name):
            if not refused:
                with pytest.raises(NotNow, match="already"):
                    get(hub, tmp_path)
                refused.append(done)

        assert get(hub, tmp_path, progress=second).files[0].read_bytes() == data
    assert len(refused) == 1


def test_leftovers_of_yesterday_go_and_younger_ones_stay(tmp_path):
    partials = tmp_path / PARTIALS
    partials.mkdir()
    for name, age in (("old", 90_000), ("young", 3600)):
        (partials / name).write_bytes(b"x")
        os.utime(partials / name, (time.time() - age,) * 2)
    with FakeHub({"m.Q4_K_M.gguf": gguf()}) as hub:
        get(hub, tmp_path)
    assert [path.name for path in partials.iterdir()] == ["young"]


def test_kinds_without_a_folder_are_refused(tmp_path):
    with pytest.raises(InvalidValue):
        pull("org/repo", tmp_path, HubSource("http://127.0.0.1:1"), kind=ModelKind.PREVIEW)


@pytest.mark.parametrize("endpoint", ["ftp://x", "nothing", "http://user:pass@x"])
def test_an_address_that_is_no_hub_is_refused(tmp_path, endpoint):
    with pytest.raises(InvalidValue):
        pull("org/repo", tmp_path, HubSource(endpoint))


def test_hub_and_token_come_from_the_environment_alone():
    assert hub_source({}) == HubSource("https://huggingface.co", None)
    assert hub_source({"HF_ENDPOINT": "http://x", "HF_TOKEN": "t"}) == HubSource("http://x", "t")


def test_the_hubs_own_library_understands_the_fake_one(tmp_path, monkeypatch):
    """The fake speaks the protocol, so that what is shown with it holds for the hub."""
    from huggingface_hub import HfApi

    data = gguf()
    with FakeHub({"m.Q4_K_M.gguf": data}) as hub:
        api = HfApi(endpoint=hub.endpoint, token=False)
        (sibling,) = api.model_info("org/repo", files_metadata=True).siblings
        assert (sibling.rfilename, sibling.size, sibling.lfs.sha256) == (
            "m.Q4_K_M.gguf",
            len(data),
            hashlib.sha256(data).hexdigest(),
        )
        path = api.hf_hub_download("org/repo", "m.Q4_K_M.gguf", revision=hub.commit, cache_dir=tmp_path)
    assert Path(path).read_bytes() == data
