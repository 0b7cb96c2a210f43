"""Pictures in conversations, on real llama.cpp with random little models and projectors of four kinds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from server.core.errors import BadImage, ContextTooLong, InvalidValue, LoadFailed, Unsupported
from server.core.jobs import CancelMode, JobId
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    Message,
    Part,
    PicturePart,
    PlacedPicture,
    SamplingParams,
    TextPart,
    Tokenized,
    TokenizeRequest,
)
from tests.support.engine_driver import Collected, run
from tests.support.picture_files import file_of, noise_image, png_of_size
from tests.support.tiny_archs import tiny_qwen2vl
from tests.support.tiny_gguf import tiny_gguf
from tests.support.tiny_models import CHATML
from tests.support.tiny_projector import tiny_gemma_eye, tiny_idefics, tiny_llava, tiny_qwen_eye

pytest.importorskip("llama_cpp")

from server.engines.text.engine import LlamaEngine
from server.engines.text.pictures import PictureRun
from server.engines.text.sight import Sight
from tests.support.llama_engine import ask, load
from tests.support.reference_sight import MARK, greedy_tokens

pytestmark = pytest.mark.llama

CAT, DOG = noise_image(48, 48, seed=1), noise_image(48, 48, seed=2)
QUESTION = "what is in the big red park"
FREE = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)


class Files(NamedTuple):
    model: Path
    projector: Path


@pytest.fixture(scope="module", params=["llava", "gemma3", "qwen2vl", "idefics3"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp(request.param)
    model, projector = folder / "m.gguf", folder / "mmproj.gguf"
    match request.param:
        case "llava":
            return Files(tiny_gguf(model, template=CHATML, context=1024), tiny_llava(projector))
        case "gemma3":
            return Files(tiny_gguf(model, template=CHATML, context=1024), tiny_gemma_eye(projector))
        case "qwen2vl":
            return Files(tiny_qwen2vl(model, template=CHATML, context=1024), tiny_qwen_eye(projector))
    marks = ("\n\n", "<fake_token_around_image>", "<global-img>")
    return Files(tiny_gguf(model, template=CHATML, context=2048, control=marks), tiny_idefics(projector))


@pytest.fixture(scope="module")
def shared_engine(files: Files) -> Iterator[LlamaEngine]:
    engine = load(files.model, slots=4, mmproj=files.projector)
    yield engine
    engine.close()


@pytest.fixture
def engine(files: Files) -> Iterator[LlamaEngine]:
    engine = load(files.model, slots=4, mmproj=files.projector)
    yield engine
    engine.close()


def show(*parts: Part | Image.Image | bytes | str, sampling: SamplingParams = FREE, scope: str = "") -> ChatRequest:
    """Return the question of one user, pictures and texts in order."""
    return ChatRequest(
        model="tiny", messages=(Message(role="user", parts=tuple(map(part, parts))),), sampling=sampling, scope=scope
    )


def part(given: Part | Image.Image | bytes | str) -> Part:
    if isinstance(given, str):
        return TextPart(given)
    if isinstance(given, Image.Image):
        return PicturePart(file_of(given), "messages[0].content[0].image_url")
    return PicturePart(given, "messages[0].content[0].image_url") if isinstance(given, bytes) else given


def answer(engine: LlamaEngine, request: ChatRequest) -> str:
    collected = ask(engine, request)
    assert not collected.errors
    return collected.text("job")


def count_encodings(engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    encode = Sight.encode

    def counted(self: Sight, run: PictureRun) -> None:
        made.append(1)
        encode(self, run)

    monkeypatch.setattr(Sight, "encode", counted)
    return made


def test_an_answer_is_the_librarys_own(files: Files, engine: LlamaEngine) -> None:
    request = show("see ", CAT, " and ", DOG, QUESTION)
    prompt = f"<|im_start|>user\nsee {MARK} and {MARK}{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    context = 2048 if files.projector.read_bytes().find(b"idefics3") >= 0 else 1024
    expected = greedy_tokens(files.model, files.projector, prompt, [CAT, DOG], count=24, context=context)
    vocabulary = engine._vocabulary
    assert answer(engine, request) == b"".join(map(vocabulary.piece, expected)).decode(errors="replace")


def test_a_raw_prompt_with_pictures_is_answered_as_by_the_library(files: Files, engine: LlamaEngine) -> None:
    texts = ("<|im_start|>user\nsee ", " and ", f" {QUESTION}<|im_end|>\n")
    context = 2048 if files.projector.read_bytes().find(b"idefics3") >= 0 else 1024
    expected = greedy_tokens(files.model, files.projector, MARK.join(texts), [CAT, DOG], count=24, context=context)
    work = CompletionRequest(
        model="tiny",
        prompts=("the dog", "".join(texts)),
        pictures=tuple(
            PlacedPicture(prompt=1, at=len("".join(texts[: number + 1])), picture=PicturePart(file_of(image)))
            for number, image in enumerate((CAT, DOG))
        ),
        sampling=FREE,
    )
    collected = ask(engine, work)
    said = b"".join(map(engine._vocabulary.piece, expected)).decode(errors="replace")
    assert collected.text("job", 1) == said
    plain = ask(engine, CompletionRequest(model="tiny", prompts=("the dog",), sampling=FREE))
    assert collected.text("job", 0) == plain.text("job")


@pytest.mark.parametrize("options", [{"suffix": "x"}, {"echo": True, "logprobs": 1}])
def test_what_raw_prompts_with_pictures_cannot_have(shared_engine: LlamaEngine, options: dict[str, Any]) -> None:
    picture = PlacedPicture(prompt=0, at=0, picture=PicturePart(file_of(CAT), "here"))
    with pytest.raises(Unsupported) as caught:
        ask(shared_engine, CompletionRequest(model="tiny", prompts=("a",), pictures=(picture,), **options))
    assert caught.value.fact("param") == "here"


def test_pictures_matter_and_the_same_one_says_the_same(shared_engine: LlamaEngine) -> None:
    cat, dog = answer(shared_engine, show(CAT, QUESTION)), answer(shared_engine, show(DOG, QUESTION))
    assert cat != dog
    assert answer(shared_engine, show(CAT, QUESTION)) == cat
    assert answer(shared_engine, show(DOG, QUESTION)) == dog
    assert answer(shared_engine, show(CAT, DOG, QUESTION)) != answer(shared_engine, show(DOG, CAT, QUESTION))
    assert answer(shared_engine, show(QUESTION)) not in (cat, dog)


def test_text_alone_is_answered_as_without_a_projector(files: Files, shared_engine: LlamaEngine) -> None:
    blind = load(files.model, slots=4)
    try:
        expected = answer(blind, show(QUESTION))
        with pytest.raises(Unsupported, match=r"mmproj") as refused:
            blind.submit(JobId("job"), show("a", CAT))
        assert refused.value.fact("param") == "messages[0].content[0].image_url"
        assert not blind.facts.sees
    finally:
        blind.close()
    answer(shared_engine, show(CAT, QUESTION))
    assert answer(shared_engine, show(QUESTION)) == expected
    assert shared_engine.facts.sees


def test_a_picture_in_a_cached_prompt_is_not_encoded_again(
    engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    encodings = count_encodings(engine, monkeypatch)
    first = ask(engine, show(CAT, QUESTION)).finished["job", 0].usage
    made = len(encodings)
    assert made > 0
    again = ask(engine, show(CAT, QUESTION)).finished["job", 0].usage
    assert first.cached_tokens == 0
    assert again.cached_tokens == again.prompt_tokens - 1 == first.prompt_tokens - 1
    longer = ask(engine, show(CAT, QUESTION + " and the tree")).finished["job", 0].usage
    assert longer.cached_tokens > longer.prompt_tokens - 40
    assert len(encodings) == made
    ask(engine, show("the same picture elsewhere ", CAT, QUESTION))
    assert len(encodings) == made, "its embeddings were at hand"
    other = ask(engine, show(DOG, QUESTION)).finished["job", 0].usage
    assert len(encodings) == 2 * made
    assert other.cached_tokens < 40, "another picture is never taken for this one"


def test_alone_equals_in_a_batch(files: Files, shared_engine: LlamaEngine) -> None:
    requests = [show(CAT, QUESTION), show("hello ", DOG), show(QUESTION), show(DOG, CAT), show("a", CAT, "b")]
    alone = []
    for request in requests:
        fresh = load(files.model, slots=4, mmproj=files.projector)
        alone.append(answer(fresh, request))
        fresh.close()
    for number, request in enumerate(requests):
        shared_engine.submit(JobId(f"j{number}"), request)
    collected = run(shared_engine)
    assert [collected.text(f"j{number}") for number in range(len(requests))] == alone


def slow_down(engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an encoding seem to take a minute."""
    encode = Sight.encode

    def encode_slowly(self: Sight, run: PictureRun) -> None:
        encode(self, run)
        engine._steps.served_at -= 60

    monkeypatch.setattr(Sight, "encode", encode_slowly)


