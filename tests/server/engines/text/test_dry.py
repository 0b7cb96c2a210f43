import ctypes
from collections.abc import Iterator

import numpy as np
import pytest

llama_cpp = pytest.importorskip("llama_cpp")

from server.core.models import TextSettings  # noqa: E402
from server.engines.text.dry import BreakerTable, DryWindow  # noqa: E402
from server.engines.text.native import Model  # noqa: E402
from server.engines.text.native_log import LogTap  # noqa: E402
from server.engines.text.sampling_values import Dry  # noqa: E402
from server.engines.text.vocabulary import Vocabulary  # noqa: E402
from tests.support.tiny_gguf import tiny_gguf  # noqa: E402

pytestmark = pytest.mark.llama


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vocabulary]:
    log = LogTap()
    model = Model(tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf"), TextSettings(), lambda _: None, log)
    yield Vocabulary(model)
    model.close()
    log.close()


def native(vocabulary: Vocabulary, dry: Dry, tokens: list[int]) -> np.ndarray:
    """Return what llama.cpp's own sampler subtracts from each token after a text."""
    raw = [breaker.encode() for breaker in dry.breakers]
    sampler = llama_cpp.llama_sampler_init_dry(
        vocabulary._pointer,
        dry.multiplier,
        dry.base,
        dry.allowed,
        dry.last_n,
        (ctypes.c_char_p * len(raw))(*raw),
        len(raw),
    )
    for token in tokens:
        llama_cpp.llama_sampler_accept(sampler, token)
    data = (llama_cpp.llama_token_data * vocabulary.size)(
        *[llama_cpp.llama_token_data(i, 0.0, 0.0) for i in range(vocabulary.size)]
    )
    array = llama_cpp.llama_token_data_array(data=data, size=vocabulary.size, selected=-1, sorted=False)
    llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
    llama_cpp.llama_sampler_free(sampler)
    return np.array([array.data[i].logit for i in range(vocabulary.size)])


def ours(vocabulary: Vocabulary, dry: Dry, tokens: list[int]) -> np.ndarray:
    window = DryWindow(dry, BreakerTable(vocabulary).of(dry.breakers))
    window.extend(np.array(tokens[: len(tokens) // 2], np.int32))
    for token in tokens[len(tokens) // 2 :]:
        window.extend((token,))
    row = np.zeros(vocabulary.size, np.float32)
    window.apply(row)
    return row


def alphabet(vocabulary: Vocabulary) -> list[int]:
    """Return tokens of which texts are made: words, and pieces that breakers are part of."""
    text = "the dog: a\ncat * and the ball he the there xyz qrs (12) tuv wmn"
    return [int(token) for token in vocabulary.tokenise(text, special=False, room=99)]


def repetitive(text: list[int], random: np.random.Generator) -> list[int]:
    """Return a text in which most tokens are those that stood three places before."""
    for place in range(3, len(text)):
        if random.random() < 0.85:
            text[place] = text[place - 3]
    return text


@pytest.mark.parametrize(
    "dry",
    [
        Dry(multiplier=0.8),
        Dry(multiplier=0.8, allowed=0),
        Dry(multiplier=1.5, base=1.0, allowed=1, last_n=20),
        Dry(multiplier=1.0, base=3.0, last_n=7, breakers=()),
        Dry(multiplier=0.8, last_n=512, breakers=("the dog", "at")),
        Dry(multiplier=0.8, last_n=64, breakers=("he",)),
        Dry(multiplier=0.8, allowed=1, last_n=3),
    ],
)
@pytest.mark.parametrize("letters", [3, 8, 16])
def test_penalties_are_those_of_llama_cpp(vocabulary: Vocabulary, dry: Dry, letters: int) -> None:
    random = np.random.default_rng(letters)
    tokens = alphabet(vocabulary)
    random.shuffle(tokens)
    assert len(tokens) >= letters
    seen = 0
    for length in (0, 1, 3, 10, 63, 64, 65, 150):
        text = repetitive([tokens[i] for i in random.integers(0, letters, length)], random)
        expected = native(vocabulary, dry, text)
        seen += int((expected != 0).sum())
        np.testing.assert_allclose(ours(vocabulary, dry, text), expected, rtol=1e-4)
    assert seen, "nothing was penalised, so nothing was compared"


def test_a_long_repetition_stays_a_number(vocabulary: Vocabulary) -> None:
    dry = Dry(multiplier=1e6, base=1e6, last_n=300)
    row = ours(vocabulary, dry, [300] * 300)
    assert np.isfinite(row).all()
    assert row[300] < -1e30


def test_breakers_are_found_once(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    table = BreakerTable(vocabulary)
    first = table.of(("\n", ":"))
    monkeypatch.setattr(table, "_find", lambda _: pytest.fail("they were looked for again"))
    assert table.of(("\n", ":")) is first
