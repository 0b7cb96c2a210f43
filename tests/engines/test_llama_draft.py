"""A second model that guesses: on real llama.cpp it changes how many decodes a text takes, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.core.errors import LoadFailed
from server.core.jobs import JobId
from server.core.models import TextSettings
from server.core.text import SamplingParams
from tests.support.engine_driver import run
from tests.support.tiny_gguf import tiny_gguf

llama_cpp = pytest.importorskip("llama_cpp")

from server.engines.text.draft import MOST_SIZE_DIFFERENCE, DraftModel, mismatch  # noqa: E402
from server.engines.text.engine import LlamaEngine  # noqa: E402
from server.engines.text.native import Model  # noqa: E402
from server.engines.text.native_log import LogTap  # noqa: E402
from server.engines.text.vocabulary import Vocabulary  # noqa: E402
from tests.support.llama_engine import ask, completion, load  # noqa: E402

pytestmark = pytest.mark.llama

SHORT = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
OPENINGS = ("Once upon a time", "The dog", "Lily and Tom", "A big red ball")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that speaks in the same tokens and says something else."""
    return tiny_gguf(tmp_path_factory.mktemp("models") / "stranger.gguf", seed=9)


@pytest.fixture(scope="module")
def plain(path: Path) -> Iterator[LlamaEngine]:
    engine = load(path, slots=4)
    yield engine
    engine.close()


