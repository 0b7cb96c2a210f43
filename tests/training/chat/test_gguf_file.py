"""The file that is written is the network that was trained: llama.cpp makes the same tokens and logits of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny_models import needs_llama

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")

from training.chat import tokeniser  # noqa: E402
from training.chat.chatml import written  # noqa: E402
from training.chat.dialogues import Dialogues  # noqa: E402
from training.chat.facts import Facts  # noqa: E402
from training.chat.gguf_file import BLOCK, quantised, write  # noqa: E402
from training.chat.network import Network, Shape  # noqa: E402
from training.chat.topics import read_topics  # noqa: E402

pytestmark = [pytest.mark.llama, pytest.mark.torch, needs_llama]

SHAPE = Shape(vocabulary=600, width=64, blocks=2, heads=4, kv_heads=2, hidden=96, context=128)


def texts() -> list[str]:
    drawn = iter(Dialogues(read_topics(Facts(parameters=2.1)), [], seed=11))
    return ["".join(part for part, _ in written(*next(drawn))) for _ in range(300)]


def restored(packed: bytes, shape: tuple[int, ...]) -> np.ndarray:
    blocks = np.frombuffer(packed, dtype=[("scale", "<f2"), ("whole", "i1", BLOCK)])
    return (blocks["scale"].astype(np.float32)[:, None] * blocks["whole"]).reshape(shape)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any, Any]]:
    import llama_cpp

    torch.manual_seed(1)
    tokenizer = tokeniser.train(texts(), SHAPE.vocabulary)
    network = Network(SHAPE)
    weights = {name: value.detach() for name, value in network.named_parameters()}
    file: Path = tmp_path_factory.mktemp("made") / "made.gguf"
    write(file, weights, tokenizer, SHAPE)
    with torch.no_grad():
        for value in weights.values():
            if value.ndim == 2:
                value.copy_(torch.from_numpy(restored(quantised(value.numpy()), tuple(value.shape))))
    model = llama_cpp.Llama(str(file), n_ctx=128, logits_all=True, verbose=False, n_threads=1)
    yield network, tokenizer, model
    model.close()


def test_tokens(made: tuple[Any, Any, Any]) -> None:
    _, tokenizer, model = made
    odd = [
        'a_b-c/d.e `x` {"y": 12}\n\n  z ',
        "I'LL don't we're",
        "Привет, как 猫🙂\t naïve",
        "   ",
        "\r\n \r\n a  b",
        "1234567 ²½",
    ]
    for text in [*texts()[:100], *odd]:
        assert model.tokenize(text.encode(), add_bos=False, special=True) == tokenizer.encode(text).ids, text


def test_logits(made: tuple[Any, Any, Any]) -> None:
    network, tokenizer, model = made
    ids = tokenizer.encode("<|im_start|>user\nHow do I pull a model?<|im_end|>\n<|im_start|>assistant\n").ids
    model.reset()
    model.eval(ids)
    told = np.array(model.scores[: len(ids)])
    with torch.no_grad():
        every = torch.ones(1, len(ids), dtype=torch.bool)
        ours = network(torch.tensor([ids]), every).numpy()
    # llama.cpp quantises activations to eight bits, too.
    assert np.abs(told - ours).max() < 0.05 * np.abs(ours).max()
    assert np.corrcoef(told.ravel(), ours.ravel())[0, 1] > 0.999


def test_rounding_is_within_half_a_step() -> None:
    matrix = np.random.default_rng(3).normal(size=(4, 96)).astype(np.float32)
    matrix[0, :BLOCK] = 0
    back = restored(quantised(matrix), matrix.shape)
    steps = np.abs(matrix.reshape(-1, BLOCK)).max(axis=1, keepdims=True) / 127
    assert (np.abs(back - matrix).reshape(-1, BLOCK) <= 0.6 * steps).all()
