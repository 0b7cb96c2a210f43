"""The text engine on real llama.cpp, driven by hand: a random little model, and a trained one where it lies beside."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.core.errors import Broken, ContextTooLong, InvalidValue, Unsupported
from server.core.image import ImageRequest, Seeds, Size
from server.core.jobs import CancelMode, JobId
from server.core.memory import RAM
from server.core.prompt import plain
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    Message,
    PicturePart,
    SamplingParams,
    TextPart,
    Tool,
)
from tests.support.engine_driver import Collected, run
from tests.support.shared import SHARED, needs_shared
from tests.support.tiny_gguf import tiny_gguf

llama_cpp = pytest.importorskip("llama_cpp")

from server.engines.text.engine import LlamaEngine  # noqa: E402
from tests.support.llama_engine import GREEDY, SLOTS, ask, chat, completion, load  # noqa: E402

pytestmark = pytest.mark.llama

STORIES = SHARED / "models" / "stories260K.gguf"
OPENINGS = (
    "Once upon a time",
    "The dog",
    "Lily and Tom",
    "A big red ball",
    "One day a boy",
    "She was sad",
    "The sun",
    "Mom said",
    "In the park",
    "Max",
    "The little bird",
    "A cat",
    "Tim had",
    "Sue saw",
    "They went",
    "It was night",
)
LONG = "Once upon a time there was a little girl named Lily. She had a big red ball and a dog. " * 3


@pytest.fixture(scope="module", params=["random", pytest.param("stories", marks=needs_shared)])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "stories":
        return STORIES
    return tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def loaded(path: Path) -> Iterator[LlamaEngine]:
    engine = load(path)
    yield engine
    engine.close()
    engine.close()


@pytest.fixture
def engine(loaded: LlamaEngine) -> LlamaEngine:
    """Return the module's engine; whatever a test left in its caches, no test may leave work."""
    assert loaded.is_idle()
    return loaded


@pytest.fixture(scope="module")
def reference(path: Path) -> dict[str, str]:
    """Return what llama.cpp's high-level class continues each opening with, greedily, token by token."""
    llama = llama_cpp.Llama(
        model_path=str(path), n_ctx=512, n_threads=1, n_threads_batch=1, flash_attn=True, verbose=False
    )
    texts = {}
    for opening in OPENINGS:
        prompt = llama.tokenize(opening.encode(), add_bos=True, special=True)
        pieces = b""
        for count, token in enumerate(llama.generate(prompt, temp=0.0, repeat_penalty=1.0)):
            if count == GREEDY.max_tokens or llama_cpp.llama_vocab_is_eog(llama._model.vocab, token):
                break
            pieces += llama.detokenize([token], prev_tokens=prompt)
        texts[opening] = pieces.decode("utf-8", "replace")
    llama.close()
    return texts


def test_facts_are_those_of_the_file(engine: LlamaEngine, path: Path) -> None:
    assert engine.facts.context == 512
    assert engine.facts.slots == SLOTS
    assert engine.facts.footprint.resident[RAM] >= 0.9 * path.stat().st_size
    assert engine.facts.dtype


@pytest.mark.parametrize("opening", OPENINGS[:4])
def test_greedy_equals_the_high_level_class_alone(engine: LlamaEngine, reference: dict[str, str], opening: str) -> None:
    collected = ask(engine, completion(opening))
    assert collected.text("job") == reference[opening]
    assert collected.done == {"job"}


@needs_shared
def test_a_story_equals_the_high_level_completion() -> None:
    llama = llama_cpp.Llama(
        model_path=str(STORIES), n_ctx=512, n_threads=1, n_threads_batch=1, flash_attn=True, verbose=False
    )
    answer = llama.create_completion("Once upon a time", temperature=0, repeat_penalty=1.0, max_tokens=200)
    llama.close()
    engine = load(STORIES, slots=1)
    collected = ask(engine, completion("Once upon a time", sampling=SamplingParams(temperature=0, max_tokens=200)))
    engine.close()
    assert collected.text("job") == answer["choices"][0]["text"]
    assert collected.finished["job", 0].reason == answer["choices"][0]["finish_reason"]


