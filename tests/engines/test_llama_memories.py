"""Models whose memory is no plain cache: states that cannot be cut, windows. Their answers are those of a fresh model.

What can be taken over from an earlier text is: all of it, or what a cache that can be cut holds of it.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from server.core.errors import LoadFailed
from server.core.jobs import JobId
from server.core.text import SamplingParams
from tests.support.engine_driver import Collected, run
from tests.support.tiny_gguf import tiny_gguf
from tests.support.tiny_recurrent import WINDOW, tiny_gemma3, tiny_lfm2, tiny_mamba

llama_cpp = pytest.importorskip("llama_cpp")

from server.engines.text.engine import LlamaEngine  # noqa: E402
from tests.support.llama_engine import ask, completion, load  # noqa: E402

pytestmark = pytest.mark.llama

Writer = Callable[[Path], Path]

STATES: Sequence[Writer] = (tiny_mamba, tiny_lfm2)
ALL: Sequence[Writer] = (*STATES, tiny_gemma3)
SAMPLING = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
TEXTS = ("the dog and the cat", "once upon a time", "a big red ball was " * 4, "mom said hello to the sad boy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(params=ALL, ids=lambda write: write.__name__)
def path(request: pytest.FixtureRequest, folder: Path) -> Path:
    return _written(request.param, folder)


@pytest.fixture(params=STATES, ids=lambda write: write.__name__)
def stateful(request: pytest.FixtureRequest, folder: Path) -> Path:
    return _written(request.param, folder)


def _written(write: Writer, folder: Path) -> Path:
    path = folder / f"{write.__name__}.gguf"
    return path if path.exists() else write(path)


@pytest.fixture
def engine(path: Path) -> Iterator[LlamaEngine]:
    engine = load(path, slots=4, speculation=True)
    yield engine
    engine.close()


def fresh(path: Path, tokens: tuple[int, ...]) -> str:
    """Return what a model says that has said nothing before."""
    engine = load(path, slots=1)
    try:
        return ask(engine, completion(tokens, sampling=SAMPLING)).text("job")
    finally:
        engine.close()


def cached(collected: Collected, job: str = "job") -> int:
    return collected.finished[job, 0].usage.cached_tokens


def ids(engine: LlamaEngine, text: str) -> tuple[int, ...]:
    return tuple(engine._vocabulary.with_bos(engine._vocabulary.tokenise(text, special=False, room=512)).tolist())


def held(engine: LlamaEngine) -> tuple[int, ...]:
    """Return the tokens of the sequence that was used last."""
    return tuple(max(engine._caches.sequences, key=lambda sequence: sequence.last_used).tokens.tolist())


def test_it_is_known_before_the_first_request_whether_texts_can_be_cut(path: Path, engine: LlamaEngine) -> None:
    windowed = path.stem == tiny_gemma3.__name__
    assert engine._context.can_cut == windowed
    assert engine._steps._speculator.wanted == windowed


def test_texts_that_repeat_themselves_fail_nobody(path: Path, engine: LlamaEngine) -> None:
    tokens = ids(engine, "the dog the dog the dog")
    assert ask(engine, completion(tokens, sampling=SAMPLING)).text("job") == fresh(path, tokens)


def test_a_text_that_goes_on_is_not_computed_again(path: Path, engine: LlamaEngine) -> None:
    ask(engine, completion(ids(engine, TEXTS[0]), sampling=SAMPLING))
    before = held(engine)
    longer = (*before, *ids(engine, "hello")[1:])
    collected = ask(engine, completion(longer, sampling=SAMPLING))
    assert cached(collected) == len(before)
    assert collected.text("job") == fresh(path, longer)


def test_what_begins_alike_takes_over_no_state_that_knows_more(stateful: Path) -> None:
    engine = load(stateful, slots=4)
    ask(engine, completion(ids(engine, TEXTS[2]), sampling=SAMPLING))
    for kept in (1, 5, len(held(engine)) - 1):
        other = (*held(engine)[:kept], *ids(engine, "girl")[1:])
        collected = ask(engine, completion(other, sampling=SAMPLING))
        assert cached(collected) == 0
        assert collected.text("job") == fresh(stateful, other)
        ask(engine, completion(ids(engine, TEXTS[2]), sampling=SAMPLING))
    again = ask(engine, completion(held(engine), sampling=SAMPLING))
    assert cached(again) == 0, "the last token must be computed, and a state cannot go back by one"
    engine.close()


def test_a_window_that_was_left_behind_is_gone_back_to(folder: Path) -> None:
    path = _written(tiny_gemma3, folder)
    engine = load(path, slots=2)
    ask(engine, completion(ids(engine, TEXTS[2] * 3), sampling=SAMPLING))
    kept = len(held(engine)) - 3 * WINDOW
    other = (*held(engine)[:kept], *ids(engine, "girl")[1:])
    collected = ask(engine, completion(other, sampling=SAMPLING))
    assert cached(collected) == kept > WINDOW
    assert collected.text("job") == fresh(path, other)
    engine.close()


def test_several_replies_go_on_from_one_text(path: Path, engine: LlamaEngine) -> None:
    """One of them takes the sequence over, the others copies, while more run beside them."""
    ask(engine, completion(ids(engine, "once upon a time there was a little girl " * 2), sampling=SAMPLING))
    before = held(engine)
    works = {text: (*before, *ids(engine, text)[1:]) for text in TEXTS[:3]}
    for text, tokens in works.items():
        engine.submit(JobId(text), completion(tokens, sampling=SAMPLING))
    engine.submit(JobId(TEXTS[3]), completion(ids(engine, TEXTS[3]), sampling=SAMPLING))
    collected = run(engine)
    assert max(cached(collected, text) for text in works) >= len(before)
    for text, tokens in works.items():
        assert collected.text(text) == fresh(path, tokens)
    assert collected.text(TEXTS[3]) == fresh(path, ids(engine, TEXTS[3]))


def test_replies_of_many_lengths_move_together_and_say_the_same(path: Path) -> None:
    engine = load(path, slots=8)
    expected = {}
    for number in range(8):
        sampling = SamplingParams(temperature=0, max_tokens=8 + 9 * (number % 4) * (number % 3), ignore_eos=True)
        work = completion(ids(engine, TEXTS[number % 4]), sampling=sampling)
        expected[f"{number}"] = ask(engine, work).text("job")
        engine._caches.empty_idle()
    for number in range(8):
        sampling = SamplingParams(temperature=0, max_tokens=8 + 9 * (number % 4) * (number % 3), ignore_eos=True)
        engine.submit(JobId(f"{number}"), completion(ids(engine, TEXTS[number % 4]), sampling=sampling))
    collected = run(engine)
    assert {job: collected.text(job) for job in expected} == expected
    engine.close()


def test_such_a_model_can_neither_draft_nor_have_a_draft(stateful: Path, tmp_path: Path) -> None:
    plain = tiny_gguf(tmp_path / "tiny.gguf")
    for model, draft in ((plain, stateful), (stateful, plain)):
        with pytest.raises(LoadFailed, match="draft"):
            load(model, slots=2, speculation=True, draft=draft)
