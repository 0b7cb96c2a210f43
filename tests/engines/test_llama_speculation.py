"""Guessed tokens and moved sequences on real llama.cpp: nothing of it may be seen in what replies say."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.model import Shape, write_model
from server.core.errors import Broken
from server.core.jobs import CancelMode, JobId
from server.core.text import ChatRequest, CompletionRequest, Message, RegexConstraint, SamplingParams, TextPart
from tests.support.engine_driver import Collected, run
from tests.support.shared import SHARED, needs_shared
from tests.support.tiny_gguf import tiny_gguf

llama_cpp = pytest.importorskip("llama_cpp")

from server.engines.text.engine import LlamaEngine  # noqa: E402
from server.engines.text.foresight import Guess  # noqa: E402
from server.engines.text.prefix import Tokens  # noqa: E402
from server.engines.text.sequences import CachedSequence  # noqa: E402
from server.engines.text.speculation import WIDTHS, Acceptance, Hope  # noqa: E402
from server.engines.text.speculator import Ahead, Plan, Speculator  # noqa: E402
from tests.support.llama_engine import GREEDY, ask, chat, completion, load  # noqa: E402

pytestmark = pytest.mark.llama

STORIES = SHARED / "models" / "stories260K.gguf"
OPENINGS = ("Once upon a time", "The dog", "Lily and Tom", "A big red ball")
LONG = SamplingParams(temperature=0, max_tokens=100, ignore_eos=True)
SEEDED = SamplingParams(temperature=1.1, seed=7, max_tokens=80, ignore_eos=True)
WRONG = np.full(16, 5, np.int32)
BOUND = 0.1
ROWS = 36

Guesser = Callable[[CachedSequence], Tokens]


@pytest.fixture(scope="module", params=["random", pytest.param("stories", marks=needs_shared)])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "stories":
        return STORIES
    return tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
def plain(path: Path) -> Iterator[LlamaEngine]:
    """Return an engine that guesses nothing."""
    engine = load(path, slots=4)
    engine._steps._speculator.wanted = False
    yield engine
    engine.close()


@pytest.fixture
def engine(path: Path) -> Iterator[LlamaEngine]:
    engine = load(path, slots=4, speculation=True)
    yield engine
    engine.close()


class Forced(Speculator):
    """Computes guesses of one width whenever it can, whatever that takes, and counts what came of them."""

    def __init__(self, width: int, guesser: Guesser | None = None) -> None:
        super().__init__(rows=ROWS, wanted=True)
        self.width = width
        self.decodes = 0
        self.backs = 0
        self._guesser = guesser
        self._exactness.bound = BOUND

    def ahead(self, running: Sequence[CachedSequence]) -> Ahead:
        self.decodes += 1
        plain = super().ahead(running)
        replies = [sequence.reply for sequence in running if sequence.reply is not None]
        if any(reply.foresight.footing.again for reply in replies):
            return plain
        guesses = plain.guesses
        if self._guesser is not None:
            guesses = [Guess(self._guesser(each).tolist(), Hope(rate=0.5), Acceptance()) for each in running]
        width = min(self.width, min(reply.left for reply in replies), ROWS // len(running))
        if width > 1:
            self._leave(running, Plan(width))
        return Ahead(width, guesses)

    def observe(self, replies: int, width: int, seconds: float, *, trial: bool = False) -> None:
        pass

    def doubts(self, reply: Any, row: Any) -> bool:
        doubts = super().doubts(reply, row)
        self.backs += doubts
        return doubts


def force(engine: LlamaEngine, width: int, guesser: Guesser | None = None) -> Forced:
    forced = Forced(width, guesser)
    engine._steps._speculator = forced
    return forced


def without_times(collected: Collected) -> dict[tuple[str, int], object]:
    return {
        key: msgspec.structs.replace(finished, prompt_ms=0, predicted_ms=0)
        for key, finished in collected.finished.items()
    }


def same(one: Collected, other: Collected) -> bool:
    return (
        one.texts == other.texts
        and one.tokens == other.tokens
        and one.calls == other.calls
        and without_times(one) == without_times(other)
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sampling", [LONG, GREEDY], ids=["long", "short"])
def test_the_text_is_the_same_with_guesses_from_the_text(
    plain: LlamaEngine, engine: LlamaEngine, width: int, sampling: SamplingParams
) -> None:
    force(engine, width)
    for opening in OPENINGS:
        work = completion(opening * 3, sampling=sampling)
        assert same(ask(plain, work), ask(engine, work))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("sampling", [LONG, SEEDED], ids=["greedy", "seeded"])
def test_the_text_is_the_same_whatever_was_guessed(
    plain: LlamaEngine, engine: LlamaEngine, sampling: SamplingParams, share: float
) -> None:
    """An oracle that knows what comes, and lies about some of it.

    Drawn tokens are compared with those that come when all guesses are wrong, so that the same kernels compute both:
    those for single tokens round differently, which now and then tips a draw.
    """
    source = random.Random(1)
    if sampling is SEEDED:
        force(plain, 8, lambda _: WRONG)
    forced = force(engine, 8)
    for opening in OPENINGS:
        work = completion(opening, sampling=sampling)
        expected = ask(plain, work)
        truth = _tokens_of(plain, expected)

        def oracle(sequence: CachedSequence, truth: Tokens = truth) -> Tokens:
            coming = truth[sequence.length + 1 :][:16]
            lies = np.array([source.random() >= share for _ in coming], bool)
            wrong = np.where(lies, (coming + 1) % 256 + 3, coming)
            return np.resize(wrong, 16) if len(wrong) else np.zeros(16, np.int32)

        forced._guesser = oracle
        forced.decodes = 0
        assert same(expected, ask(engine, work))
        made = expected.finished["job", 0].usage.completion_tokens
        if share == 1.0:
            assert forced.decodes <= made / 8 + 8 or forced.backs
        if share == 0.0:
            assert forced.decodes >= made - 1


def _tokens_of(engine: LlamaEngine, collected: Collected) -> Tokens:
    """Return the tokens of the last answer with its prompt, from the cache in which it was made."""
    usage = collected.finished["job", 0].usage
    latest = max(engine._caches.sequences, key=lambda sequence: sequence.last_used)
    assert latest.length == usage.prompt_tokens + usage.completion_tokens - 1
    return latest.tokens.copy()


@pytest.mark.parametrize("width", [4, 16])
def test_several_replies_are_guessed_at_together(plain: LlamaEngine, engine: LlamaEngine, width: int) -> None:
    force(engine, width)
    collected = []
    for each in (plain, engine):
        for number, opening in enumerate(OPENINGS):
            sampling = SamplingParams(temperature=0, max_tokens=60 + 7 * number, ignore_eos=True)
            each.submit(JobId(opening), completion(opening * 4, sampling=sampling))
        collected.append(run(each))
    assert same(*collected)


@pytest.mark.parametrize(
    "work",
    [
        completion("The dog The dog The dog", sampling=SamplingParams(temperature=0, stop=("e",), max_tokens=60)),
        completion("The dog", sampling=SamplingParams(temperature=0, repeat_penalty=1.3, max_tokens=60)),
        completion("The dog", sampling=SamplingParams(temperature=0, dry_multiplier=0.8, max_tokens=60)),
        completion("The dog", sampling=SamplingParams(temperature=0, logit_bias=((300, 1e4),), max_tokens=30)),
        completion("The dog " * 80, sampling=SamplingParams(temperature=0, ignore_eos=True)),
        completion("The dog", sampling=LONG, choices=3),
        ChatRequest(
            model="tiny",
            messages=(Message(role="user", parts=(TextPart("x"),)),),
            sampling=SamplingParams(temperature=0, max_tokens=60),
            constraint=RegexConstraint(pattern="(dog cat |happy ){12}"),
        ),
        CompletionRequest(model="tiny", prompts=("a a a",), sampling=LONG, logprobs=2),
        CompletionRequest(model="tiny", prompts=("a a a",), sampling=LONG, choices=1, best_of=3),
        chat(("user", "dog dog dog dog"), sampling=LONG),
    ],
    ids=["stop", "penalties", "dry", "bias", "context", "choices", "grammar", "logprobs", "best_of", "chat"],
)
def test_all_that_replies_are_held_to_holds(
    plain: LlamaEngine, engine: LlamaEngine, work: CompletionRequest | ChatRequest
) -> None:
    force(engine, 8)
    assert same(ask(plain, work), ask(engine, work))


def test_after_wrong_guesses_the_cache_is_as_if_there_had_been_none(engine: LlamaEngine, plain: LlamaEngine) -> None:
    force(engine, 16, lambda _: WRONG)
    work = completion("Once upon a time the dog", sampling=LONG)
    first = ask(engine, work)
    assert same(ask(plain, work), first)
    longer = completion("Once upon a time the dog" + first.text("job") + " and", sampling=GREEDY)
    for sequence in engine._caches.sequences:
        assert llama_cpp.llama_memory_seq_pos_max(engine._context._memory, sequence.id) == sequence.length - 1
    assert same(ask(plain, longer), ask(engine, longer))


@pytest.mark.parametrize("mode", [CancelMode.ABANDON, CancelMode.STOP])
def test_cancel_between_guesses(plain: LlamaEngine, engine: LlamaEngine, mode: CancelMode) -> None:
    force(engine, 8)
    for opening in OPENINGS[:3]:
        engine.submit(JobId(opening), completion(opening, sampling=LONG))
    collected = run(engine, until=lambda so_far: sum(so_far.tokens.values()) > 60)
    engine.cancel(JobId(OPENINGS[1]), mode)
    run(engine, into=collected)
    assert collected.done == set(OPENINGS[:3])
    for opening in (OPENINGS[0], OPENINGS[2]):
        assert collected.text(opening) == ask(plain, completion(opening, sampling=LONG)).text("job")
    assert same(ask(plain, completion("Max")), ask(engine, completion("Max")))


def test_a_cache_that_cannot_be_cut_ends_speculation(
    engine: LlamaEngine, plain: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.submit(JobId("doomed"), completion("The dog", sampling=LONG))
    collected = run(engine, until=lambda so_far: bool(so_far.texts))
    trim = engine._context.trim
    monkeypatch.setattr(engine._context, "trim", lambda sequence, length: length == 0 and trim(sequence, 0))
    speculator = engine._steps._speculator
    force(engine, 8, lambda _: WRONG)
    run(engine, into=collected)
    assert isinstance(collected.errors["doomed"], Broken)
    assert not engine._steps._speculator.wanted
    monkeypatch.undo()
    engine._steps._speculator = speculator
    assert same(ask(plain, completion("The dog")), ask(engine, completion("The dog")))


class Timed:
    """An engine on a machine where a token more in a decode costs `cost` of a decode; counts the decodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: LlamaEngine, cost: float) -> None:
        self.decodes = 0
        speculator = engine._steps._speculator
        decode, observe = engine._context.decode, speculator.observe

        def counting(batch: Any) -> int:
            self.decodes += 1
            return decode(batch)

        def timed(replies: int, width: int, _: float, *, trial: bool) -> None:
            observe(replies, width, 1 + cost * (width - 1), trial=trial)

        monkeypatch.setattr(engine._context, "decode", counting)
        monkeypatch.setattr(speculator, "observe", timed)


