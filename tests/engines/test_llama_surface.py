"""What the text engine tells beside text, on models like llama, Qwen2 and Gemma with SentencePiece and BPE alphabets.

The yardstick is llama.cpp's own high-level class, or a float64 softmax of logits computed token by token.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from server.core.errors import InvalidValue, Unsupported
from server.core.jobs import CancelMode, JobDone, JobEvent, JobId
from server.core.models import ModelCard, ModelId, ModelKind, Runtime, TextSettings
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    Message,
    SamplingParams,
    TextDelta,
    TextPart,
    Tokenized,
    TokenizeRequest,
    TokenLogprob,
)
from tests.support.engine_driver import Collected, run
from tests.support.tiny_archs import tiny_gemma, tiny_qwen2
from tests.support.tiny_gguf import tiny_gguf

llama_cpp = pytest.importorskip("llama_cpp")

from server.engines.text.engine import LlamaEngine  # noqa: E402
from server.engines.text.llama_cpp import LlamaLoader  # noqa: E402

pytestmark = pytest.mark.llama

MAKERS: dict[str, Callable[[Path], Path]] = {"llama": tiny_gguf, "qwen2": tiny_qwen2, "gemma": tiny_gemma}
SLOTS = 16
GREEDY = SamplingParams(temperature=0, max_tokens=30)
OPENINGS = (
    "Once upon a time",
    "The dog",
    "hello world",
    "A big red ball",
    "One day a boy, 12 years old:",
    "She was sad",
    "The sun; the tree",
    "Mom said",
    "In the park",
    "user",
    "The little bird",
    "A cat \u732b \U0001f642",
    "Tim had",
    "x",
    "They went",
    "It was night",
)


def load(path: Path, *, slots: int = SLOTS, batch: int = 512) -> LlamaEngine:
    card = ModelCard(
        id=ModelId("tiny"), name=path.name, kind=ModelKind.TEXT, files=(str(path),), runtime=Runtime.LLAMA_CPP
    )
    engine = LlamaLoader().load(card, TextSettings(slots=slots, batch=batch, threads=1), lambda _: None)
    assert isinstance(engine, LlamaEngine)
    return engine


def completion(*prompts: str | tuple[int, ...], **fields) -> CompletionRequest:
    return CompletionRequest(model="tiny", prompts=prompts, **{"sampling": GREEDY, **fields})


class Told(Collected):
    """Collects the logprobs too."""

    def __init__(self) -> None:
        super().__init__()
        self.deltas: dict[tuple[str, int], list[TextDelta]] = {}

    def feed(self, outcomes) -> None:
        outcomes = list(outcomes)
        super().feed(outcomes)
        for outcome in outcomes:
            if isinstance(outcome, JobEvent) and isinstance(outcome.event, TextDelta):
                self.deltas.setdefault((outcome.job, outcome.event.choice), []).append(outcome.event)

    def logprobs(self, choice: int = 0, job: str = "job") -> list[TokenLogprob]:
        return [told for delta in self.deltas.get((job, choice), []) for told in delta.logprobs]


def ask(engine: LlamaEngine, work: CompletionRequest | ChatRequest, job: str = "job") -> Told:
    engine.submit(JobId(job), work)
    told = Told()
    run(engine, into=told)
    return told


def tokens_of(engine: LlamaEngine, text: str) -> list[int]:
    vocabulary = engine._vocabulary
    return [int(token) for token in vocabulary.with_bos(vocabulary.tokenise(text, special=True, room=512))]


@pytest.fixture(scope="module", params=list(MAKERS))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp("models") / f"{request.param}.gguf")


@pytest.fixture(scope="module")
def loaded(path: Path) -> Iterator[LlamaEngine]:
    engine = load(path)
    yield engine
    engine.close()


@pytest.fixture
def engine(loaded: LlamaEngine) -> LlamaEngine:
    assert loaded.is_idle()
    return loaded


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    engine = load(tiny_qwen2(tmp_path_factory.mktemp("models") / "qwen2.gguf"), slots=4)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def llama(path: Path) -> Iterator["llama_cpp.Llama"]:
    made = llama_cpp.Llama(
        model_path=str(path),
        n_ctx=512,
        n_threads=1,
        n_threads_batch=1,
        flash_attn=True,
        logits_all=True,
        verbose=False,
    )
    yield made
    made.close()


def greedy(llama: "llama_cpp.Llama", opening: str) -> list[int]:
    prompt = llama.tokenize(opening.encode(), add_bos=True, special=True)
    found = []
    for token in llama.generate(prompt, temp=0.0, repeat_penalty=1.0):
        if len(found) == GREEDY.max_tokens or llama_cpp.llama_vocab_is_eog(llama._model.vocab, token):
            break
        found.append(int(token))
    return found


def check_tokens(engine: LlamaEngine, told: list[TokenLogprob], expected: list[int]) -> None:
    """Check that these are the tokens of a reply; those at its end that stand for no text are not told of."""
    assert [entry.token for entry in told] == expected[: len(told)]
    assert b"".join(engine._vocabulary.piece(token) for token in expected[len(told) :]) == b""


def exact(llama: "llama_cpp.Llama", *parts: list[int]) -> np.ndarray:
    """Return the logarithms of the probabilities [n, vocabulary] after each token, by a float64 softmax.

    Parts are computed one after the other, since how a text is cut moves the logits (see the engine notes).
    """
    llama.reset()
    for part in parts:
        llama.eval(part)
    logits = llama.scores[: sum(map(len, parts))].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("opening", OPENINGS)
def test_text_is_split_as_the_high_level_class_does(
    engine: LlamaEngine, llama: "llama_cpp.Llama", opening: str
) -> None:
    assert tokens_of(engine, opening) == llama.tokenize(opening.encode(), add_bos=True, special=True)


def test_greedy_equals_the_high_level_class_alone_and_in_a_full_batch(
    engine: LlamaEngine, llama: "llama_cpp.Llama"
) -> None:
    expected = {opening: greedy(llama, opening) for opening in OPENINGS}
    for opening in OPENINGS[:4]:
        check_tokens(engine, ask(engine, completion(opening, logprobs=0)).logprobs(), expected[opening])
    together = Told()
    for opening in OPENINGS:
        engine.submit(JobId(opening), completion(opening, logprobs=0))
    run(engine, into=together)
    for opening in OPENINGS:
        check_tokens(engine, together.logprobs(job=opening), expected[opening])


SAMPLERS = {
    "defaults": SamplingParams(),
    "top_p": SamplingParams(top_k=0, top_p=0.9, min_p=0.0, temperature=1.0),
    "nothing": SamplingParams(top_k=0, top_p=1.0, min_p=0.0, temperature=1.3),
    "penalties": SamplingParams(repeat_penalty=1.2, presence_penalty=0.3),
    "dry": SamplingParams(dry_multiplier=0.8, dry_allowed_length=1),
    "xtc": SamplingParams(xtc_probability=0.5, xtc_threshold=0.05),
    "typical": SamplingParams(typical_p=0.8, top_k=0),
    "dynamic": SamplingParams(dynatemp_range=0.5),
    "sigma": SamplingParams(top_n_sigma=1.0),
    "mirostat 1": SamplingParams(mirostat=1),
    "mirostat 2": SamplingParams(mirostat=2),
    "order": SamplingParams(samplers=("temperature", "penalties", "min_p"), repeat_penalty=1.3),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_equal_seeds_draw_equally_alone_and_in_a_full_server(engine: LlamaEngine, name: str) -> None:
    def work(opening: str, seed: int) -> CompletionRequest:
        fields = {"seed": seed, "max_tokens": 25, "ignore_eos": True}
        values = {field: getattr(SAMPLERS[name], field) for field in SamplingParams.__struct_fields__} | fields
        return completion(opening, sampling=SamplingParams(**values), logprobs=0)

    alone = ask(engine, work(OPENINGS[3], 9))
    assert len(alone.logprobs()) > 10
    together = Told()
    for number, opening in enumerate(OPENINGS):
        engine.submit(JobId(opening), work(opening, 9 if number == 3 else number))
    run(engine, into=together)
    assert together.text(OPENINGS[3]) == alone.text("job")
    assert ask(engine, work(OPENINGS[3], 10)).text("job") != alone.text("job")


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_logprobs_are_those_of_the_raw_logits(
    engine: LlamaEngine, llama: "llama_cpp.Llama", temperature: float
) -> None:
    sampling = SamplingParams(
        temperature=temperature, seed=3, max_tokens=20, logit_bias=((300, 2.0),), repeat_penalty=1.3, ignore_eos=True
    )
    told = ask(engine, completion("The dog", sampling=sampling, logprobs=5)).logprobs()
    assert len(told) >= 15
    prompt = tokens_of(engine, "The dog")
    expected = exact(llama, prompt, *([entry.token] for entry in told))
    for place, entry in enumerate(told):
        row = expected[len(prompt) - 1 + place]
        assert entry.logprob == pytest.approx(row[entry.token], abs=1e-4)
        best = np.sort(row)[::-1][:5]
        np.testing.assert_allclose([likely.logprob for likely in entry.top], best, atol=1e-4)
        for likely in entry.top:
            assert likely.logprob == pytest.approx(row[likely.token], abs=1e-4)
            assert likely.piece == engine._vocabulary.written(likely.token)


def test_a_delta_carries_the_logprobs_of_its_tokens(engine: LlamaEngine) -> None:
    """At a high temperature characters are split over tokens, so text is held back."""
    wild = SamplingParams(temperature=30.0, top_k=0, top_p=1.0, min_p=0.0, seed=3, max_tokens=200, ignore_eos=True)
    told = ask(engine, completion("x", sampling=wild, logprobs=0))
    for delta in told.deltas["job", 0]:
        assert len(delta.logprobs) == delta.tokens
    pieces = b"".join(engine._vocabulary.piece(entry.token) for entry in told.logprobs())
    assert pieces.decode("utf-8", "replace") == told.text("job")
    assert any(delta.tokens > 1 for delta in told.deltas["job", 0]), "nothing was held back, so nothing was tested"


def test_without_a_wish_no_logprobs_are_told(engine: LlamaEngine) -> None:
    assert ask(engine, completion("The dog")).logprobs() == []
    assert all(not entry.top for entry in ask(engine, completion("The dog", logprobs=0)).logprobs())


def test_tokens_of_a_stop_string_are_not_told_of(engine: LlamaEngine) -> None:
    free = ask(engine, completion("The dog", logprobs=0))
    pieces = [engine._vocabulary.piece(entry.token).decode("utf-8", "replace") for entry in free.logprobs()]
    stop = "".join(pieces[4:7])
    sampling = SamplingParams(temperature=0, max_tokens=30, stop=("never seen", stop))
    told = ask(engine, completion("The dog", sampling=sampling, logprobs=0))
    text = told.text("job")
    assert text == free.text("job")[: free.text("job").index(stop)]
    assert told.finished["job", 0].stopped_by == stop
    assert told.finished["job", 0].reason == "stop"
    shown = "".join(engine._vocabulary.piece(entry.token).decode("utf-8", "replace") for entry in told.logprobs())
    assert shown.startswith(text)
    assert len(shown) - len(text) < len(pieces[4]) + 8


def test_what_ends_by_itself_names_no_stop_string(engine: LlamaEngine) -> None:
    assert ask(engine, completion("The dog")).finished["job", 0].stopped_by is None


@pytest.mark.parametrize("max_tokens", [0, 5])
@pytest.mark.parametrize("batch", [512, 16])
def test_an_echo_tells_the_logprobs_of_the_prompt(
    path: Path, llama: "llama_cpp.Llama", max_tokens: int, batch: int
) -> None:
    engine = load(path, slots=2, batch=batch)
    text = " ".join(OPENINGS[:8])
    sampling = SamplingParams(temperature=0, max_tokens=max_tokens)
    ask(engine, completion(text), job="before")  # its cache must not be taken for what has to be computed
    told = ask(engine, completion(text, sampling=sampling, logprobs=3, echo=True))
    prompt = tokens_of(engine, text)
    assert len(prompt) > 40
    entries = told.logprobs()[: len(prompt)]
    assert [entry.token for entry in entries] == prompt
    assert entries[0].logprob is None
    assert entries[0].top == ()
    expected = exact(llama, prompt)
    for place, entry in enumerate(entries[1:]):
        # Chunks differ from the reference's, which moves the logits themselves (see the engine notes).
        assert entry.logprob == pytest.approx(expected[place][entry.token], abs=2e-2)
        assert max(likely.logprob for likely in entry.top) == pytest.approx(expected[place].max(), abs=2e-2)
    finished = told.finished["job", 0]
    assert finished.reason == "length" if max_tokens == 0 else finished.usage.completion_tokens <= max_tokens
    assert len(told.logprobs()) == len(prompt) + finished.usage.completion_tokens
    assert told.text("job").startswith(text)
    engine.close()


def test_echoes_of_many_prompts_and_choices_at_once(engine: LlamaEngine) -> None:
    sampling = SamplingParams(temperature=1.0, seed=4, max_tokens=6, ignore_eos=True)
    alone = [
        ask(engine, completion(opening, sampling=sampling, logprobs=0, echo=True)).logprobs()
        for opening in OPENINGS[:5]
    ]
    told = ask(engine, completion(*OPENINGS[:5], sampling=sampling, logprobs=0, echo=True, choices=4))
    for number, opening in enumerate(OPENINGS[:5]):
        prompt = tokens_of(engine, opening)
        for k in range(4):
            entries = told.logprobs(number * 4 + k)[: len(prompt)]
            assert [entry.token for entry in entries] == prompt
            found = [entry.logprob for entry in entries[1:]]
            assert found == pytest.approx([entry.logprob for entry in alone[number][1 : len(prompt)]], abs=2e-2)
    assert engine.is_idle()


def test_an_echo_of_tokens_scores_exactly_them(engine: LlamaEngine) -> None:
    ids = tuple(tokens_of(engine, "The dog and the cat"))[-4:]
    sampling = SamplingParams(max_tokens=0)
    told = ask(engine, completion(ids, sampling=sampling, logprobs=1, echo=True))
    assert tuple(entry.token for entry in told.logprobs()) == ids


@pytest.mark.parametrize("mode", list(CancelMode))
def test_scoring_can_be_cancelled(path: Path, mode: CancelMode) -> None:
    engine = load(path, slots=1, batch=8)
    sampling = SamplingParams(max_tokens=0)
    engine.submit(JobId("long"), completion(" ".join(OPENINGS), sampling=sampling, logprobs=1, echo=True, choices=3))
    told = Told()
    for _ in range(3):
        told.feed(engine.step())
    engine.cancel(JobId("long"), mode)
    run(engine, into=told)
    assert told.done == {"long"}
    assert ask(engine, completion("The dog")).done == {"job"}
    engine.close()


def test_best_of_sends_the_likeliest(engine: LlamaEngine) -> None:
    sampling = SamplingParams(temperature=2.0, top_k=0, min_p=0.0, seed=11, max_tokens=8, ignore_eos=True)
    every = ask(engine, completion("The dog", "A cat", sampling=sampling, logprobs=0, choices=6))
    best = ask(engine, completion("The dog", "A cat", sampling=sampling, logprobs=0, choices=2, best_of=6))
    assert set(best.finished) == {("job", index) for index in range(4)}
    for prompt in range(2):
        means = {}
        for k in range(6):
            values = [entry.logprob for entry in every.logprobs(prompt * 6 + k)]
            means[every.text("job", prompt * 6 + k)] = sum(values) / len(values)
        ranked = sorted(means, key=lambda text: -means[text])
        assert [best.text("job", prompt * 2 + rank) for rank in range(2)] == ranked[:2]


def test_best_of_works_without_logprobs_and_with_echo(engine: LlamaEngine) -> None:
    sampling = SamplingParams(temperature=2.0, seed=11, max_tokens=8)
    told = ask(engine, completion("The dog", sampling=sampling, best_of=4, echo=True))
    assert told.logprobs() == []
    assert told.text("job").startswith("The dog")
    assert set(told.finished) == {("job", 0)}


@pytest.mark.parametrize("mode", [CancelMode.STOP, CancelMode.ABANDON])
def test_a_contest_can_be_cancelled(engine: LlamaEngine, mode: CancelMode) -> None:
    sampling = SamplingParams(temperature=1.0, seed=1, ignore_eos=True)
    engine.submit(JobId("job"), completion("The dog", sampling=sampling, best_of=20, choices=3))
    told = Told()
    for _ in range(10):
        told.feed(engine.step())
    engine.cancel(JobId("job"), mode)
    run(engine, into=told)
    assert told.done == {"job"}
    assert len(told.finished) == (3 if mode is CancelMode.STOP else 0)


def test_a_middle_is_filled_in(qwen2: LlamaEngine) -> None:
    marks = qwen2._vocabulary.fill
    assert marks is not None
    work = completion("The dog ", suffix=" <|fim_middle|>the cat", echo=True)
    (prompt,) = qwen2._prompts.of(work)
    pieces = [qwen2._vocabulary.written(int(token)) for token in prompt.tokens]
    assert b"".join(pieces) == b"<|fim_prefix|>The dog <|fim_suffix|> <|fim_middle|>the cat<|fim_middle|>"
    assert int(prompt.tokens[-1]) == marks.middle
    assert list(prompt.tokens).count(marks.middle) == 1, "what people write is no mark"
    told = ask(qwen2, work)
    assert told.text("job").startswith("The dog ")
    ids = tuple(int(token) for token in qwen2._vocabulary.tokenise("The dog ", special=False, room=99))
    assert list(qwen2._prompts.of(completion(ids, suffix=" <|fim_middle|>the cat"))[0].tokens) == list(prompt.tokens)


def test_a_model_without_marks_cannot_fill_in(engine: LlamaEngine) -> None:
    if engine._vocabulary.fill is None:
        with pytest.raises(Unsupported) as caught:
            engine.submit(JobId("job"), completion("The dog", suffix="the cat"))
        assert caught.value.fact("param") == "suffix"
    else:
        assert ask(engine, completion("The dog", suffix="")).done == {"job"}
    assert engine.is_idle()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 10**6}, "logprobs"),
        ({"choices": 3, "best_of": 2}, "best_of"),
        ({"best_of": 10**6}, "best_of"),
        ({"sampling": SamplingParams(samplers=("nonsense",))}, "samplers"),
        ({"sampling": SamplingParams(mirostat=7)}, "mirostat"),
        ({"sampling": SamplingParams(text_bias=(("x", math.nan),))}, "logit_bias"),
    ],
)
def test_wrong_requests_never_start(engine: LlamaEngine, fields, param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        engine.submit(JobId("job"), completion("The dog", **fields))
    assert caught.value.fact("param") == param
    assert engine.is_idle()


def test_a_text_can_be_forbidden(engine: LlamaEngine) -> None:
    first = ask(engine, completion("The dog", logprobs=0)).logprobs()[0]
    text = engine._vocabulary.piece(first.token).decode("utf-8", "replace")
    tokens = {int(token) for token in engine._vocabulary.tokenise(text, special=False, room=99)}
    sampling = SamplingParams(temperature=0, max_tokens=30, text_bias=((text, -math.inf),))
    told = ask(engine, completion("The dog", sampling=sampling, logprobs=0))
    assert tokens.isdisjoint(entry.token for entry in told.logprobs())


def tokenized(engine: LlamaEngine, **fields) -> Tokenized:
    engine.submit(JobId("job"), TokenizeRequest(model="tiny", **fields))
    event, done = engine.step()
    assert done == JobDone(JobId("job"))
    assert isinstance(event, JobEvent)
    assert isinstance(event.event, Tokenized)
    return event.event


def test_texts_and_tokens_are_turned_into_each_other(engine: LlamaEngine) -> None:
    for text in (*OPENINGS, "", "\n\t  x"):
        made = tokenized(engine, text=text)
        assert made.text == text
        assert len(made.pieces) == len(made.tokens)
        assert b"".join(made.pieces).decode().strip() == text.strip()
        assert tokenized(engine, tokens=made.tokens).text.strip() == text.strip()


def test_control_tokens_are_parsed_or_not(engine: LlamaEngine) -> None:
    assert len(tokenized(engine, text="<|im_end|>", parse_special=True).tokens) < 4
    assert len(tokenized(engine, text="<|im_end|>", parse_special=False).tokens) > 3


def test_a_begin_token_is_added_where_the_model_wants_one(engine: LlamaEngine) -> None:
    added = tokenized(engine, text="The dog", add_special=True).tokens
    assert list(added) == tokens_of(engine, "The dog")


def test_tokenising_is_answered_while_others_run(engine: LlamaEngine) -> None:
    engine.submit(JobId("other"), completion("The dog"))
    told = Told()
    told.feed(engine.step())
    engine.submit(JobId("split"), TokenizeRequest(model="tiny", text="The dog"))
    items = engine.step()
    assert items[-1] == JobDone(JobId("split"))
    run(engine, into=told)
    assert told.done == {"other"}


def test_a_conversation_is_rendered(engine: LlamaEngine) -> None:
    message = Message(role="user", parts=(TextPart("The dog"),))
    made = tokenized(engine, chat=ChatRequest(model="tiny", messages=(message,)))
    assert "The dog" in made.text
    assert "<|im_start|>" in made.text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "content"),
        ({"text": "x", "tokens": (1,)}, "content"),
        ({"text": "x" * (1 << 21)}, "content"),
        ({"tokens": (10**9,)}, "tokens"),
        ({"tokens": (-1,)}, "tokens"),
        ({"chat": ChatRequest(model="tiny", messages=())}, "messages"),
    ],
)
def test_what_cannot_be_tokenised_is_refused(engine: LlamaEngine, fields, param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        engine.submit(JobId("job"), TokenizeRequest(model="tiny", **fields))
    assert caught.value.fact("param") == param
    assert engine.is_idle()