class Watched:
    """An engine with a draft on a machine where wide decodes and drafts cost what is said; counts its decodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: LlamaEngine, *, wider: float = 0.02) -> None:
        self.engine = engine
        self.decodes = 0
        self.drafts = 0
        self.speculator = engine._steps._speculator
        observe, guess, compute = self.speculator.observe, engine._draft.guess, engine._context.decode

        def observed(replies: int, width: int, _: float, *, trial: bool = False) -> None:
            observe(replies, width, 1 + wider * (width - 1), trial=trial)

        def guessed(texts: Any, count: int) -> Any:
            self.drafts += 1
            return guess(texts, count)

        def computed(batch: Any) -> int:
            self.decodes += 1
            return compute(batch)

        monkeypatch.setattr(self.speculator, "observe", observed)
        monkeypatch.setattr(self.speculator, "_learn_draft", lambda replies, _: None)
        monkeypatch.setattr(engine._draft, "guess", guessed)
        monkeypatch.setattr(engine._context, "decode", computed)


def test_a_good_draft_saves_decodes_and_changes_no_text(
    path: Path, plain: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(path, slots=4, speculation=True, draft=path)
    watched = Watched(monkeypatch, engine)
    for opening in OPENINGS:
        work = completion(opening, sampling=SHORT)
        assert ask(plain, work).texts == ask(engine, work).texts
    assert watched.drafts
    monkeypatch.setattr(watched.speculator._exactness, "of", lambda _: True)
    watched.decodes = 0
    made = ask(engine, completion("The dog", sampling=SHORT)).finished["job", 0].usage.completion_tokens
    assert watched.decodes < made / 3
    engine.close()


def test_several_replies_are_drafted_together(path: Path, plain: LlamaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(path, slots=4, speculation=True, draft=path)
    watched = Watched(monkeypatch, engine)
    texts = []
    for each in (plain, engine):
        for number, opening in enumerate(OPENINGS):
            sampling = SamplingParams(temperature=0, max_tokens=40 + 9 * number, ignore_eos=True)
            each.submit(JobId(opening), completion(opening, sampling=sampling))
        texts.append(run(each).texts)
    assert texts[0] == texts[1]
    assert watched.drafts
    engine.close()


@pytest.mark.parametrize("sampling", [SHORT, SamplingParams(temperature=1, seed=3, max_tokens=60, ignore_eos=True)])
def test_a_bad_draft_does_no_harm_and_is_soon_asked_no_more(
    path: Path, stranger: Path, plain: LlamaEngine, monkeypatch: pytest.MonkeyPatch, sampling: SamplingParams
) -> None:
    engine = load(path, slots=4, speculation=True, draft=stranger)
    watched = Watched(monkeypatch, engine, wider=0.2)
    for opening in OPENINGS:
        work = completion(opening, sampling=sampling)
        assert ask(plain, work).texts == ask(engine, work).texts
    assert watched.drafts <= 40
    engine.close()


def test_a_draft_that_takes_too_long_is_not_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(path, slots=1, speculation=True, draft=path)
    watched = Watched(monkeypatch, engine)
    watched.speculator._draft_s = dict.fromkeys(range(1, 5), 2.0)
    ask(engine, completion("The dog", sampling=SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)))
    assert watched.drafts == 0
    engine.close()


def test_a_draft_that_breaks_is_left_alone(path: Path, plain: LlamaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(path, slots=1, speculation=True, draft=path)
    Watched(monkeypatch, engine)
    monkeypatch.setattr(engine._draft._context, "decode", lambda _: -3)
    work = completion("The dog", sampling=SHORT)
    assert ask(plain, work).texts == ask(engine, work).texts
    assert engine._steps._speculator._draft is None
    engine.close()


@pytest.fixture
def draft(path: Path) -> Iterator[DraftModel]:
    log = LogTap()
    model = Model(path, TextSettings(), lambda _: None, log)
    made = DraftModel(path, TextSettings(slots=2), Vocabulary(model), length=256, threads=1, log=log)
    yield made
    made.close()
    made.close()
    model.close()
    log.close()


def test_guesses_are_what_the_model_says_next(draft: DraftModel, plain: LlamaEngine) -> None:
    """Whatever was drafted before: a text that goes on, one that was taken back, another one, and two at a time."""
    usage = ask(plain, completion("Once upon a time", sampling=SHORT)).finished["job", 0].usage
    latest = max(plain._caches.sequences, key=lambda sequence: sequence.last_used)
    truth = latest.tokens.copy()
    begin = usage.prompt_tokens
    other = np.array([1, 300, 301, 302], np.int32)
    alone = draft.guess([other], 5)[0]
    for length in (begin, begin + 6, begin + 2, begin + 30, begin):
        text = truth[:length]
        while not draft.catch_up([text]):
            pass
        assert draft.guess([text], 4)[0].tolist() == truth[length : length + 4].tolist()
    together = draft.guess([other, truth[:begin]], 5)
    assert together[0].tolist() == alone.tolist()
    assert together[1].tolist() == truth[begin : begin + 5].tolist()


def test_long_texts_are_read_in_parts(draft: DraftModel) -> None:
    text = np.arange(240, dtype=np.int32) % 200 + 50
    assert draft.unread(text) == 240
    parts = 0
    while not draft.catch_up([text]):
        parts += 1
        assert parts < 10
    assert parts >= 2
    assert draft.unread(text) < 30


def vocabulary_of(path: Path) -> Vocabulary:
    log = LogTap()
    return Vocabulary(Model(path, TextSettings(), lambda _: None, log))


def test_a_pair_must_speak_in_the_same_tokens(path: Path, stranger: Path, tmp_path: Path) -> None:
    own = vocabulary_of(path)
    assert mismatch(own, vocabulary_of(stranger)) == ""
    few = tiny_gguf(tmp_path / "few.gguf", control=("<|more|>",))
    assert mismatch(own, vocabulary_of(few)) == ""
    many = [f"<|{number}|>" for number in range(MOST_SIZE_DIFFERENCE + 1)]
    assert "tokens" in mismatch(own, vocabulary_of(tiny_gguf(tmp_path / "many.gguf", control=many)))
    renamed = vocabulary_of(stranger)
    text = renamed.text
    renamed.text = lambda token: "other" if token == 77 else text(token)  # type: ignore[method-assign]
    assert "77" in mismatch(own, renamed)
    for field, value in (("kind", 99), ("adds_bos", not own.adds_bos), ("adds_eos", not own.adds_eos)):
        changed = vocabulary_of(stranger)
        setattr(changed, field, value)
        assert mismatch(own, changed)


def test_a_bad_pair_is_refused_when_it_is_loaded(path: Path, tmp_path: Path) -> None:
    many = [f"<|{number}|>" for number in range(MOST_SIZE_DIFFERENCE + 1)]
    wrong = tiny_gguf(tmp_path / "wrong.gguf", control=many)
    with pytest.raises(LoadFailed, match=r"'wrong\.gguf' cannot be a draft"):
        load(path, speculation=True, draft=wrong)
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(LoadFailed, match=r"damaged\.gguf"):
        load(path, speculation=True, draft=damaged)
    load(path, speculation=False, draft=wrong).close()


def test_the_drafts_memory_counts(path: Path, stranger: Path) -> None:
    without, pair = load(path, speculation=True), load(path, speculation=True, draft=stranger)
    assert pair._draft is not None
    assert sum(pair.facts.footprint.resident.values()) >= path.stat().st_size * 0.8 + pair._draft.size
    without.close()
    pair.close()
