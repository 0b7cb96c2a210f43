"""Models of 2023 on real llama.cpp: what the programs of their day said, and equal weights in today's files."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.core.models import ModelCard, ModelKind, TextSettings
from server.registry.catalog import Catalog
from server.registry.hashes import HashCache
from tests.support.ggml_writer import (
    F16,
    F32,
    GGJT1,
    GGJT2,
    GGJT3,
    GGMF,
    GGML,
    Q4_0,
    Q4_1,
    Q4_2,
    Q4_3,
    Q5_0,
    Q5_1,
    Q8_0,
    ROWS,
    Era,
    entries,
    tiny_weights,
    write_ggml,
)
from tests.support.gguf_writer import BOOL, STRING, U32, gguf
from tests.support.gguf_writer import F32 as FLOAT
from tests.support.shared import SHARED, needs_shared
from tests.support.tiny_gguf import BYTE, CONTROL_TOKENS, NORMAL, UNKNOWN, sentence_piece_values, sentence_pieces

pytest.importorskip("llama_cpp")

import llama_cpp

from server.engines.text.legacy.ready import ready_file
from server.engines.text.llama_cpp import LlamaLoader
from tests.support.ggml_values import gguf_values
from tests.support.llama_engine import ask, chat, completion, load

pytestmark = pytest.mark.llama

GOLDEN = SHARED / "golden" / "legacy-ggml"
FILES: list[dict[str, Any]] = json.loads((GOLDEN / "manifest.json").read_text())["files"] if GOLDEN.exists() else []
STORIES = SHARED / "models" / "stories260K.gguf"
PROMPT = (1, 300, 312, 275, 290, 301)
STEPS = 12


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    made = llama_cpp.Llama(
        model_path=str(path), n_ctx=256, n_threads=1, n_threads_batch=1, logits_all=True, flash_attn=True, verbose=False
    )
    try:
        yield made
    finally:
        made.close()


def continued(path: Path, prompt: Sequence[int], steps: int) -> tuple[list[int], np.ndarray]:
    """Return the greedy continuation of a prompt, past any end of the text, and the logits before each token."""
    rows = []
    tokens: list[int] = []
    with opened(path) as llama:
        llama.eval(list(prompt))
        for _ in range(steps):
            row = np.array(llama.scores[llama.n_tokens - 1])
            rows.append(row)
            tokens.append(int(row.argmax()))
            llama.eval(tokens[-1:])
    return tokens, np.array(rows)


def card_of(folder: Path, name: str, converted: Path) -> ModelCard:
    catalog = Catalog([folder.parent], hashes=HashCache(), converted=converted)
    catalog.scan()
    return catalog.find(name, ModelKind.TEXT)


def told(path: Path) -> tuple[int, list[tuple[str, float, int]]]:
    """Return the heads of a model of today, and texts, scores and kinds of its tokens."""
    with opened(path) as llama:
        vocab = llama_cpp.llama_model_get_vocab(llama.model)
        count = int(llama_cpp.llama_vocab_n_tokens(vocab))
        texts = [llama_cpp.llama_vocab_get_text(vocab, token).decode() for token in range(count)]
        scores = [float(llama_cpp.llama_vocab_get_score(vocab, token)) for token in range(count)]
        heads = int(llama_cpp.llama_model_n_head(llama.model))
    kinds = [UNKNOWN if not token else BYTE if 3 <= token < 259 else NORMAL for token in range(count)]
    return heads, list(zip(texts, scores, kinds, strict=True))


def made(path: Path) -> Path:
    """Return the GGUF file that a model of 2023 becomes."""
    card = card_of(path.parent, path.name, path.parent.parent / "converted")
    assert card.broken is None
    return ready_file(card, lambda _: None)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of text models in a models folder."""
    (tmp_path / "text").mkdir()
    return tmp_path / "text"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "text"
    folder.mkdir()
    for file in GOLDEN.glob("*.bin*"):
        (folder / file.name).symlink_to(file)
    return folder


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("file", FILES, ids=lambda file: file["file"])
def test_the_programs_of_their_day_said_the_same(file: dict[str, Any], recorded: Path) -> None:
    path = made(recorded / file["file"])
    allowed = 0.3 if file["hparams"]["n_embd"] == 64 else 0.45
    for case in file["cases"]:
        tokens, logits = continued(path, case["prompt"], len(case["greedy"]))
        assert tokens == case["greedy"]
        if "logits_first" in case:
            assert np.sqrt(np.mean((logits[0] - case["logits_first"]) ** 2)) < allowed
        for row, best in zip(logits, case["top5_each"], strict=True):
            assert np.abs([row[token] - value for token, value in best]).max() < 5 * allowed


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("file", [each for each in FILES if each["tokenize_no_space_prefix"]], ids=lambda f: f["file"])
def test_texts_become_the_tokens_of_then(file: dict[str, Any], recorded: Path) -> None:
    with opened(made(recorded / file["file"])) as llama:
        for case in file["tokenize_no_space_prefix"]:
            # The library puts the space in front that the text has here.
            if case["text"].startswith(" "):
                assert llama.tokenize(case["text"][1:].encode(), add_bos=True) == case["ids"], case["text"]