def test_greedy_equals_the_high_level_class_with_sixteen_in_flight(
    engine: LlamaEngine, reference: dict[str, str]
) -> None:
    for opening in OPENINGS:
        engine.submit(JobId(opening), completion(opening))
    collected = run(engine)
    assert {opening: collected.text(opening) for opening in OPENINGS} == reference


def test_more_requests_than_sequences_are_all_answered(engine: LlamaEngine, reference: dict[str, str]) -> None:
    for turn in range(3):
        for opening in OPENINGS:
            engine.submit(JobId(f"{opening}/{turn}"), completion(opening))
    collected = run(engine)
    assert len(collected.done) == 48
    for opening in OPENINGS:
        assert {collected.text(f"{opening}/{turn}") for turn in range(3)} == {reference[opening]}


def test_requests_that_arrive_while_others_run(engine: LlamaEngine, reference: dict[str, str]) -> None:
    collected = Collected()
    for opening in OPENINGS:
        engine.submit(JobId(opening), completion(opening))
        for _ in range(3):
            collected.feed(engine.step())
    while not engine.is_idle():
        collected.feed(engine.step())
    assert {opening: collected.text(opening) for opening in OPENINGS} == reference


def test_length_and_usage(engine: LlamaEngine) -> None:
    collected = ask(
        engine, completion("The dog", sampling=SamplingParams(temperature=0, max_tokens=7, ignore_eos=True))
    )
    finished = collected.finished["job", 0]
    assert finished.reason == "length"
    assert finished.usage.completion_tokens == 7
    assert finished.usage.prompt_tokens == collected.started["job"]
    assert collected.tokens["job", 0] == 7
    assert finished.prompt_ms > 0
    assert finished.predicted_ms > 0


def test_no_tokens_asked_for(engine: LlamaEngine) -> None:
    collected = ask(engine, completion("The dog", sampling=SamplingParams(max_tokens=0), echo=True, choices=2))
    assert collected.text("job", 0) == collected.text("job", 1) == "The dog"
    assert collected.finished["job", 1].reason == "length"
    assert collected.finished["job", 1].usage.completion_tokens == 0


def test_without_a_limit_the_context_is_the_end(engine: LlamaEngine) -> None:
    collected = ask(engine, completion("The dog", sampling=SamplingParams(temperature=0, ignore_eos=True)))
    usage = collected.finished["job", 0].usage
    assert collected.finished["job", 0].reason == "length"
    assert usage.prompt_tokens + usage.completion_tokens == engine.facts.context


