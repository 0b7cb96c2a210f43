"""Slots saved and restored with real llama.cpp: a later request, of a later process too, goes on from there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.core.errors import InvalidValue, ServerError, Unsupported, from_data
from server.core.jobs import CancelMode, JobDone, JobEvent, JobFailed, JobId
from server.core.models import Adapter, TextSettings
from server.core.slots import SlotDone, SlotRequest
from server.core.text import AdapterScale, CompletionRequest, SamplingParams
from tests.support.tiny_archs import tiny_qwen2
from tests.support.tiny_gguf import tiny_gguf
from tests.support.tiny_lora import TinyLora
from tests.support.tiny_recurrent import tiny_gemma3, tiny_mamba

pytest.importorskip("llama_cpp")

from server.engines.text.engine import LlamaEngine
from server.engines.text.llama_cpp import LlamaLoader
from tests.support.llama_engine import ask, card

pytestmark = pytest.mark.llama

GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
PROMPT = "once upon a time there was a little dog named sun and a cat that sat in the park"
MAKERS = (tiny_gguf, tiny_qwen2, tiny_gemma3, tiny_mamba)


class House:
    """Engines over one folder of slots, closed in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = folder / "slots"
        self._engines: list[LlamaEngine] = []

    def engine(self, path: Path, **settings: object) -> LlamaEngine:
        usual = {"slots": 4, "threads": 1, "gpu_layers": 0, "slots_dir": str(self.kept), "speculation": False}
        engine = LlamaLoader().load(card(path), TextSettings(**(usual | settings)), lambda _: None)  # type: ignore[arg-type]
        assert isinstance(engine, LlamaEngine)
        self._engines.append(engine)
        return engine

    def close(self) -> None:
        for engine in self._engines:
            engine.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


@pytest.fixture
def engine(house: House) -> LlamaEngine:
    return house.engine(tiny_gguf(house.folder / "tiny.gguf"))


def act(engine: LlamaEngine, action: str, slot: int = 0, filename: str = "x.bin", scope: str = "") -> SlotDone:
    """Do something with a slot; raise what the engine refuses."""
    work = SlotRequest(model="tiny", slot=slot, action=action, filename=filename, scope=scope)  # type: ignore[arg-type]
    engine.submit(JobId("slot"), work)
    told: list[SlotDone] = []
    while not engine.is_idle():
        for outcome in engine.step():
            if outcome.job != "slot":
                continue
            if isinstance(outcome, JobFailed):
                raise from_data(outcome.error)
            if isinstance(outcome, JobEvent):
                assert isinstance(outcome.event, SlotDone)
                told.append(outcome.event)
    (done,) = told
    return done


def asked(prompt: str | tuple[int, ...] = PROMPT, **fields: object) -> CompletionRequest:
    return CompletionRequest(model="tiny", prompts=(prompt,), **({"sampling": GREEDY} | fields))  # type: ignore[arg-type]


def said(
    engine: LlamaEngine, prompt: str | tuple[int, ...] = PROMPT, job: str = "job", **fields: object
) -> tuple[str, int, int]:
    """Return a reply's text, how many tokens its prompt has and how many of them were not computed again."""
    told = ask(engine, asked(prompt, **fields), job)
    usage = told.finished[job, 0].usage
    return told.text(job), usage.prompt_tokens, usage.cached_tokens


def begin(engine: LlamaEngine, work: CompletionRequest, job: str = "long") -> None:
    """Let a job's replies take their sequences."""
    engine.submit(JobId(job), work)
    while engine._jobs.waiting or not engine._caches.running:
        engine.step()


@pytest.mark.parametrize("write", MAKERS, ids=lambda write: write.__name__)
def test_another_process_goes_on_from_what_was_saved(house: House, write) -> None:
    path = write(house.folder / "model.gguf")
    first = house.engine(path)
    said(first, slot=2)
    held = first._caches.of_slot(2, "")
    assert held is not None
    longer = (*held.tokens.tolist(), 5, 6, 7)
    saved = act(first, "save", 2)
    assert (saved.tokens, saved.bytes) == (len(longer) - 3, (house.kept / "x.bin").stat().st_size)
    expected = said(first, longer)
    second = house.engine(path)
    restored = act(second, "restore", 1)
    assert (restored.tokens, restored.bytes) == (saved.tokens, saved.bytes)
    assert said(second, longer) == expected == (expected[0], len(longer), saved.tokens)


def test_a_slot_is_what_was_computed_for_its_number(engine: LlamaEngine) -> None:
    one, two = "the dog and the cat " * 3, "a big red ball was in the park " * 3
    said(engine, one, slot=3)
    said(engine, two, slot=1)
    act(engine, "save", 3, "one.bin")
    act(engine, "save", 1, "two.bin")
    for slot in range(4):
        act(engine, "erase", slot)
    assert said(engine, one)[2] == 0
    for slot in range(4):
        act(engine, "erase", slot)
    act(engine, "restore", 0, "one.bin")
    assert said(engine, one)[2] > 10 and said(engine, two)[2] <= 1