@needs_shared
@pytest.mark.golden
def test_the_epsilon_of_the_settings_is_used(recorded: Path) -> None:
    (case, *_) = next(file for file in FILES if "eps" in file["file"])["cases"]
    card = card_of(recorded, "ggjt1-f16-eps.bin", recorded.parent / "converted")
    texts = {}
    for epsilon in (0.0, 1e-6, 1e-5):
        settings = TextSettings(threads=1, slots=1, context=128, norm_epsilon=epsilon, speculation=False)
        engine = LlamaLoader().load(card, settings, lambda _: None)
        collected = ask(engine, completion(tuple(case["prompt"])))
        engine.close()
        texts[epsilon] = collected.text("job")
    assert texts[0.0] == texts[1e-6] != texts[1e-5]


def vocabulary() -> list[tuple[str, float, int]]:
    return [piece for piece in sentence_pieces() if piece[0] not in CONTROL_TOKENS]


def direct(path: Path, tensors: dict[str, np.ndarray], *, kv_heads: int, epsilon: float) -> Path:
    """Write today's file of these weights, in float32."""
    width = tensors["token_embd.weight"].shape[1]
    values = {
        "general.architecture": (STRING, "llama"),
        "llama.context_length": (U32, 2048),
        "llama.embedding_length": (U32, width),
        "llama.block_count": (U32, 2),
        "llama.feed_forward_length": (U32, tensors["blk.0.ffn_up.weight"].shape[0]),
        "llama.attention.head_count": (U32, 4),
        "llama.attention.head_count_kv": (U32, kv_heads),
        "llama.attention.layer_norm_rms_epsilon": (FLOAT, epsilon),
        "llama.rope.dimension_count": (U32, width // 4),
        **sentence_piece_values(vocabulary()),
        "tokenizer.ggml.add_eos_token": (BOOL, False),
    }
    path.write_bytes(gguf(values, {name: tensor.astype(np.float32) for name, tensor in tensors.items()}))
    return path


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("code", [F32, F16])
def test_whole_numbers_are_computed_as_from_a_file_of_today(folder: Path, code: int, kv_heads: int) -> None:
    """Shared keys are Llama 2's, which had another epsilon."""
    weights = tiny_weights(len(vocabulary()), kv_heads=kv_heads)
    old = write_ggml(folder / "old.bin", weights, entries(), heads=4, era=GGJT3, code=code)
    new = direct(folder / "new.gguf", old.values, kv_heads=kv_heads, epsilon=1e-6 if kv_heads == 4 else 1e-5)
    (text, logits), (wanted_text, wanted) = (continued(path, PROMPT, STEPS) for path in (made(old.path), new))
    assert text == wanted_text
    assert np.abs(logits - wanted).max() < (1e-6 if code == F32 else 0.05)


@pytest.mark.parametrize(
    ("era", "code"),
    [(era, code) for era in (GGML, ROWS, GGMF) for code in (Q4_0, Q4_1)]
    + [(GGJT1, code) for code in (Q4_0, Q4_1, Q4_2, Q4_3, Q5_0, Q5_1, Q8_0)]
    + [(era, code) for era in (GGJT2, GGJT3) for code in (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0)],
)
def test_every_layout_says_what_its_weights_say(folder: Path, era: Era, code: int) -> None:
    """The library rounds what it multiplies with quantised weights to 8 bits; so logits are near, not equal."""
    weights = tiny_weights(len(vocabulary()))
    old = write_ggml(folder / "old.bin", weights, entries(), heads=4, era=era, code=code)
    new = direct(folder / "new.gguf", old.values, kv_heads=4, epsilon=1e-6)
    _, logits = continued(made(old.path), PROMPT, 1)
    _, wanted = continued(new, PROMPT, 1)
    assert np.sqrt(np.mean((logits - wanted) ** 2)) < 0.1 * wanted.std()


@needs_shared
@pytest.mark.parametrize("era", [GGMF, GGJT1, GGJT3])
def test_a_real_model_tells_its_story(folder: Path, era: Era) -> None:
    """A trained model and its vocabulary in an old container, and the same in today's: equal words."""
    weights = gguf_values(STORIES)
    order = ["token_embd.weight", *(name for name in weights if name.startswith("blk.")), "output_norm.weight"]
    weights = {name: weights[name] for name in order} | {
        "output.weight": weights.get("output.weight", weights["token_embd.weight"])
    }
    heads, words = told(STORIES)
    old = write_ggml(folder / "stories.bin", weights, entries(words), heads=heads, era=era, code=F32)
    card = card_of(folder, "stories.bin", folder.parent / "converted")
    settings = TextSettings(threads=1, slots=1, context=256, speculation=False, norm_epsilon=1e-5)
    engine = LlamaLoader().load(card, settings, lambda _: None)
    story = ask(engine, completion("Once upon a time")).text("job")
    engine.close()
    reference = load(STORIES, slots=1, context=256)
    assert story == ask(reference, completion("Once upon a time")).text("job")
    reference.close()
    assert len(story) > 60 and old.path.exists()


def test_a_load_converts_once_and_tells_how_far_it_is(folder: Path) -> None:
    write_ggml(folder / "alpaca.bin", tiny_weights(len(vocabulary())), entries(), heads=4, era=GGJT1, code=Q4_0)
    card = card_of(folder, "alpaca.bin", folder.parent / "converted")
    settings = TextSettings(threads=1, slots=1, context=128)
    fractions: list[float] = []
    engine = LlamaLoader().load(card, settings, fractions.append)
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and any(0 < part < 0.8 for part in fractions)
    reply = ask(engine, chat(("user", "hello")))
    assert reply.done == {"job"}
    engine.close()
    (file,) = (folder.parent / "converted").iterdir()
    before = file.stat()
    LlamaLoader().load(card, settings, lambda _: None).close()
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