def test_running_replies_go_on_between_pictures(engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    long = SamplingParams(temperature=0, max_tokens=400, ignore_eos=True)
    engine.submit(JobId("stream"), show(QUESTION, sampling=long))
    collected = run(engine, until=lambda seen: seen.tokens["stream", 0] > 3)
    engine.submit(JobId("seeing"), show(CAT, DOG, noise_image(40, 30, seed=3), QUESTION))
    before = collected.tokens["stream", 0]
    run(engine, until=lambda seen: "seeing" in seen.started, into=collected)
    assert collected.tokens["stream", 0] >= before + 2, "a token after each picture that was read"
    at_start = collected.tokens["stream", 0]
    slow_down(engine, monkeypatch)
    run(engine, until=lambda seen: seen.tokens["seeing", 0] > 0, into=collected)
    assert collected.tokens["stream", 0] >= at_start + 3, "a token after each picture that was encoded"
    run(engine, into=collected)
    assert not collected.errors


def test_small_steps_give_the_same(files: Files, shared_engine: LlamaEngine) -> None:
    small = load(files.model, slots=4, batch=8, mmproj=files.projector)
    try:
        request = show("see ", noise_image(100, 70, seed=5), QUESTION)
        assert answer(small, request) == answer(shared_engine, request)
    finally:
        small.close()


def test_several_answers_to_one_picture(shared_engine: LlamaEngine) -> None:
    request = show(CAT, QUESTION)
    many = ChatRequest(model="tiny", messages=request.messages, sampling=FREE, choices=3)
    collected = ask(shared_engine, many)
    assert len({collected.text("job", choice) for choice in range(3)}) == 1
    assert collected.text("job") == answer(shared_engine, request)


@pytest.mark.parametrize("mode", [CancelMode.ABANDON, CancelMode.STOP])
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 5, 6, 7])
def test_a_job_ends_at_any_moment(files: Files, mode: CancelMode, steps: int) -> None:
    engine = load(files.model, slots=2, batch=8, mmproj=files.projector)
    try:
        expected = answer(engine, show(CAT, QUESTION))
        request = show(noise_image(64, 64, seed=9), QUESTION)
        engine.submit(JobId("leaving"), request)
        collected = Collected()
        for _ in range(steps):
            collected.feed(engine.step())
        engine.cancel(JobId("leaving"), mode)
        run(engine, into=collected)
        assert collected.done == {"leaving"}
        assert answer(engine, show(CAT, QUESTION)) == expected
        whole = answer(engine, request)
        fresh = load(files.model, slots=2, batch=8, mmproj=files.projector)
        try:
            assert whole == answer(fresh, request)
        finally:
            fresh.close()
    finally:
        engine.close()


