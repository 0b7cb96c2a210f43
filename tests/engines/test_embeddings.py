"""Embeddings and reranking on real llama.cpp with random little models, against llama.cpp's own high-level class."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from server.core.errors import Broken, ContextTooLong, InvalidValue, from_data
from server.core.image import ImageRequest, Seeds, Size
from server.core.jobs import CancelMode, JobDone, JobEvent, JobFailed, JobId, Outcome
from server.core.models import ModelCard, ModelId, ModelKind, Runtime, TextSettings
from server.core.prompt import plain
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    EmbeddingsReady,
    Message,
    RerankRequest,
    ScoresReady,
    TextPart,
    TextStarted,
    Tokenized,
    TokenizeRequest,
)
from tests.support.tiny_archs import CLS, LAST, MEAN, RANK, tiny_bert, tiny_pooled_llama, tiny_qwen2
from tests.support.tiny_gguf import tiny_gguf

llama_cpp = pytest.importorskip("llama_cpp")

from server.engines.text.embedding_engine import EmbeddingEngine  # noqa: E402
from server.engines.text.llama_cpp import LlamaLoader  # noqa: E402

pytestmark = pytest.mark.llama

TEXTS = (
    "the big red ball",
    "a dog",
    "once upon a time there was a little girl named mom",
    "happy",
    "the sun is a tree, said the cat to the boy in the park. hello world!",
    "x",
)
PACKED = 1e-4
"""How far a vector may move with what else is in the call: ggml looks GELU up in a table of half-precision floats."""

KINDS = {
    "bert, mean": lambda path: tiny_bert(path, pooling=MEAN),
    "bert, cls": lambda path: tiny_bert(path, pooling=CLS),
    "llama, mean": lambda path: tiny_pooled_llama(path, pooling=MEAN),
    "llama, last": lambda path: tiny_pooled_llama(path, pooling=LAST),
    "qwen2, last": lambda path: tiny_qwen2(path, pooling=LAST),
}


def load(path: Path, *, batch: int = 512) -> EmbeddingEngine:
    card = ModelCard(
        id=ModelId("tiny"), name=path.name, kind=ModelKind.TEXT, files=(str(path),), runtime=Runtime.LLAMA_CPP
    )
    engine = LlamaLoader().load(card, TextSettings(batch=batch, threads=1), lambda _: None)
    assert isinstance(engine, EmbeddingEngine)
    return engine


def finish(engine: EmbeddingEngine) -> list[Outcome]:
    items: list[Outcome] = []
    for _ in range(1000):
        if engine.is_idle():
            return items
        items += engine.step()
    raise AssertionError("the engine does not come to rest")


def vectors(items: list[Outcome], job: str = "job") -> np.ndarray:
    rows: list[np.ndarray] = []
    for item in items:
        if item.job == job and isinstance(item, JobEvent) and isinstance(item.event, EmbeddingsReady):
            assert item.event.first == len(rows)
            rows += list(np.frombuffer(item.event.vectors, "<f4").reshape(-1, item.event.dimensions))
    assert items[-1] == JobDone(JobId(job)) or any(item == JobDone(JobId(job)) for item in items)
    return np.array(rows)


def embed(
    engine: EmbeddingEngine, *inputs: str | tuple[int, ...], dimensions: int | None = None, norm: int = 2
) -> np.ndarray:
    engine.submit(JobId("job"), EmbeddingRequest(model="tiny", inputs=inputs, dimensions=dimensions, norm=norm))
    return vectors(finish(engine))


@pytest.fixture(scope="module", params=list(KINDS))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return KINDS[request.param](tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def loaded(path: Path) -> Iterator[EmbeddingEngine]:
    engine = load(path)
    yield engine
    engine.close()
    engine.close()


@pytest.fixture
def engine(loaded: EmbeddingEngine) -> EmbeddingEngine:
    assert loaded.is_idle()
    return loaded


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddingEngine]:
    engine = load(tiny_bert(tmp_path_factory.mktemp("models") / "tiny.gguf"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddingEngine]:
    engine = load(tiny_bert(tmp_path_factory.mktemp("models") / "rank.gguf", pooling=RANK))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference(path: Path) -> np.ndarray:
    """Return what the high-level class makes of each text, one by one, with the length 1."""
    llama = llama_cpp.Llama(
        model_path=str(path), embedding=True, n_ctx=128, n_threads=1, n_threads_batch=1, verbose=False
    )
    made = np.array([llama.embed(text, normalize=True) for text in TEXTS])
    llama.close()
    return made


def test_vectors_are_those_of_the_high_level_class(engine: EmbeddingEngine, reference: np.ndarray) -> None:
    together = embed(engine, *TEXTS)
    np.testing.assert_allclose(together, reference, atol=1e-5)
    np.testing.assert_allclose((together.astype(np.float64) ** 2).sum(axis=1), 1.0, atol=1e-6)
    for number in (0, 4):
        np.testing.assert_allclose(embed(engine, TEXTS[number])[0], reference[number], atol=1e-5)


def test_several_texts_share_a_call(engine: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    compute = engine._context.compute

    def counting(texts):
        sizes.append(len(texts))
        return compute(texts)

    monkeypatch.setattr(engine._context, "compute", counting)
    embed(engine, *TEXTS)
    assert sizes == [len(TEXTS)]


def test_jobs_share_a_call_and_get_their_own(engine: EmbeddingEngine, reference: np.ndarray) -> None:
    for number, text in enumerate(TEXTS):
        engine.submit(JobId(str(number)), EmbeddingRequest(model="tiny", inputs=(text, TEXTS[0])))
    items = finish(engine)
    for number in range(len(TEXTS)):
        np.testing.assert_allclose(vectors(items, str(number)), reference[[number, 0]], atol=PACKED)


def test_more_texts_than_fit_into_a_call(path: Path) -> None:
    small, large = load(path, batch=16), load(path)
    many = TEXTS * 20
    made = embed(small, *many)
    assert len(made) == len(many)
    np.testing.assert_allclose(made, embed(large, *many), atol=PACKED)
    small.close()
    large.close()


def test_the_usage_is_told_first(engine: EmbeddingEngine) -> None:
    engine.submit(JobId("job"), EmbeddingRequest(model="tiny", inputs=TEXTS))
    first = engine.step()[0]
    counts = [len(engine._vocabulary.tokenise(text, special=False, room=128, added=True)) for text in TEXTS]
    assert first == JobEvent(JobId("job"), TextStarted(prompt_tokens=sum(counts)))
    finish(engine)


def test_a_text_and_its_tokens_are_the_same(engine: EmbeddingEngine) -> None:
    ids = engine._vocabulary.tokenise(TEXTS[0], special=False, room=128, added=True)
    np.testing.assert_array_equal(embed(engine, tuple(int(i) for i in ids)), embed(engine, TEXTS[0]))


def test_fewer_dimensions_are_the_first_ones_with_length_one(engine: EmbeddingEngine) -> None:
    whole, short = embed(engine, TEXTS[0])[0], embed(engine, TEXTS[0], dimensions=7)[0]
    assert short.shape == (7,)
    np.testing.assert_allclose(short, whole[:7] / np.linalg.norm(whole[:7]), atol=1e-6)


def test_other_norms(engine: EmbeddingEngine) -> None:
    raw, usual = embed(engine, TEXTS[0], norm=-1)[0].astype(np.float64), embed(engine, TEXTS[0])[0]
    assert not np.isclose(np.linalg.norm(raw), 1)
    np.testing.assert_allclose(usual, raw / np.linalg.norm(raw), atol=1e-6)
    np.testing.assert_allclose(embed(engine, TEXTS[0], norm=0)[0], raw / np.abs(raw).max() * 32760, rtol=1e-5)
    for p in (1, 3):
        np.testing.assert_allclose(embed(engine, TEXTS[0], norm=p)[0], raw / np.linalg.norm(raw, p), atol=1e-6)


def test_the_longest_text_fits_and_one_token_more_does_not(engine: EmbeddingEngine) -> None:
    length = engine.facts.context
    assert embed(engine, (7,) * length).shape[0] == 1
    for too_long in ((7,) * (length + 1), "the " * (length + 1)):
        with pytest.raises(ContextTooLong) as caught:
            engine.submit(JobId("job"), EmbeddingRequest(model="tiny", inputs=("a", too_long)))
        assert caught.value.fact("limit") == length
    assert engine.is_idle()


MESSAGE = Message(role="user", parts=(TextPart("hello"),))


@pytest.mark.parametrize(
    ("work", "param"),
    [
        (EmbeddingRequest(model="tiny", inputs=()), "input"),
        (EmbeddingRequest(model="tiny", inputs=("a", "")), "input"),
        (EmbeddingRequest(model="tiny", inputs=((),)), "input"),
        (EmbeddingRequest(model="tiny", inputs=((1, 10**6),)), "input"),
        (EmbeddingRequest(model="tiny", inputs=((-1,),)), "input"),
        (EmbeddingRequest(model="tiny", inputs=("a",) * 5000), "input"),
        (EmbeddingRequest(model="tiny", inputs=("a",), dimensions=0), "dimensions"),
        (EmbeddingRequest(model="tiny", inputs=("a",), dimensions=33), "dimensions"),
        (RerankRequest(model="tiny", query="a", documents=("b",)), "model"),
        (ChatRequest(model="tiny", messages=(MESSAGE,)), "model"),
        (CompletionRequest(model="tiny", prompts=("a",)), "model"),
        (TokenizeRequest(model="tiny", chat=ChatRequest(model="tiny", messages=(MESSAGE,))), "model"),
    ],
)
def test_wrong_requests_never_start(bert: EmbeddingEngine, work, param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        bert.submit(JobId("job"), work)
    assert caught.value.fact("param") == param
    assert bert.is_idle()


def test_pictures_are_not_made(bert: EmbeddingEngine) -> None:
    work = ImageRequest(model="tiny", prompt=plain("x"), negative=plain(""), size=Size(64, 64), seeds=Seeds(first=1))
    with pytest.raises(Exception, match="text model"):
        bert.submit(JobId("job"), work)
    assert bert.is_idle()


def test_a_model_that_writes_says_what_to_name(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "writer.gguf")
    card = ModelCard(id=ModelId("w"), name="w", kind=ModelKind.TEXT, files=(str(path),), runtime=Runtime.LLAMA_CPP)
    engine = LlamaLoader().load(card, TextSettings(slots=1, threads=1), lambda _: None)
    for work, kind in (
        (EmbeddingRequest(model="w", inputs=("a",)), "embedding model"),
        (RerankRequest(model="w", query="a", documents=("b",)), "reranking model"),
    ):
        with pytest.raises(InvalidValue, match=kind) as caught:
            engine.submit(JobId("job"), work)
        assert caught.value.fact("param") == "model"
    engine.close()


def scores(items: list[Outcome]) -> list[float]:
    found: list[float] = []
    for item in items:
        if isinstance(item, JobEvent) and isinstance(item.event, ScoresReady):
            assert item.event.first == len(found)
            found += item.event.scores
    return found


def test_documents_are_scored_as_alone(ranker: EmbeddingEngine) -> None:
    ranker.submit(JobId("job"), RerankRequest(model="tiny", query="happy dog", documents=TEXTS))
    together = scores(finish(ranker))
    assert len(set(together)) == len(TEXTS)
    for text, score in zip(TEXTS, together, strict=True):
        ranker.submit(JobId("job"), RerankRequest(model="tiny", query="happy dog", documents=(text,)))
        assert scores(finish(ranker)) == pytest.approx([score], abs=PACKED)
    ranker.submit(JobId("job"), RerankRequest(model="tiny", query="sad cat", documents=TEXTS))
    assert scores(finish(ranker)) != pytest.approx(together, abs=1e-3)


def test_a_pair_is_put_together_as_llama_cpp_does(ranker: EmbeddingEngine) -> None:
    work = RerankRequest(model="tiny", query="happy dog", documents=("the cat",))
    pieces = [ranker._vocabulary.written(int(token)).decode() for token in ranker._inputs.pairs(work)[0]]
    assert [piece.strip() for piece in pieces] == ["[CLS]", "happy", "dog", "[SEP]", "the", "cat"]


@pytest.mark.parametrize(
    ("work", "param"),
    [
        (RerankRequest(model="tiny", query="", documents=("b",)), "query"),
        (RerankRequest(model="tiny", query="a", documents=()), "documents"),
        (EmbeddingRequest(model="tiny", inputs=("a",)), "model"),
    ],
)
def test_wrong_rankings_never_start(ranker: EmbeddingEngine, work, param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        ranker.submit(JobId("job"), work)
    assert caught.value.fact("param") == param
    assert ranker.is_idle()


def test_a_pair_that_is_too_long_is_refused(ranker: EmbeddingEngine) -> None:
    with pytest.raises(ContextTooLong):
        ranker.submit(JobId("job"), RerankRequest(model="tiny", query="a " * 70, documents=("b", "the " * 70)))


@pytest.mark.parametrize("mode", list(CancelMode))
def test_a_cancelled_job_ends_and_leaves_the_others(bert: EmbeddingEngine, mode: CancelMode) -> None:
    bert.cancel(JobId("nobody"), mode)
    assert bert.is_idle()
    for job in ("one", "two"):
        bert.submit(JobId(job), EmbeddingRequest(model="tiny", inputs=TEXTS * 30))
    items = [*bert.step(), *bert.step()]
    bert.cancel(JobId("one"), mode)
    items += finish(bert)
    own = [item for item in items if item.job == "one"]
    assert [item for item in own if isinstance(item, JobDone)] == own[-1:]
    assert len(vectors(items, "two")) == len(TEXTS) * 30


def test_a_failing_call_fails_its_jobs_and_no_others(bert: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise Broken("no")

    bert.submit(JobId("one"), EmbeddingRequest(model="tiny", inputs=("a",)))
    with monkeypatch.context() as patch:
        patch.setattr(bert._context, "compute", fail)
        items = finish(bert)
    failed = [item for item in items if isinstance(item, JobFailed)]
    assert isinstance(from_data(failed[0].error), Broken)
    assert len(embed(bert, "a")) == 1


def test_texts_are_tokenised_with_what_stands_around_them(bert: EmbeddingEngine) -> None:
    bert.submit(JobId("job"), TokenizeRequest(model="tiny", text="the dog", add_special=True))
    event, done = bert.step()
    assert isinstance(event, JobEvent)
    assert isinstance(event.event, Tokenized)
    assert event.event.pieces[0] == b"[CLS]"
    assert event.event.pieces[-1] == b"[SEP]"
    assert done == JobDone(JobId("job"))