LOOPING = SamplingParams(temperature=0, max_tokens=150, logit_bias=((300, 1e4),))


def test_speculation_is_used_by_itself_where_it_is_fast_and_can_be_turned_off(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = msgspec.structs.replace(LOOPING, temperature=1, seed=1)
    decodes = {}
    for name, cost, speculation, sampling in (
        ("cheap", 0.0, True, LOOPING),
        ("dear", 1.0, True, LOOPING),
        ("off", 0.0, False, LOOPING),
        ("seeded", 0.0, True, drawn),
    ):
        engine = load(path, slots=1, speculation=speculation)
        timed = Timed(monkeypatch, engine, cost)
        collected = ask(engine, completion("The dog", sampling=sampling))
        assert collected.finished["job", 0].usage.completion_tokens == 150
        decodes[name] = timed.decodes
        engine.close()
    assert decodes["off"] == 150
    assert 150 < decodes["seeded"] <= 153, "decodes that are thrown away show that guesses would change what is drawn"
    assert decodes["cheap"] < 40
    assert 150 - (3 + 7 + 15) <= decodes["dear"] <= 153, "each width is tried once"


def test_draws_with_a_seed_are_guessed_where_decodes_of_any_width_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether quantised weights do so depends on the processor."""
    quantised = tmp_path / "quantised.gguf"
    write_model(quantised, Shape(layers=2, width=128, feed_forward=256, heads=4, vocabulary=512, context=256))
    drawn = msgspec.structs.replace(LOOPING, temperature=1, seed=1)
    texts, decodes = {}, {}
    for name in ("plain", "guessed"):
        engine = load(quantised, slots=1, speculation=name == "guessed")
        timed = Timed(monkeypatch, engine, 0.0)
        texts[name] = ask(engine, completion((1, 300, 301), sampling=drawn)).texts
        decodes[name] = timed.decodes
        known = engine._steps._speculator._exactness._known.values()
        engine.close()
    assert texts["plain"] == texts["guessed"]
    assert known
    assert (decodes["guessed"] < 60) == any(known)


def test_tokens_without_a_choice_are_computed_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = ChatRequest(
        model="tiny",
        messages=(Message(role="user", parts=(TextPart("x"),)),),
        sampling=SamplingParams(temperature=0, max_tokens=120),
        constraint=RegexConstraint(pattern="once upon a time there was a (dog|cat) and she played all day in the park"),
    )
    texts, decodes, tokens = [], [], 0
    for speculation in (False, True):
        engine = load(path, slots=1, speculation=speculation)
        timed = Timed(monkeypatch, engine, 0.0)
        monkeypatch.setattr(engine._steps._speculator._exactness, "of", lambda _: True)
        ask(engine, completion("The dog", sampling=GREEDY), "before")  # what a plain decode takes is known by then
        timed.decodes = 0
        collected = ask(engine, work)
        texts.append(collected.texts)
        tokens = collected.finished["job", 0].usage.completion_tokens
        decodes.append(timed.decodes)
        engine.close()
    assert texts[0] == texts[1]
    assert decodes[0] == tokens
    assert decodes[1] < tokens * 2 / 3


@needs_shared
def test_gaps_are_closed_and_replies_go_on_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five replies the second and third end early; the rest must be neighbours, with the very same logits."""
    rows: dict[str, list[Tokens]] = {}
    splits = {}
    for name in ("moved", "still"):
        engine = load(STORIES, slots=6)
        engine._steps._speculator.wanted = False
        if name == "still":
            monkeypatch.setattr(engine._caches, "close_gaps", lambda: None)
        kept = rows[name] = []
        decode = engine._context.decode
        gaps = splits[name] = []

        def watching(batch, engine=engine, decode=decode, kept=kept, gaps=gaps):
            code = decode(batch)
            running = [sequence.id for sequence in engine._caches.running]
            if running and batch.outputs == batch.size == len(running):
                kept.append(np.sort(engine._context.logits(len(running)).copy().max(axis=1)))
                gaps.append(running[-1] - running[0] + 1 - len(running))
            return code

        monkeypatch.setattr(engine._context, "decode", watching)
        for number, opening in enumerate((*OPENINGS, "Max was")):
            tokens = 6 if number in (1, 2) else 60
            work = completion(opening, sampling=SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True))
            engine.submit(JobId(opening), work)
        collected = run(engine)
        texts = splits.setdefault("texts", [])
        texts.append(dict(collected.texts))
        engine.close()
    assert splits["texts"][0] == splits["texts"][1]
    assert sum(gap > 0 for gap in splits["still"]) > 40
    assert sum(gap > 0 for gap in splits["moved"]) == 0
    assert len(rows["moved"]) == len(rows["still"])


def test_a_moved_reply_leaves_what_others_may_use_again(plain: LlamaEngine, engine: LlamaEngine) -> None:
    """A prompt whose idle sequence fills a gap is moved to a free one, not lost."""
    long = "Once upon a time there was a little girl named Lily. She had a big red ball and a dog. "
    for each in (plain, engine):
        for number in range(3):
            wish = SamplingParams(temperature=0, max_tokens=4 if number == 1 else 60, ignore_eos=True)
            each.submit(JobId(str(number)), completion(f"{number} {long}", sampling=wish))
        collected = run(each)
        again = ask(each, completion(f"1 {long}", sampling=GREEDY))
        assert again.finished["job", 0].usage.cached_tokens == collected.finished["1", 0].usage.prompt_tokens - 1
