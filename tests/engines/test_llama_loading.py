"""Loading on real llama.cpp: damaged files, settings, contexts, and the contract that all engines keep."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.core.errors import LoadFailed
from server.core.image import ImageRequest, Seeds, Size
from server.core.models import ImageSettings, TextSettings
from server.core.prompt import plain
from server.core.text import CompletionRequest, SamplingParams
from tests.support.engine_contract import EngineContract
from tests.support.tiny_gguf import tiny_gguf

pytest.importorskip("llama_cpp")

from server.engines.text.engine import LlamaEngine
from server.engines.text.llama_cpp import LlamaLoader
from tests.support.llama_engine import ask, card, completion, load

pytestmark = pytest.mark.llama


def test_a_damaged_file_is_refused_without_its_path(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(tiny_gguf(tmp_path / "whole.gguf").read_bytes()[:9000])
    with pytest.raises(LoadFailed) as caught:
        load(damaged)
    assert str(tmp_path) not in caught.value.message
    assert "damaged.gguf" in caught.value.message
    assert caught.value.fact("model") == "tiny"


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    whole = tiny_gguf(tmp_path / "whole.gguf")
    for wrong in (
        TextSettings(slots=0),
        TextSettings(slots=100_000),
        TextSettings(batch=0),
        TextSettings(context=-1),
        TextSettings(kv_type="f7", threads=1),
        ImageSettings(),
    ):
        with pytest.raises(LoadFailed):
            LlamaLoader().load(card(whole), wrong, lambda _: None)
    with pytest.raises(LoadFailed, match="no longer there"):
        load(tmp_path / "gone.gguf")


def test_a_listener_that_fails_stops_the_load(tmp_path: Path) -> None:
    def fail(_: float) -> None:
        raise ConnectionError("the parent has gone")

    with pytest.raises(ConnectionError):
        LlamaLoader().load(card(tiny_gguf(tmp_path / "whole.gguf")), TextSettings(threads=1), fail)


def test_the_load_is_reported(tmp_path: Path) -> None:
    fractions: list[float] = []
    settings = TextSettings(threads=1, slots=1)
    LlamaLoader().load(card(tiny_gguf(tmp_path / "whole.gguf")), settings, fractions.append).close()
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_the_context_is_what_was_set_or_capped(tmp_path: Path) -> None:
    whole = tiny_gguf(tmp_path / "whole.gguf", context=1024)
    for settings, context in (
        (TextSettings(threads=1, slots=2, context=300), 300),
        (TextSettings(threads=1, slots=2, context_cap=128), 128),
        (TextSettings(threads=1, slots=2), 1024),
    ):
        engine = LlamaLoader().load(card(whole), settings, lambda _: None)
        assert engine.facts.context == context
        work = completion("The dog", sampling=SamplingParams(temperature=0, ignore_eos=True))
        usage = ask(engine, work).finished["job", 0].usage
        assert usage.prompt_tokens + usage.completion_tokens == context
        engine.close()


@pytest.mark.parametrize("kv_type", ["f32", "q8_0"])
def test_other_cache_types(tmp_path: Path, kv_type: str) -> None:
    engine = load(tiny_gguf(tmp_path / "whole.gguf", width=128), slots=2, kv_type=kv_type)
    assert ask(engine, completion("The dog")).done == {"job"}
    engine.close()


class TestContract(EngineContract):
    """The contract of all engines, kept by the real one."""

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[LlamaEngine]:
        engine = load(tiny_gguf(tmp_path / "tiny.gguf"), slots=2)
        yield engine
        engine.close()

    @pytest.fixture
    def work(self) -> CompletionRequest:
        return completion("The dog", sampling=SamplingParams(temperature=0, max_tokens=30, ignore_eos=True), choices=2)

    @pytest.fixture
    def foreign_work(self) -> ImageRequest:
        return ImageRequest(
            model="tiny", prompt=plain("x"), negative=plain(""), size=Size(64, 64), seeds=Seeds(first=1)
        )
