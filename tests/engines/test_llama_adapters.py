"""LoRA adapters on real llama.cpp: what they do, that sets keep apart, and files that cannot be used."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from server.core.errors import InvalidValue
from server.core.jobs import JobEvent, JobId
from server.core.memory import RAM
from server.core.models import Adapter, TextSettings
from server.core.text import AdapterScale, CompletionRequest, SamplingParams, TextDelta
from tests.support.engine_driver import run
from tests.support.gguf_writer import STRING, U32
from tests.support.tiny_gguf import tiny_gguf
from tests.support.tiny_lora import TinyLora

pytest.importorskip("llama_cpp")

from server.engines.text.engine import TURN, LlamaEngine
from server.engines.text.llama_cpp import LlamaLoader
from tests.support.llama_engine import ask, card

pytestmark = pytest.mark.llama

GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
PROMPT = "once upon a time there was a little dog named sun"
LONG = "the sad cat named tree and the happy girl played in the big park all day. " * 2
LOUD, SOFT = TinyLora(1), TinyLora(2)
SETS = ((), (("loud", 1.0),), (("soft", 0.5),), (("loud", 0.5), ("soft", 1.0)))


def settings(*adapters: Adapter, kv_type: str = "f16") -> TextSettings:
    return TextSettings(slots=8, threads=1, gpu_layers=0, loras=adapters, kv_type=kv_type)


def loaded(path: Path, *adapters: Adapter, kv_type: str = "f16") -> LlamaEngine:
    engine = LlamaLoader().load(card(path), settings(*adapters, kv_type=kv_type), lambda _: None)
    assert isinstance(engine, LlamaEngine)
    return engine


def scales(*named: tuple[str | int, float]) -> tuple[AdapterScale, ...]:
    return tuple(AdapterScale(adapter=name, scale=scale) for name, scale in named)


def asked(
    prompt: str = PROMPT,
    adapters: tuple[AdapterScale, ...] | None = None,
    sampling: SamplingParams = GREEDY,
    logprobs: int | None = None,
) -> CompletionRequest:
    return CompletionRequest(
        model="tiny",
        prompts=(prompt,),
        sampling=sampling,
        adapters=adapters,
        logprobs=logprobs,
        echo=logprobs is not None,
    )


def logprobs_of(engine: LlamaEngine, adapters: tuple[AdapterScale, ...] | None) -> list[float]:
    """Return the logprob of each token of the prompt but the first: the raw logits decide them."""
    only_prompt = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
    engine.submit(JobId("scored"), asked(adapters=adapters, sampling=only_prompt, logprobs=0))
    found = []
    while not engine.is_idle():
        for outcome in engine.step():
            if isinstance(outcome, JobEvent) and isinstance(outcome.event, TextDelta):
                found += [told.logprob for told in outcome.event.logprobs if told.logprob is not None]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    tiny_gguf(folder / "tiny.gguf")
    LOUD.write(folder / "loud.gguf")
    SOFT.write(folder / "soft.gguf")
    return folder


def both(folder: Path) -> tuple[Adapter, Adapter]:
    return Adapter(name="loud", file=str(folder / "loud.gguf")), Adapter(name="soft", file=str(folder / "soft.gguf"))


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[LlamaEngine]:
    engine = loaded(folder / "tiny.gguf", *both(folder))
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: LlamaEngine) -> LlamaEngine:
    assert shared.is_idle()
    return shared


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[LlamaEngine]:
    engine = loaded(folder / "tiny.gguf")
    yield engine
    engine.close()


def test_a_scale_of_0_is_no_adapter_at_all(engine: LlamaEngine, plain: LlamaEngine) -> None:
    without = ask(plain, asked()).text("job")
    assert ask(engine, asked(adapters=scales(("loud", 0.0)))).text("job") == without
    assert ask(engine, asked()).text("job") == without
    assert ask(engine, asked(adapters=scales(("loud", 1.0)))).text("job") != without
    assert logprobs_of(engine, scales(("loud", 0.0), ("soft", 0.0))) == logprobs_of(plain, None)


def test_adapters_give_what_merged_weights_give(folder: Path, tmp_path: Path) -> None:
    """Kernels sum in another order, so the logits are near, not equal."""
    added = LOUD.added(0.7)
    added = {name: more + SOFT.added(-0.4)[name] for name, more in added.items()}
    merged = loaded(tiny_gguf(tmp_path / "merged.gguf", added=added), kv_type="f32")
    adapted = loaded(folder / "tiny.gguf", *both(folder), kv_type="f32")
    wanted = logprobs_of(merged, None)
    found = logprobs_of(adapted, scales(("loud", 0.7), ("soft", -0.4)))
    without = logprobs_of(adapted, None)
    merged.close()
    adapted.close()
    assert np.abs(np.subtract(found, wanted)).max() < 0.02
    assert np.abs(np.subtract(without, wanted)).max() > 1


def test_sets_side_by_side_give_what_each_gives_alone(engine: LlamaEngine) -> None:
    alone = {named: ask(engine, asked(adapters=scales(*named))).text("job") for named in SETS}
    assert len(set(alone.values())) == len(SETS)
    for number in range(8):
        named = SETS[number % len(SETS)]
        engine.submit(JobId(f"{number}"), asked(adapters=scales(*named)))
    together = run(engine)
    assert {number: together.text(f"{number}") for number in range(8)} == {
        number: alone[SETS[number % len(SETS)]] for number in range(8)
    }


def test_a_prompt_is_never_taken_from_what_other_adapters_computed(engine: LlamaEngine) -> None:
    def cached(named: tuple[tuple[str, float], ...] | None) -> int:
        found = ask(engine, asked(LONG, None if named is None else scales(*named)))
        return found.finished["job", 0].usage.cached_tokens

    loud, near = (("loud", 1.0),), (("loud", 0.9),)
    for named in (None, loud, near):
        assert cached(named) <= 1, "not more than the token that begins every text"
    for named in (None, loud, near, (("soft", 0.0),)):
        assert cached(named) > 32


def test_no_set_waits_longer_than_a_turn_of_each_other(engine: LlamaEngine) -> None:
    endless = SamplingParams(temperature=0, max_tokens=300, ignore_eos=True)
    for number, named in enumerate(SETS):
        engine.submit(JobId(f"{number}"), asked(adapters=scales(*named), sampling=endless))
    jobs = [f"{number}" for number in range(len(SETS))]
    seen = run(engine, until=lambda c: all(c.tokens[job, 0] > 0 for job in jobs))
    for _ in range(3):
        before = dict(seen.tokens)
        for _ in range(TURN * len(SETS)):
            seen.feed(engine.step())
        assert all(seen.tokens[job, 0] > before[job, 0] for job in jobs)
    run(engine, into=seen)


def test_a_new_prompt_begins_while_other_sets_are_answered(engine: LlamaEngine) -> None:
    endless = SamplingParams(temperature=0, max_tokens=400, ignore_eos=True)
    for number, named in enumerate(SETS[:3]):
        engine.submit(JobId(f"{number}"), asked(adapters=scales(*named), sampling=endless))
    seen = run(engine, until=lambda c: all(c.tokens[f"{number}", 0] > 0 for number in range(3)))
    engine.submit(JobId("late"), asked(adapters=scales(*SETS[3])))
    run(engine, into=seen, until=lambda c: "late" in c.done)
    assert not seen.done & {"0", "1", "2"}
    run(engine, into=seen)


def test_an_adapter_with_a_scale_acts_on_requests_that_name_none(folder: Path, engine: LlamaEngine) -> None:
    own = loaded(folder / "tiny.gguf", Adapter(name="loud", file=str(folder / "loud.gguf"), scale=1.0))
    assert own.facts.adapters[0].scale == 1.0
    assert ask(own, asked()).text("job") == ask(engine, asked(adapters=scales(("loud", 1.0)))).text("job")
    assert ask(own, asked(adapters=scales((0, 0.0)))).text("job") == ask(engine, asked()).text("job")
    own.close()


def test_numbers_and_names_mean_the_same(engine: LlamaEngine) -> None:
    for number, name in ((0, "loud"), (1, "soft")):
        by_number, by_name = (ask(engine, asked(adapters=scales((key, 1.0)))) for key in (number, name.upper()))
        assert by_number.text("job") == by_name.text("job")


@pytest.mark.parametrize("key", [2, 10**9, "louder", ""])
def test_an_unknown_adapter_is_refused_with_those_there_are(engine: LlamaEngine, key: int | str) -> None:
    with pytest.raises(InvalidValue, match=r"0 \(loud\), 1 \(soft\)") as caught:
        engine.submit(JobId("bad"), asked(adapters=(AdapterScale(adapter=key, scale=1.0, param="lora[0].id"),)))
    assert caught.value.fact("param") == "lora[0].id"
    assert engine.is_idle()


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-4000])
    return path


def odd_files(folder: Path) -> dict[str, Path]:
    text = folder / "text.gguf"
    text.write_text("not a model")
    return {
        "cut": cut(TinyLora(3).write(folder / "cut.gguf")),
        "other": TinyLora(3).write(folder / "other.gguf", architecture="qwen2"),
        "wide": TinyLora(3, width=64).write(folder / "wide.gguf"),
        "vector": TinyLora(3).write(folder / "vector.gguf", adapter__type=(STRING, "control")),
        "switched": TinyLora(3).write(folder / "switched.gguf", adapter__alora__invocation_tokens=(9, (U32, [1, 2]))),
        "model": tiny_gguf(folder / "model.gguf"),
        "text": text,
        "gone": folder / "gone.gguf",
    }


def test_files_that_cannot_be_used_say_why_and_cost_nobody_else(folder: Path, tmp_path: Path) -> None:
    odd = odd_files(tmp_path)
    wanted = [Adapter(name=name, file=str(path), scale=1.0) for name, path in odd.items()]
    own = loaded(folder / "tiny.gguf", *wanted, both(folder)[0])
    listed = own.facts.adapters
    assert [adapter.name for adapter in listed] == [*odd, "loud"]
    for adapter in listed[:-1]:
        assert adapter.problem and str(tmp_path) not in adapter.problem
        with pytest.raises(InvalidValue, match="cannot be used"):
            own.submit(JobId("bad"), asked(adapters=scales((adapter.name, 1.0))))
    assert listed[-1].problem is None
    alone = loaded(folder / "tiny.gguf", both(folder)[0])
    assert ask(own, asked()).text("job") == ask(alone, asked()).text("job")
    assert ask(own, asked(adapters=scales(("loud", 1.0)))).text("job") == ask(
        alone, asked(adapters=scales((0, 1.0)))
    ).text("job")
    own.close()
    alone.close()


def test_adapters_are_counted(folder: Path) -> None:
    own = loaded(folder / "tiny.gguf", *both(folder))
    files = sum((folder / f"{name}.gguf").stat().st_size for name in ("tiny", "loud", "soft"))
    assert own.facts.footprint.resident[RAM] >= 0.8 * files
    own.close()