def test_a_stop_string_ends_the_text_and_is_not_shown(engine: LlamaEngine, reference: dict[str, str]) -> None:
    text = reference["The dog"]
    stop = text[len(text) // 3 :][:4]
    collected = ask(engine, completion("The dog", sampling=SamplingParams(temperature=0, max_tokens=40, stop=(stop,))))
    assert collected.text("job") == text[: text.index(stop)]
    assert collected.finished["job", 0].reason == "stop"


def test_an_end_token_stops_unless_it_is_forbidden(engine: LlamaEngine) -> None:
    wish = SamplingParams(temperature=0, max_tokens=5, logit_bias=((2, 1000.0),))
    collected = ask(engine, completion("The dog", sampling=wish))
    assert collected.finished["job", 0].reason == "stop"
    assert collected.text("job") == ""
    assert collected.finished["job", 0].usage.completion_tokens == 0
    forbidden = SamplingParams(temperature=0, max_tokens=5, logit_bias=((2, 1000.0),), ignore_eos=True)
    collected = ask(engine, completion("The dog", sampling=forbidden))
    assert collected.finished["job", 0].reason == "length"
    assert collected.finished["job", 0].usage.completion_tokens == 5


def test_a_bias_forces_and_forbids_tokens(engine: LlamaEngine) -> None:
    token = 300
    forced = ask(
        engine, completion("The dog", sampling=SamplingParams(temperature=0, max_tokens=3, logit_bias=((token, 1e4),)))
    )
    piece = engine._vocabulary.piece(token).decode()
    assert forced.text("job") == piece * 3
    free = ask(engine, completion("The dog", sampling=SamplingParams(temperature=0, max_tokens=1)))
    first = next(
        i
        for i in range(engine._vocabulary.size)
        if engine._vocabulary.piece(i).decode("utf-8", "replace") == free.text("job")
    )
    banned = ask(
        engine,
        completion("The dog", sampling=SamplingParams(temperature=0, max_tokens=1, logit_bias=((first, -math.inf),))),
    )
    assert banned.text("job") != free.text("job")


def test_equal_seeds_write_equally_alone_and_in_company(engine: LlamaEngine) -> None:
    wild = SamplingParams(temperature=1.2, seed=42, max_tokens=30)
    alone = ask(engine, completion("Lily and Tom", sampling=wild)).text("job")
    for number, opening in enumerate(OPENINGS):
        sampling = wild if opening == "Lily and Tom" else SamplingParams(temperature=1.2, seed=number, max_tokens=30)
        engine.submit(JobId(opening), completion(opening, sampling=sampling))
    assert run(engine).text("Lily and Tom") == alone
    other = SamplingParams(temperature=1.2, seed=43, max_tokens=30)
    assert ask(engine, completion("Lily and Tom", sampling=other)).text("job") != alone


def test_without_a_seed_texts_differ(engine: LlamaEngine) -> None:
    free = SamplingParams(temperature=1.5, top_k=0, min_p=0.0, max_tokens=30)
    assert ask(engine, completion("The dog", sampling=free)).text("job") != ask(
        engine, completion("The dog", sampling=free)
    ).text("job")


def test_choices_of_several_prompts_are_numbered_and_reproducible(engine: LlamaEngine) -> None:
    sampling = SamplingParams(temperature=1.0, seed=5, max_tokens=12)
    work = completion("The dog", "A cat", sampling=sampling, choices=3)
    first, second = ask(engine, work), ask(engine, work)
    assert set(first.finished) == {("job", index) for index in range(6)}
    assert first.texts == second.texts
    assert len({first.text("job", index) for index in range(3)}) > 1
    single = ask(engine, completion("A cat", sampling=sampling))
    assert single.text("job") == first.text("job", 3)


def test_more_choices_than_sequences(engine: LlamaEngine) -> None:
    collected = ask(engine, completion("The dog", choices=SLOTS + 5))
    assert len({collected.text("job", index) for index in range(SLOTS + 5)}) == 1
    assert len(collected.finished) == SLOTS + 5


def test_echo_sends_the_prompt_first(engine: LlamaEngine, reference: dict[str, str]) -> None:
    assert ask(engine, completion("The dog", echo=True)).text("job") == "The dog" + reference["The dog"]


def test_a_prompt_of_tokens_is_the_same_as_its_text(engine: LlamaEngine, reference: dict[str, str]) -> None:
    ids = tuple(
        int(token)
        for token in engine._vocabulary.with_bos(engine._vocabulary.tokenise("The dog", special=True, room=512))
    )
    assert ask(engine, completion(ids, echo=True)).text("job") == "The dog" + reference["The dog"]


def test_an_empty_prompt_begins_with_the_begin_token(engine: LlamaEngine) -> None:
    for empty in ("", ()):
        collected = ask(engine, completion(empty, sampling=SamplingParams(temperature=0, max_tokens=3)))
        assert collected.finished["job", 0].usage.prompt_tokens == 1


def test_a_prefix_is_reused(path: Path) -> None:
    with_cache = load(path, slots=2)
    fresh = load(path, slots=2)
    first = ask(with_cache, completion(LONG))
    assert first.finished["job", 0].usage.cached_tokens == 0
    again = ask(with_cache, completion(LONG + "The dog"))
    usage = again.finished["job", 0].usage
    assert usage.cached_tokens > 30
    assert usage.cached_tokens < usage.prompt_tokens
    assert again.text("job") == ask(fresh, completion(LONG + "The dog")).text("job")
    with_cache.close()
    fresh.close()


def test_sixteen_requests_with_one_prefix_compute_it_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, engine = load(path, slots=1), load(path, batch=64)
    expected = {opening: ask(fresh, completion(LONG + opening)).text("job") for opening in OPENINGS}
    computed = 0
    decode = engine._context.decode

    def counting(batch):
        nonlocal computed
        computed += batch.size
        return decode(batch)

    monkeypatch.setattr(engine._context, "decode", counting)
    for opening in OPENINGS:
        engine.submit(JobId(opening), completion(LONG + opening))
    collected = run(engine)
    prompt = collected.started["The dog"]
    cached = [collected.finished[opening, 0].usage.cached_tokens for opening in OPENINGS]
    assert sorted(count > 0.7 * prompt for count in cached) == [False] + [True] * 15
    generated = sum(finished.usage.completion_tokens for finished in collected.finished.values())
    assert computed <= sum(collected.started.values()) - sum(cached) + generated
    assert {opening: collected.text(opening) for opening in OPENINGS} == expected
    fresh.close()
    engine.close()


def test_running_sequences_are_neighbours(path: Path) -> None:
    engine = load(path, slots=4)
    for opening in OPENINGS[:4]:
        engine.submit(JobId(opening), completion(opening))
    run(engine)
    for opening in OPENINGS[4:6]:
        engine.submit(JobId(opening), completion(opening))
    run(engine, until=lambda collected: len(collected.texts) == 2)
    numbers = [sequence.id for sequence in engine._caches.sequences if sequence.reply is not None]
    assert numbers[1] == numbers[0] + 1
    engine.close()


@pytest.mark.parametrize("mode", [CancelMode.ABANDON, CancelMode.STOP])
def test_cancel_while_the_prompt_is_computed_frees_the_sequence_at_once(path: Path, mode: CancelMode) -> None:
    engine = load(path, slots=1, batch=16)
    engine.submit(JobId("long"), completion(LONG))
    collected = Collected()
    for _ in range(3):
        collected.feed(engine.step())
    assert engine._caches.sequences[0].unfinished > 0
    engine.cancel(JobId("long"), mode)
    assert engine._caches.sequences[0].reply is None
    collected = run(engine, into=collected, steps=1)
    assert collected.done == {"long"}
    assert [finished.reason for finished in collected.finished.values()] == ["cancelled"] * (mode is CancelMode.STOP)
    assert ask(engine, completion("The dog")).done == {"job"}
    engine.close()


@pytest.mark.parametrize("mode", [CancelMode.ABANDON, CancelMode.STOP, CancelMode.SKIP])
def test_cancel_while_running(engine: LlamaEngine, reference: dict[str, str], mode: CancelMode) -> None:
    engine.submit(JobId("other"), completion("The dog"))
    engine.submit(
        JobId("victim"), completion("A cat", "Max", sampling=SamplingParams(temperature=0, ignore_eos=True), choices=10)
    )
    collected = run(engine, until=lambda so_far: len([key for key in so_far.texts if key[0] == "victim"]) >= 3)
    engine.cancel(JobId("victim"), mode)
    assert all(sequence.reply is None or sequence.reply.job == "other" for sequence in engine._caches.sequences)
    run(engine, into=collected)
    assert collected.done == {"other", "victim"}
    assert collected.text("other") == reference["The dog"]
    finished = [event.reason for (job, _), event in collected.finished.items() if job == "victim"]
    assert finished == ([] if mode is CancelMode.ABANDON else ["cancelled"] * 20)


def test_cancel_of_an_unknown_or_waiting_job(path: Path) -> None:
    engine = load(path, slots=1)
    engine.cancel(JobId("nobody"), CancelMode.ABANDON)
    assert engine.is_idle()
    engine.submit(JobId("first"), completion("The dog"))
    engine.submit(JobId("second"), completion("A cat"))
    engine.submit(JobId("third"), completion("Max"))
    engine.cancel(JobId("second"), CancelMode.ABANDON)
    collected = run(engine)
    assert collected.done == {"first", "second", "third"}
    assert set(collected.finished) == {("first", 0), ("third", 0)}
    engine.close()


def test_a_prompt_that_does_not_fit_is_refused_with_numbers(engine: LlamaEngine) -> None:
    with pytest.raises(ContextTooLong) as caught:
        engine.submit(JobId("job"), completion("a " * 600))
    assert caught.value.fact("limit") == 512
    assert isinstance(caught.value.fact("got"), int)
    assert caught.value.fact("got") > 512
    assert engine.is_idle()


def test_megabytes_are_refused_unread(engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(*_: object) -> None:
        raise AssertionError("it was tokenised")

    monkeypatch.setattr(engine._vocabulary, "_ids", unread)
    for work in (completion("a " * 4_000_000), chat(("user", "a " * 1_000_000))):
        with pytest.raises(ContextTooLong) as caught:
            engine.submit(JobId("job"), work)
        assert isinstance(caught.value.fact("got"), int)
        assert caught.value.fact("got") > 512


def test_the_longest_prompt_that_fits(engine: LlamaEngine) -> None:
    ids = (1,) + (300,) * (engine.facts.context - 2)
    collected = ask(engine, completion(ids, sampling=SamplingParams(temperature=0, ignore_eos=True)))
    assert collected.finished["job", 0].usage.completion_tokens == 1
    with pytest.raises(ContextTooLong):
        engine.submit(JobId("job"), completion((*ids, 300)))


@pytest.mark.parametrize(
    ("work", "param"),
    [
        (completion((1, 10**6)), "prompt"),
        (completion((-1,)), "prompt"),
        (completion(), "prompt"),
        (completion("x", choices=0), "n"),
        (completion("x", choices=2**40), "n"),
        (completion(*["x"] * 50, choices=100), "prompt"),
        (completion("x", sampling=SamplingParams(temperature=-1)), "temperature"),
        (completion("x", sampling=SamplingParams(logit_bias=((10**6, 1.0),))), "logit_bias"),
        (chat(), "messages"),
        (chat(("emperor", "x")), "messages"),
        (chat(("user", "x"), continue_final=True), "messages"),
    ],
)
def test_wrong_requests_never_start(engine: LlamaEngine, work: CompletionRequest | ChatRequest, param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        engine.submit(JobId("job"), work)
    assert caught.value.fact("param") == param
    assert engine.is_idle()


def test_what_the_engine_cannot_do_is_unsupported(engine: LlamaEngine) -> None:
    picture = Message(role="user", parts=(PicturePart(b"png"),))
    picture_work = ImageRequest(
        model="tiny", prompt=plain("x"), negative=plain(""), size=Size(64, 64), seeds=Seeds(first=1)
    )
    with pytest.raises(Unsupported):
        engine.submit(JobId("job"), ChatRequest(model="tiny", messages=(picture,)))
    with pytest.raises(Unsupported):
        engine.submit(JobId("job"), picture_work)


def test_tools_that_the_template_has_no_place_for_are_described_in_the_system_message(engine: LlamaEngine) -> None:
    def prompt_tokens(*tools: Tool) -> int:
        message = Message(role="user", parts=(TextPart("x"),))
        work = ChatRequest(model="tiny", messages=(message,), tools=tools, sampling=GREEDY)
        return ask(engine, work).started["job"]

    assert prompt_tokens(Tool(name="add"), Tool(name="take")) > prompt_tokens(Tool(name="add")) > prompt_tokens()


def test_a_failing_decode_fails_its_jobs_and_no_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(path, slots=2)
    engine.submit(JobId("doomed"), completion("The dog", choices=3))
    collected = run(engine, until=lambda so_far: bool(so_far.texts))
    with monkeypatch.context() as patch:
        patch.setattr(engine._context, "decode", lambda _: -3)
        run(engine, into=collected)
    assert isinstance(collected.errors["doomed"], Broken)
    assert engine.is_idle()
    after = ask(engine, completion("The dog"))
    assert after.done == {"job"}
    assert after.finished["job", 0].usage.cached_tokens == 0
    engine.close()


def test_a_cache_without_room_is_emptied_and_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(path, slots=2)
    expected = ask(engine, completion("The dog")).text("job")
    codes = [1]
    decode = engine._context.decode
    monkeypatch.setattr(engine._context, "decode", lambda batch: codes.pop() if codes else decode(batch))
    assert ask(engine, completion("The dog")).text("job") == expected
    assert not codes
    engine.close()


def test_broken_bytes_become_replacement_characters(engine: LlamaEngine) -> None:
    """At a high temperature random byte tokens come; every text must be whole characters."""
    sampling = SamplingParams(temperature=50.0, top_k=0, top_p=1.0, min_p=0.0, seed=3, max_tokens=200, ignore_eos=True)
    collected = ask(engine, completion("x", sampling=sampling))
    text = collected.text("job")
    assert text.encode("utf-8").decode("utf-8") == text
    assert collected.finished["job", 0].usage.completion_tokens == 200


def test_chat_with_the_fallback_template(engine: LlamaEngine) -> None:
    collected = ask(
        engine, chat(("system", "Be kind."), ("user", "Hello"), sampling=SamplingParams(seed=1, max_tokens=20))
    )
    assert collected.done == {"job"}
    assert collected.started["job"] > 5