def test_penalties_and_constraints_do_not_stumble_over_pictures(shared_engine: LlamaEngine) -> None:
    params = SamplingParams(
        temperature=0.8,
        seed=5,
        max_tokens=24,
        ignore_eos=True,
        repeat_penalty=1.3,
        frequency_penalty=0.4,
        repeat_last_n=-1,
        dry_multiplier=0.8,
        mirostat=2,
    )
    first = answer(shared_engine, show(CAT, QUESTION, sampling=params))
    assert first == answer(shared_engine, show(CAT, QUESTION, sampling=params))


def test_guesses_never_hold_a_picture(files: Files) -> None:
    engine = load(files.model, slots=1, mmproj=files.projector, speculation=True)
    plain = load(files.model, slots=1, mmproj=files.projector)
    try:
        request = show("the big red dog ", CAT, "the big red dog ", CAT, "the big red dog")
        assert answer(engine, request) == answer(plain, request)
    finally:
        engine.close()
        plain.close()


BAD = {
    "text": b"this is a text, not a picture at all",
    "empty": b"",
    "truncated": file_of(noise_image(64, 64))[:2000],
    "bomb": png_of_size(30000, 30000),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'></svg>",
    "tiff": file_of(noise_image(8, 8), "TIFF"),
    "sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
    "video": b"\0\0\0\x18ftypmp42" + bytes(64),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_bad_pictures_are_refused_before_the_answer_begins(shared_engine: LlamaEngine, kind: str) -> None:
    collected = ask(shared_engine, show(CAT, BAD[kind], QUESTION))
    assert isinstance(collected.errors["job"], BadImage)
    assert collected.errors["job"].fact("param") == "messages[0].content[0].image_url"
    assert not collected.started
    assert answer(shared_engine, show(CAT, QUESTION))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (17, 33)])