def test_a_request_that_names_no_slot_is_in_the_one_it_ran_in(engine: LlamaEngine) -> None:
    said(engine)
    held = [act(engine, "erase", slot).tokens for slot in range(4)]
    assert sum(count > 0 for count in held) == 1
    assert [act(engine, "erase", slot).tokens for slot in range(4)] == [0] * 4


def test_a_slot_in_use_waits_and_others_do_not(engine: LlamaEngine) -> None:
    begin(engine, asked(slot=1))
    engine.submit(JobId("save"), SlotRequest(model="tiny", slot=1, action="save", filename="x.bin"))
    engine.submit(JobId("erase"), SlotRequest(model="tiny", slot=2, action="erase"))
    order = [outcome.job for _ in range(200) for outcome in engine.step() if isinstance(outcome, JobDone)]
    assert order == ["erase", "long", "save"]


def test_a_restore_waits_until_a_sequence_is_free(engine: LlamaEngine) -> None:
    said(engine)
    act(engine, "save", 0)
    begin(engine, asked(choices=4), "many")
    engine.submit(JobId("restore"), SlotRequest(model="tiny", slot=1, action="restore", filename="x.bin"))
    order = [outcome.job for _ in range(200) for outcome in engine.step() if isinstance(outcome, JobDone)]
    assert order == ["many", "restore"]


def test_waiting_work_can_be_cancelled(engine: LlamaEngine) -> None:
    begin(engine, asked(slot=1))
    engine.submit(JobId("save"), SlotRequest(model="tiny", slot=1, action="save", filename="x.bin"))
    engine.cancel(JobId("save"), CancelMode.ABANDON)
    ended = [outcome.job for _ in range(200) for outcome in engine.step() if isinstance(outcome, JobDone)]
    assert ended == ["save", "long"] and engine.is_idle()


def refused(engine: LlamaEngine, action: str, slot: int = 0, filename: str = "x.bin", scope: str = "") -> ServerError:
    with pytest.raises(ServerError) as caught:
        act(engine, action, slot, filename, scope)
    return caught.value


def test_what_cannot_be_is_refused(house: House, engine: LlamaEngine) -> None:
    for wrong in (refused(engine, "save", 4), refused(engine, "save", -1), refused(engine, "restore", 9)):
        assert isinstance(wrong, InvalidValue) and wrong.message == "Invalid slot ID"
    for name in ("../x", "", "a/b"):
        assert refused(engine, "save", 0, name).message == "Invalid filename"
    assert "no file" in refused(engine, "restore").message
    assert "nothing" in refused(engine, "save").message
    off = house.engine(house.folder / "tiny.gguf", slots_dir="")
    assert isinstance(refused(off, "erase"), Unsupported)


def test_a_file_that_is_of_no_use_harms_nothing(house: House, engine: LlamaEngine) -> None:
    said(engine, slot=0)
    act(engine, "save")
    file = house.kept / "x.bin"
    whole = file.read_bytes()
    other = tiny_qwen2(house.folder / "other.gguf")
    for strange in (house.engine(other), house.engine(house.folder / "tiny.gguf", kv_type="f32")):
        said(strange, slot=0)
        assert "another model" in refused(strange, "restore").message
        assert said(strange)[2] > 10
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"\0" * len(whole), whole[:100] + b"\xff" + whole[101:]):
        file.write_bytes(damaged)
        assert isinstance(refused(engine, "restore"), InvalidValue)
        assert said(engine)[2] > 10
    file.write_bytes(whole)
    short = house.engine(house.folder / "tiny.gguf", context=16)
    assert "room for" in refused(short, "restore").message


def test_scopes_keep_apart(house: House, engine: LlamaEngine) -> None:
    said(engine, slot=0, scope="ann")
    assert "nothing" in refused(engine, "save", scope="bob").message
    assert act(engine, "erase", scope="bob").tokens == 0
    act(engine, "save", scope="ann")
    kept = (house.kept / "x.bin").read_bytes()
    assert "no file" in refused(engine, "restore", scope="bob").message
    said(engine, slot=0, scope="bob")
    assert "another owner" in refused(engine, "save", scope="bob").message
    assert (house.kept / "x.bin").read_bytes() == kept
    assert act(engine, "erase", scope="ann").tokens > 0
    act(engine, "restore", 3, scope="ann")
    assert said(engine, scope="ann")[2] > 10 and said(engine, "the " + PROMPT, scope="bob")[2] <= 1


def test_a_cache_belongs_to_the_adapters_that_acted(house: House) -> None:
    path = tiny_gguf(house.folder / "tiny.gguf")
    TinyLora(1).write(house.folder / "loud.gguf")
    loud = Adapter(name="loud", file=str(house.folder / "loud.gguf"))
    acting = (AdapterScale(adapter="loud", scale=0.5),)
    first = house.engine(path, loras=(loud,))
    expected = said(first, slot=0, adapters=acting)[0]
    act(first, "save")
    second = house.engine(path, loras=(loud,))
    act(second, "restore")
    assert said(second)[2] == 0
    text, _, cached = said(second, adapters=acting)
    assert text == expected and cached > 10
    assert "no adapter" in refused(house.engine(path), "restore").message