def test_odd_shapes_are_seen_or_refused(shared_engine: LlamaEngine, size: tuple[int, int]) -> None:
    collected = ask(shared_engine, show(noise_image(*size), QUESTION))
    if collected.errors:
        assert isinstance(collected.errors["job"], BadImage)
    else:
        assert collected.text("job")


def test_other_files_of_pictures(shared_engine: LlamaEngine) -> None:
    expected = answer(shared_engine, show(CAT, QUESTION))
    assert answer(shared_engine, show(file_of(CAT, "WEBP", lossless=True), QUESTION)) == expected
    assert answer(shared_engine, show(file_of(CAT, "BMP"), QUESTION)) == expected
    turned = file_of(CAT.transpose(Image.Transpose.ROTATE_90), "PNG", exif=_turned_right())
    assert answer(shared_engine, show(turned, QUESTION)) == expected
    frames = [image.quantize(16) for image in (CAT, DOG)]
    moving = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    still = file_of(frames[0], "GIF")
    assert answer(shared_engine, show(moving, QUESTION)) == answer(shared_engine, show(still, QUESTION))
    clear = CAT.convert("RGBA")
    clear.putalpha(0)
    white = Image.new("RGB", CAT.size, (255, 255, 255))
    assert answer(shared_engine, show(clear, QUESTION)) == answer(shared_engine, show(white, QUESTION))


def _turned_right() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_signs_in_the_text_are_only_text(shared_engine: LlamaEngine) -> None:
    text = f"{MARK} <|vision_start|> <image> \U000f0001 {QUESTION}"
    assert answer(shared_engine, show(text)) != answer(shared_engine, show(CAT, text))


def test_too_much_is_refused(shared_engine: LlamaEngine) -> None:
    with pytest.raises(InvalidValue, match="64 pictures"):
        shared_engine.submit(JobId("job"), show(*[CAT] * 65))
    collected = ask(shared_engine, show(*[CAT] * 40, QUESTION * 40))
    assert isinstance(collected.errors["job"], ContextTooLong)


def test_counting_tokens(shared_engine: LlamaEngine) -> None:
    request = show("see ", CAT, QUESTION)
    shared_engine.submit(JobId("count"), TokenizeRequest(model="tiny", chat=request))
    (event, _) = shared_engine.step()
    told = event.event  # type: ignore[union-attr]
    assert isinstance(told, Tokenized)
    assert len(told.tokens) == ask(shared_engine, request).finished["job", 0].usage.prompt_tokens
    assert MARK in told.text and QUESTION in told.text
    assert any(token < 0 for token in told.tokens)
    with pytest.raises(BadImage):
        shared_engine.submit(JobId("bad"), TokenizeRequest(model="tiny", chat=show(b"nothing")))


def test_projectors_that_do_not_fit(files: Files, tmp_path: Path) -> None:
    other = tiny_llava(tmp_path / "mmproj-other.gguf", width=64)
    with pytest.raises(LoadFailed, match=r"mmproj-other\.gguf.*mismatch.*'none'"):
        load(files.model, slots=1, mmproj=other)
    with pytest.raises(LoadFailed, match="no projector"):
        load(files.model, slots=1, mmproj=tmp_path / "gone.gguf")
    with pytest.raises(LoadFailed, match="cannot be loaded"):
        load(files.model, slots=1, mmproj=files.model)


def test_scopes_do_not_share_pictures(engine: LlamaEngine) -> None:
    ask(engine, show(CAT, QUESTION, scope="a"))
    assert ask(engine, show(CAT, QUESTION, scope="b")).finished["job", 0].usage.cached_tokens == 0
